"""Replicates that train as one give what each gives alone, and those that can't train alone."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inprocess import ledger, make, prepared, work_off
from test_training import one

from sweeps import records, training
from sweeps.candidate import Training
from sweeps.course import CheckpointError, Course
from sweeps.group import Group
from sweeps.records import TrainingRecord
from sweeps.results import rank_run
from sweeps.run_directory import RunDirectory
from sweeps.stacking import ApartError, require_stackable
from sweeps.together import StackedRun
from sweeps.training import TrainingRun
from trace_core import Trace
from trace_core.storage import to_arrays

SEEDS = range(3)
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": 16, "depth": 1, "activation": "relu"},
    "cnn": {"channels": 2, "depth": 1},
    "transformer": {"width": 8, "depth": 1, "heads": 2},
}


def trainings(architecture: str = "mlp", **changes: Any) -> list[Training]:
    settings = SMALL.get(architecture, {})
    candidate = one(**{"epochs": 2, "settings": settings, **changes}).candidate
    return [Training(replace(candidate, architecture=architecture), seed) for seed in SEEDS]


def group(run: RunDirectory, made: list[Training]) -> Group:
    texts = [each.to_json() for each in made]
    return Group(run.path, texts, [each.training_id for each in made], 0, "a")


def stored(run: RunDirectory, made: list[Training]) -> list[TrainingRecord]:
    found = [records.load(run, each.training_id) for each in made]
    return [record for record in found if record is not None]


def assert_traces_alike(ours: Trace, theirs: Trace) -> None:
    assert ours.tensors == theirs.tensors
    for name in ours.tensors:
        # A softmax doesn't see a key's bias: its gradient is 0 but for rounding.
        if not name.endswith("key.bias"):
            assert_alike(ours.tensor(name), theirs.tensor(name))
    if not any(name.endswith("key.bias") for name in ours.tensors):
        assert_alike(ours, theirs)
    for kind in ("steadiness", "steadiness_raw", "magnitude", "directness"):
        assert ours.stability(kind) == pytest.approx(theirs.stability(kind), rel=1e-9)
    assert ours.score() == pytest.approx(theirs.score(), rel=1e-9)
    assert ours.score(reading="article") == pytest.approx(theirs.score(reading="article"), rel=1e-9)


def assert_alike(ours: Trace, theirs: Trace) -> None:
    expected = to_arrays(theirs)
    for name, array in to_arrays(ours).items():
        # What is 0 but for rounding may be anything beside the rest.
        scale = np.abs(expected[name][np.isfinite(expected[name])]).max(initial=0.0)
        rtol = 1e-6 if array.dtype == np.float32 else 1e-9
        np.testing.assert_allclose(
            array, expected[name], rtol=rtol, atol=1e-14 * scale, err_msg=name
        )


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("architecture", SMALL)
def test_each_is_what_it_is_alone(
    tmp_path: Path, architecture: str, optimizer: str, schedule: str
) -> None:
    made = trainings(
        architecture,
        optimizer=optimizer,
        momentum=0.9 if optimizer == "sgd" else 0.0,
        schedule=schedule,
        dtype="float64",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*performance drop.*")
        together = StackedRun(made, tmp_path / "checkpoint.pt")
        assert together.advance(1e9)
        members = together.members()
    for member, each in zip(members, made, strict=True):
        alone = TrainingRun(each, tmp_path / "none")
        alone.advance(1e9)
        assert not member.failed
        assert member.parameters == alone.parameters
        assert [entry.keys() for entry in member.history] == [e.keys() for e in alone.history]
        for ours, theirs in zip(member.history, alone.history, strict=True):
            for name, value in theirs.items():
                assert ours[name] == (value if value is None else pytest.approx(value, rel=1e-9))
        assert member.evaluate("test") == pytest.approx(alone.evaluate("test"), rel=1e-9)
        assert_traces_alike(member.trace(), alone.trace())


def test_a_group_stores_a_record_of_each(tmp_path: Path) -> None:
    run, made = RunDirectory(tmp_path), trainings()
    assert group(run, made).advance(1e9)
    found = stored(run, made)
    assert [record.seed for record in found] == list(SEEDS)
    assert {(record.state, record.together, record.apart) for record in found} == {
        ("COMPLETE", 3, "")
    }
    assert len({record.seconds for record in found}) == 1
    assert not list((tmp_path / "checkpoints").glob("*"))


@pytest.mark.parametrize(
    ("architecture", "changes", "reason"),
    [
        ("gru", {"settings": {"hidden": 4, "layers": 1}}, "gru"),
        ("cnn", {}, "convolution is no faster together"),
        ("transformer", {}, "PyTorch doesn't batch"),
        ("replicate_models:dropout", {}, "random"),
        ("replicate_models:unseen", {}, "another when it is batched"),
        ("replicate_models:branching", {}, "batched"),
        ("replicate_models:differing", {}, "batched"),
        ("mlp", {"settings": SMALL["mlp"] | {"hidden": 2048}}, "million operations"),
        ("mlp", {"importance": "fisher"}, "fisher"),
    ],
)
def test_what_cannot_train_together_trains_alone_and_says_so(
    tmp_path: Path, architecture: str, changes: dict[str, Any], reason: str
) -> None:
    made = trainings(architecture, epochs=1, batch_size=64, **changes)
    plain, grouped = RunDirectory(tmp_path / "plain"), RunDirectory(tmp_path / "grouped")
    assert group(grouped, made).advance(1e9)
    for record, each in zip(stored(grouped, made), made, strict=True):
        assert (record.state, record.together) == ("COMPLETE", 1)
        assert re.search(reason, record.apart), record.apart
        make(plain, each)
        name = each.training_id
        assert grouped.trace(name).read_bytes() == plain.trace(name).read_bytes()


@pytest.mark.parametrize("model", ["projected", "batchnorm", "counting"])
def test_a_users_model_that_can_trains_together(tmp_path: Path, model: str) -> None:
    # Of digits, some pixels never change: behind a normalisation their gradients are rounding.
    settings = {"task": "wine", "batch_size": 32, "dtype": "float64"}
    made = trainings(f"replicate_models:{model}", **settings)
    run, plain = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "plain")
    assert group(run, made).advance(1e9)
    assert [record.together for record in stored(run, made)] == [3] * 3
    for each in made:
        make(plain, each)
        name = each.training_id
        assert_traces_alike(Trace.load(run.trace(name)), Trace.load(plain.trace(name)))


def test_the_step_is_not_trusted_if_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.stacking import Stacked

    course = Course(trainings()[0].candidate)
    require_stackable(course, SEEDS)
    right = Stacked.step

    def wrong(stacked: Stacked, losses: Any) -> None:
        right(stacked, losses)
        for tensor in stacked.parameters.values():
            tensor.grad = tensor.grad * 1.01 if tensor.grad is not None else None

    monkeypatch.setattr(Stacked, "step", wrong)
    with pytest.raises(ApartError, match="gradient is another"):
        require_stackable(course, SEEDS)


def test_two_are_no_faster_together() -> None:
    with pytest.raises(ApartError, match="fewer than 3"):
        require_stackable(Course(trainings()[0].candidate), range(2))


def test_one_that_diverges_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    build = Course.build

    def poisoned(course: Course, seed: int) -> torch.nn.Module:
        model = build(course, seed)
        if seed == 1:
            with torch.no_grad():
                next(model.parameters()).fill_(1e19)
        return model

    made = trainings(learning_rate=0.3)
    whole, run, plain = (RunDirectory(tmp_path / name) for name in ("whole", "run", "plain"))
    group(whole, made).advance(1e9)
    monkeypatch.setattr(Course, "build", poisoned)
    group(run, made).advance(1e9)
    found = stored(run, made)
    assert [record.state for record in found] == ["COMPLETE", "FAILED", "COMPLETE"]
    assert [record.together for record in found] == [3] * 3
    make(plain, made[1])
    alone = stored(plain, made)[0]
    assert "diverged: the training loss is" in alone.reason
    assert "at step 0" not in alone.reason
    assert found[1].reason == alone.reason
    assert not run.trace(made[1].training_id).exists()
    for unharmed in (made[0], made[2]):
        name = unharmed.training_id
        assert run.trace(name).read_bytes() == whole.trace(name).read_bytes()


def test_where_all_diverge_none_goes_on(tmp_path: Path) -> None:
    run, made = RunDirectory(tmp_path), trainings(learning_rate=1e30, epochs=50)
    group(run, made).advance(1e9)
    reasons = [record.reason for record in stored(run, made)]
    assert all("diverged" in reason for reason in reasons)
    for each, reason in zip(made, reasons, strict=True):
        plain = RunDirectory(tmp_path / "plain")
        make(plain, each)
        assert [record.reason for record in stored(plain, [each])] == [reason]


def test_what_a_model_raises_later_is_each_ones_own(tmp_path: Path) -> None:
    run, made = RunDirectory(tmp_path), trainings("replicate_models:failing")
    group(run, made).advance(1e9)
    (record,) = stored(run, made)
    assert record.reason == "ValueError: nine is too many"
    assert "trained together, they failed" in record.apart


@pytest.mark.parametrize(
    ("architecture", "optimizer"),
    [("mlp", "sgd"), ("mlp", "adam"), ("replicate_models:batchnorm", "sgd")],
)
def test_an_interrupted_group_goes_on_to_the_same_bits(
    tmp_path: Path, architecture: str, optimizer: str
) -> None:
    whole, broken = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "broken")
    made = trainings(architecture, optimizer=optimizer)
    group(whole, made).advance(1e9)
    begun = group(broken, made)
    for _ in range(9):
        begun.advance(0.0)
    begun.save()
    begun.advance(0.0)
    # One was stored before the interruption, which leaves the others as they are.
    name = made[0].training_id
    kept = replace(stored(whole, made)[0], runner="earlier")
    records.save(broken, kept, Trace.load(whole.trace(name)))
    assert group(broken, made).advance(1e9)
    assert stored(broken, made)[0].runner == "earlier"
    for ours, theirs in zip(stored(broken, made), stored(whole, made), strict=True):
        assert (ours.history, ours.metric_test) == (theirs.history, theirs.metric_test)
    for each in made:
        name = each.training_id
        assert broken.trace(name).read_bytes() == whole.trace(name).read_bytes()


def test_long_slices_leave_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.02)
    checkpoint, made = tmp_path / "checkpoint.pt", trainings(epochs=40)
    run = StackedRun(made, checkpoint)
    while not checkpoint.exists() and not run.finished:
        run.advance(0.0)
    assert not run.finished
    assert StackedRun(made, checkpoint).step == run.step
    with pytest.raises(CheckpointError, match="seeds"):
        StackedRun(made[:2], checkpoint)


def test_a_checkpoint_that_is_none_is_left_aside(tmp_path: Path) -> None:
    run, made = RunDirectory(tmp_path), trainings()
    path = run.checkpoint(f"{made[0].training_id}-and-2")
    path.parent.mkdir()
    path.write_bytes(b"not a checkpoint")
    group(run, made).advance(1e9)
    assert [record.together for record in stored(run, made)] == [3] * 3


def test_a_sweep_gives_what_it_gives_one_by_one(tmp_path: Path) -> None:
    settings = {"replicates": 4, "trials": 10, "dtype": "float64"}
    results = {}
    for name, together in (("together", True), ("apart", False)):
        run, config = prepared(tmp_path / name, replicates_together=together, **settings)
        work_off(run, config)
        results[name] = ledger(run, config), rank_run(run), run
        found = [
            records.load(run, path.stem) for path in (tmp_path / name / "traces").glob("*.json")
        ]
        assert {record.together for record in found if record} == {4 if together else 1}
    (ours, ranked, run), (theirs, ranked_apart, _) = results["together"], results["apart"]
    same = ["state", "reason", "model_id", "alpha", "parameters", "replayed", "trainings"]
    assert ours[same].equals(theirs[same])
    values = [name for name in ours if name.startswith("value_")]
    np.testing.assert_allclose(ours[values], theirs[values], rtol=1e-9)
    assert ranked.ranking.frame["model_id"].tolist() == (
        ranked_apart.ranking.frame["model_id"].tolist()
    )
    numbers = ranked.ranking.frame.select_dtypes("number")
    np.testing.assert_allclose(
        numbers, ranked_apart.ranking.frame[numbers.columns], rtol=1e-6, atol=1e-9
    )


def test_a_group_of_which_some_are_stored_is_made_again_for_the_rest(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", replicates=3, trials=2)
    work_off(run, config)
    before = {path.name: path.read_bytes() for path in (run.path / "traces").glob("*.npz")}
    gone = sorted(before)[0]
    (run.path / "traces" / gone).unlink()
    from inprocess import conductor, make_all

    conducting = conductor(run, config)
    for trial in conducting.study.trials():
        conducting.restore(trial)
    work = conducting.next("b")
    assert work is not None
    make_all(run, work, "b")
    conducting.ended("b")
    assert conducting.complete
    assert conducting.progress.trained == 1
    assert {p.name: p.read_bytes() for p in (run.path / "traces").glob("*.npz")} == before
