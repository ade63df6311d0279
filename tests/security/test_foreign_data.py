"""Run directories and checkpoints of others are data: whoever looks at them runs nothing of theirs.

Once by what the code that reads them calls, and once by looking at hostile ones in every way there
is, in a process that notes what is run.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile import BOMBS, HIT, MODULE, MODULE_TEXT, module_bomb, tensor_bomb
from inprocess import conductor, make_all, prepared, small, work_off

from sweeps.config import load_config
from sweeps.config_messages import ConfigError
from sweeps.results import report_run
from sweeps.run_directory import RunDirectory, RunDirectoryError

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("trace_core", "search_spaces", "sweeps")

LOOKING = (
    *("sweeps.results", "sweeps.report", "sweeps.handle", "sweeps.decisions", "sweeps.live"),
    *("sweeps.review.server", "sweeps.listing", "sweeps.cli_score", "sweeps.series_scores"),
    *("sweeps.report.checkpoints", "trace_core.checkpoints", "sweeps.jobs.fetch"),
)
"""What people look at others' work with, and whatever is called doctor."""

RUNS_CODE = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"),
    *("code", "runpy", "subprocess"),
}
ALLOWED = {
    ("trace_core.checkpoints.opened", "pickle"): {"UnpicklingError"},
    ("search_spaces.pretrained.weights", "pickle"): {"UnpicklingError"},
}
"""Errors, by the name of which a refusal is told."""
NAMES_MODULES = {
    # By constants of their own.
    *("sweeps", "sweeps.loggers.logbook"),
    *("search_spaces.pretrained.lora", "search_spaces.pretrained.timm_models"),
    # What `Space` and `SweepConfig` don't call for what is read as data; the second test tells.
    "search_spaces.plugins",
}


def modules() -> dict[str, ast.Module]:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): parsed(
            file
        )
        for file in files
    }


def parsed(file: Path) -> ast.Module:
    """A module without what stands in it for types alone."""
    tree = ast.parse(file.read_text())
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    return tree


