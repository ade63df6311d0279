"""What is told of trainings under way: cheap, harmless, and gone with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from inprocess import prepared

from search_spaces import Choice, Dimension
from sweeps import live
from sweeps.candidate import Candidate, Training
from sweeps.group import Group
from sweeps.live import live_trace, read_live
from sweeps.run_directory import RunDirectory
from sweeps.selection import Study, StudyReader, read_trials


def group(path: Path, replicates: int = 3, **changes: Any) -> tuple[RunDirectory, Group, list[str]]:
    """Trainings of one model, about to begin."""
    run, config = prepared(path, replicates=replicates, **changes)

    def lowest(_: str, dimension: Dimension) -> Any:
        return dimension.values[0] if isinstance(dimension, Choice) else dimension.low

    candidate, _ = Candidate.from_parameters(config, config.space.draw(lowest))
    trainings = [Training(candidate, seed) for seed in range(replicates)]
    ids = [training.training_id for training in trainings]
    texts = [training.to_json() for training in trainings]
    return run, Group(run.path, texts, ids, 3, "runner"), ids


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is told, whenever it is asked whether it is time."""
    monkeypatch.setattr(live, "SECONDS", 0.0)
    monkeypatch.setattr(live, "SHARE", float("inf"))


@pytest.mark.parametrize("replicates", [1, 3])
def test_a_training_that_is_told_of_is_the_same_bit_for_bit(
    tmp_path: Path, at_once: None, replicates: int
) -> None:
    """Taken in slices of a step, with its trace told after each, or in one go without."""
    run, watched, ids = group(tmp_path / "watched", replicates)
    told = 0
    while not watched.advance(0.0):
        told += len(read_live(run))
    assert told > 10
    alone, unwatched, _ = group(tmp_path / "alone", replicates)
    assert unwatched.advance(1e9)
    for training_id in ids:
        assert run.trace(training_id).read_bytes() == alone.trace(training_id).read_bytes()
        ours, theirs = (json.loads(each.record(training_id).read_text()) for each in (run, alone))
        assert ours["history"] == theirs["history"]


@pytest.mark.parametrize("replicates", [1, 3])
def test_it_tells_how_far_a_training_is(tmp_path: Path, at_once: None, replicates: int) -> None:
    run, training, ids = group(tmp_path / "run", replicates)
    for _ in range(9):
        training.advance(0.0)
    (told,) = read_live(run)
    assert (told.trial, told.training_ids, told.seeds) == (3, ids, list(range(replicates)))
    assert told.step == 9
    assert told.total_steps == 24
    assert [entry["step"] for entry in told.histories[0]] == [0, 4, 8]
    trace = live_trace(run, ids[-1])
    assert trace is not None
    assert len(trace.steps) == 9


def test_nothing_is_left_of_it_when_a_training_ends_or_is_put_by(
    tmp_path: Path, at_once: None
) -> None:
    run, training, _ = group(tmp_path / "run")
    training.advance(0.0)
    assert list(run.live.iterdir())
    training.save()
    assert not list(run.live.iterdir())
    while not training.advance(0.0):
        pass
    assert not list(run.live.iterdir())


def test_it_is_told_when_it_is_time_to_and_no_sooner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(live.time, "monotonic", lambda: next(clock) / 1000)
    monkeypatch.setattr(live, "SECONDS", 100.0)
    run, training, _ = group(tmp_path / "run", budget={"epochs": 200, "batch_size": 32})
    for _ in range(20):
        training.advance(0.0)
    assert read_live(run) == []
    clock = iter(range(101_000, 10**6))
    training.advance(0.0)
    assert [each.step for each in read_live(run)] == [21]


def test_what_cannot_be_written_or_read_does_no_harm(tmp_path: Path, at_once: None) -> None:
    run, training, ids = group(tmp_path / "run")
    run.live.write_text("in the way")
    assert not training.advance(0.0)
    run.live.unlink()
    training.advance(0.0)
    (run.live / f"{ids[0]}.json").write_text('{"trial": 3')
    (run.live / f"{ids[0]}.npz").write_bytes(b"PK half of an archive")
    (run.live / "other.json").write_text("[]")
    assert read_live(run) == []
    assert live_trace(run, ids[0]) is None
    assert training.advance(1e9)


@pytest.mark.parametrize(
    "changes",
    [
        {"training_ids": []},
        {"training_ids": ["../../other/traces/0123456789ab"]},
        {"training_ids": ["a\0b"]},
        {"training_ids": "abc"},
        {"trial": [3]},
        {"seconds": float("nan")},
        {"step": "<b>"},
        {"step": 10**400},
        {"seeds": None},
        {"seeds": ["\ud800"]},
        {"histories": None},
        {"histories": [[], []]},
        {"histories": [[{"train_loss": 1.0}]]},
        {"histories": [[{"step": "a"}, {"step": 1}]]},
        {"histories": [[{"step": 1, "metric": [1]}]]},
        {"histories": [[{"step": 1, "metric": 10**400}]]},
    ],
    ids=str,
)
def test_what_no_worker_tells_is_left_out(
    tmp_path: Path, at_once: None, changes: dict[str, Any]
) -> None:
    run, training, ids = group(tmp_path / "run", replicates=1)
    training.advance(0.0)
    path = run.live / f"{ids[0]}.json"
    told = json.loads(path.read_text())
    diverged = [[{"step": 1, "metric": None, "train_loss": float("nan")}]]
    path.write_text(json.dumps(told | {"histories": diverged}))
    assert len(read_live(run)) == 1
    path.write_text(json.dumps(told | changes))
    assert read_live(run) == []
    path.write_text("[" * 100_000)
    assert read_live(run) == []


def test_what_a_killed_worker_left_is_swept_out(tmp_path: Path, at_once: None) -> None:
    run, training, _ = group(tmp_path / "run")
    training.advance(0.0)
    run.sweep_out()
    assert list(run.live.iterdir()) == []


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_a_study_that_grows_is_read_as_it_is_from_the_start(tmp_path: Path, storage: str) -> None:
    place = {} if storage == "journal" else {"storage": f"sqlite:///{tmp_path}/studies.db"}
    run, config = prepared(tmp_path / "run", **place)
    reader = StudyReader(run)
    assert reader.trials() == []
    study = Study(run, config)
    for number in range(6):
        study.ask()
        study.flush()
        assert reader.trials() == read_trials(run)
        if number % 2:
            study.tell(number, [0.5, 0.5, 0.5], {"model": f"m{number}"})
        else:
            study.tell(number, None, {"reason": "it broke"})
        study.flush()
        assert reader.trials() == read_trials(run)
    reader.close()
    assert reader.trials() == read_trials(run)