def imported(tree: ast.AST) -> Iterator[str]:
    """What is imported, lazily or not; not for types alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reachable(known: dict[str, ast.Module]) -> set[str]:
    """What those modules import, lazily or not, with the packages that they are in."""
    todo = [*LOOKING, *(name for name in known if name.startswith("sweeps.doctor"))]
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name in known and name not in found:
            found.add(name)
            todo += [name.rpartition(".")[0], *imported(known[name])]
    return found


def keyword(call: ast.Call, name: str) -> Any:
    """The constant that is given by that name; an empty tuple for none."""
    given = [each.value for each in call.keywords if each.arg == name]
    return given[0].value if given and isinstance(given[0], ast.Constant) else ()


def faults(name: str, tree: ast.Module) -> Iterator[str]:
    """What in a module may run what it reads."""
    for node in ast.walk(tree):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            tops = {each.partition(".")[0] for each in imported(ast.Module([node], []))}
            for top in tops & RUNS_CODE:
                from_it = isinstance(node, ast.ImportFrom)
                allowed = ALLOWED.get((name, top), set())
                if from_it and {alias.name for alias in node.names} <= allowed:
                    continue
                if from_it or not allowed:
                    yield f"{where} imports {top}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            top = node.value.id
            if top in RUNS_CODE and node.attr not in ALLOWED.get((name, top), {node.attr}):
                yield f"{where} uses {top}.{node.attr}"
        elif isinstance(node, ast.Call):
            yield from (f"{where} calls {said}" for said in calls(name, node))


def calls(name: str, call: ast.Call) -> Iterator[str]:
    function = ast.unparse(call.func)
    last = function.rpartition(".")[2]
    if function in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
        yield function
    if last == "import_module" and name not in NAMES_MODULES:
        yield function
    if function == "torch.load" and keyword(call, "weights_only") is not True:
        yield "torch.load without weights_only=True"
    if keyword(call, "allow_pickle") not in (False, ()):
        yield f"{function} with allow_pickle"
    if function in ("np.load", "np.lib.format.read_array") and keyword(call, "allow_pickle") == ():
        yield f"{function} without allow_pickle=False"
    if last in ("unsafe_load", "full_load", "unsafe_load_all", "read_pickle", "load_pickle"):
        yield function
    if function in ("yaml.load", "yaml.load_all") and name != "sweeps.yaml_text":
        yield function


def test_what_looks_at_others_work_calls_nothing_that_could_run_it() -> None:
    known = modules()
    looking = reachable(known)
    assert {"sweeps.selection.storage", "sweeps.kept_scores", "trace_core.storage"} <= looking
    assert {"trace_core.checkpoints.opened", "sweeps.yaml_text"} <= looking
    assert "sweeps.isolation" not in looking
    found = [fault for name in sorted(looking) for fault in faults(name, known[name])]
    assert not found, found


def test_every_checkpoint_is_read_as_weights_alone() -> None:
    """Where models are trained, too: a checkpoint of a run directory is resumed from."""
    found = {
        name: [
            keyword(node, "weights_only")
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        ]
        for name, tree in modules().items()
    }
    assert {"sweeps.training", "sweeps.together"} & {name for name, each in found.items() if each}
    assert {each for every in found.values() for each in every} == {True}


def test_yaml_is_read_by_a_safe_loader() -> None:
    from sweeps import yaml_text

    assert issubclass(yaml_text._Loader, yaml.SafeLoader)
    assert not any("python" in str(tag) for tag in yaml_text._Loader.yaml_constructors)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load(file, weights_only=False)",
        "torch.load(file)",
        "np.load(file, allow_pickle=True)",
        "np.load(file)",
        "yaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
        "importlib.import_module(name)",
        "pd.read_pickle(file)",
    ],
)
def test_the_search_finds(text: str) -> None:
    assert list(faults("a", ast.parse(text)))


# ---- by looking


def look(folder: Path, *runs: str) -> tuple[list[str], dict[str, dict[str, str]]]:
    """What ran of it, and what became of each way of looking at each run."""
    script = Path(__file__).parent / "looking.py"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}"}
    done = subprocess.run(
        [sys.executable, script, folder, *runs],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seen"], answer["told"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a task and a model that are its user's code."""
    folder = tmp_path_factory.mktemp("foreign")
    file = folder / f"{MODULE}.py"
    file.write_text(MODULE_TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        space = small()["space"] | {"architecture": {f"{MODULE}:build": {"hidden": [3, 4]}}}
        run, config = prepared(folder / "run", trials=3, task=f"{MODULE}:make", space=space)
        work_off(run, config)
        sys.modules.pop(MODULE)
    file.unlink()
    report_run(run)
    run.checkpoint("a").parent.mkdir(exist_ok=True)
    return run.path


def copied(finished: Path, folder: Path, name: str) -> Path:
    """A copy of a finished run directory, to be made hostile."""
    return Path(shutil.copytree(finished, folder / name))


@pytest.mark.slow
def test_nothing_of_a_foreign_run_is_run(finished: Path, tmp_path: Path) -> None:
    """Each file in its turn, and all at once, hold what would run where it is read as something
    else; and the modules that are named are found wherever they could be: in the run directory,
    beside it, and on Python's path.
    """
    mark, folder = tmp_path / "hit", tmp_path / "runs"
    folder.mkdir()
    files = sorted(path.relative_to(finished) for path in finished.rglob("*.*"))
    # One training stands for all.
    one = {place.suffix if place.parent.name == "traces" else place.name: place for place in files}
    one.pop("driver.lock", None)
    for number, (kind, make) in enumerate(BOMBS.items()):
        for place in one.values():
            # A kind that is no file's own is tried on some.
            if kind == "a pickle" or place.name in ("sweep.yaml", "environment.json"):
                (copied(finished, folder, f"{number}-{place.name}") / place).write_bytes(make(mark))
        every = copied(finished, folder, f"{number}-all")
        for place in files:
            (every / place).write_bytes(make(mark))
    arrays = copied(finished, folder, "arrays")
    for path in arrays.rglob("*.npz"):
        path.write_bytes(BOMBS["arrays of objects"](mark))
    for suffix in (".pt", ".bin", ".ckpt", ".safetensors"):
        series = copied(finished, folder, f"series{suffix}") / "checkpoints"
        for number, make in enumerate(BOMBS.values()):
            (series / f"step-{number}{suffix}").write_bytes(make(mark))
    named = copied(finished, folder, "named")
    environment = json.loads((named / "environment.json").read_text()) | {"import_path": [".", ""]}
    environment["import_path"].append(str(named))
    environment.pop("sha256", None)
    (named / "environment.json").write_text(json.dumps(environment))
    for place in (named, folder):
        (place / f"{MODULE}.py").write_text(module_bomb(mark))
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    seen, told = look(folder, *names)
    assert seen == []
    assert not mark.exists()
    # And what is whole is read all the same.
    answers = told["named"]
    assert answers["report"] == answers["load"] == "done"
    assert answers["POST decisions"] == "201"
    for path in ("/", "/api/runs", "/runs/named/", "/api/runs/named/live", "/api/runs/named"):
        assert answers[f"GET {path}"] == "200", path
    assert json.loads((named / "report" / "ranking.json").read_text())["models"]
    for name in names:
        if name.startswith("series"):
            assert {v for k, v in told[name].items() if k.startswith("score")} == {"2"}


def test_the_watch_sees_a_bomb(tmp_path: Path) -> None:
    seen, _ = look(tmp_path, HIT)
    assert [each.split()[0] for each in seen] == ["pickle.find_class", "os.system"]
    assert (tmp_path / "hit").exists()


def test_a_module_that_a_sweep_names_is_a_bomb_to_who_resumes(
    finished: Path, tmp_path: Path
) -> None:
    """The bomb is one: whoever goes on with a sweep runs its code, as the documentation says."""
    run = RunDirectory(copied(finished, tmp_path, "run"))
    (run.path / f"{MODULE}.py").write_text(module_bomb(tmp_path / "hit"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(run.path)
        with pytest.raises(ConfigError):
            load_config(run.configuration)
        sys.modules.pop(MODULE)
    assert (tmp_path / "hit").exists()


def test_no_checkpoint_of_a_training_is_run(tmp_path: Path) -> None:
    """What `resume` goes on from: it begins anew instead."""
    run, config = prepared(tmp_path / "run", trials=1, replicates=1)
    conducting = conductor(run, config)
    conducting.adopt()
    work = conducting.next("a")
    assert work is not None
    run.checkpoint(work.ids[0]).parent.mkdir(exist_ok=True)
    run.checkpoint(work.ids[0]).write_bytes(tensor_bomb(tmp_path / "hit"))
    make_all(run, work)
    assert run.record(work.ids[0]).exists()
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/b", "a/", 7])
def test_an_id_of_a_foreign_study_leads_nowhere_else(tmp_path: Path, name: Any) -> None:
    run = RunDirectory(tmp_path)
    for of in (run.trace, run.record, run.checkpoint):
        with pytest.raises(RunDirectoryError, match="is no id of a training"):
            of(name)
