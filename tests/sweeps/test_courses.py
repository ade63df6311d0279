"""What a training goes by: a budget in steps, learning rates by parameter, precision, its data."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inprocess import make, small
from test_training import figures, one

import sweeps
from search_spaces import Part, get_task
from sweeps import data, records
from sweeps.candidate import Training
from sweeps.config import ConfigError, SweepConfig
from sweeps.course import Course
from sweeps.run_directory import RunDirectory
from sweeps.training import TrainingRun

BATCHES = 9
"""Of 128 examples in an epoch of digits."""


def by_steps(steps: int, evaluations: int, **changes: Any) -> Training:
    return one(epochs=0, steps=steps, evaluations=evaluations, **changes)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_shared", {})


# ---- steps


def test_steps_of_whole_epochs_are_the_same_training(tmp_path: Path) -> None:
    epochs, steps = RunDirectory(tmp_path / "epochs"), RunDirectory(tmp_path / "steps")
    make(epochs, one())
    counted = by_steps(2 * BATCHES, 2)
    make(steps, counted)
    ours, theirs = figures(steps, counted.training_id), figures(epochs, one().training_id)
    assert ours[0] == theirs[0]
    assert np.array_equal(ours[1].statistics, theirs[1].statistics)


@pytest.mark.parametrize(("steps", "evaluations"), [(13, 3), (20, 7), (5, 5), (31, 1)])
def test_evaluations_lie_evenly_between_the_steps(
    tmp_path: Path, steps: int, evaluations: int
) -> None:
    run = RunDirectory(tmp_path)
    chosen = by_steps(steps, evaluations)
    make(run, chosen)
    (history, _), trace = figures(run, chosen.training_id)
    at = [entry["step"] for entry in history]
    assert (at[0], at[-1], len(at), len(trace)) == (0, steps, evaluations + 1, steps)
    assert max(np.diff(at)) - min(np.diff(at)) <= 1
    assert [entry["epoch"] for entry in history] == list(range(evaluations + 1))


def test_a_training_in_steps_goes_on_in_the_middle_of_an_evaluation(tmp_path: Path) -> None:
    chosen = by_steps(20, 3)
    whole, broken = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "broken")
    make(whole, chosen)
    begun = TrainingRun(chosen, broken.checkpoint(chosen.training_id))
    for _ in range(8):
        begun.advance(0.0)
    begun.save()
    make(broken, chosen)
    ours, theirs = figures(broken, chosen.training_id), figures(whole, chosen.training_id)
    assert ours[0] == theirs[0]
    assert np.array_equal(ours[1].statistics, theirs[1].statistics)


@pytest.mark.parametrize(("steps", "examples"), [(9, 1078), (3, 384), (12, 1078 + 384)])
def test_examples_are_counted_as_they_are_seen(steps: int, examples: int) -> None:
    assert Course(by_steps(steps, 1).candidate).examples == examples


BUDGETS: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 32}, "budget.epochs: missing; must be an integer of at least 1"),
    ({"steps": 0, "batch_size": 32}, "budget.steps: got 0; must be an integer of at least 1"),
    (
        {"steps": 9, "epochs": 2, "batch_size": 32},
        "budget.steps: stands in place of epochs, not beside them",
    ),
    (
        {"steps": 9, "evaluations": 10, "batch_size": 32},
        "budget.evaluations: got 10; must be at most the steps, 9",
    ),
    (
        {"epochs": 9, "evaluations": 3, "batch_size": 32},
        "budget.evaluations: got 3; epochs have one each: it stands beside steps alone",
    ),
    ({"steps": 7, "batch_size": 32}, "budget.steps: got 7; observed every 1 they give 7"),
]


@pytest.mark.parametrize(("budget", "message"), BUDGETS)
def test_budgets_that_are_no_budgets(budget: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SweepConfig.from_dict(small(budget=budget))
    assert message in str(caught.value)
    assert str(caught.value).count("budget.") == 1


def test_epochs_cannot_vary_beside_steps() -> None:
    given = small(budget={"steps": 20, "batch_size": 32})
    given["space"]["epochs"] = [1, 2]
    with pytest.raises(ConfigError, match=r"space.epochs: stands beside budget.steps"):
        SweepConfig.from_dict(given)


def test_a_budget_in_steps_is_kept_as_it_is_meant() -> None:
    config = SweepConfig.from_dict(small(budget={"steps": 20, "batch_size": 32}))
    assert config.resolved()["budget"] == {"steps": 20, "evaluations": 10, "batch_size": 32}
    assert SweepConfig.from_dict(config.resolved()).resolved() == config.resolved()


@pytest.mark.slow
def test_a_sweep_in_steps_is_pruned_by_its_evaluations(tmp_path: Path) -> None:
    given = small(
        budget={"steps": 40, "evaluations": 8, "batch_size": 32},
        pruner={"name": "asha", "grace": 1, "reduction": 2},
        trials=12,
    )
    given["space"]["learning_rate"] = {"float": [1e-4, 1.0], "log": True}
    done = sweeps.run(given, out=tmp_path / "run", workers=1, progress=False)
    states = done.trials["state"]
    assert (states == "PRUNED").any()
    assert (states == "COMPLETE").any()
    reasons = done.trials.loc[states == "PRUNED", "reason"]
    assert reasons.str.contains(r"pruned after \d of 8 evaluations, at accuracy").all()


# ---- learning rates


def scaled(**changes: Any) -> Training:
    return one(architecture="scaled_models:build", **changes)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_each_parameter_has_the_learning_rate_that_its_model_tells(
    tmp_path: Path, optimizer: str
) -> None:
    run = TrainingRun(
        scaled(optimizer=optimizer, weight_decay=0.0, momentum=0.0), tmp_path / "checkpoint.pt"
    )
    before = {name: each.detach().clone() for name, each in run.model.named_parameters()}
    run.advance(0.0)
    after = dict(run.model.named_parameters())
    assert torch.equal(before["backbone.bias"], after["backbone.bias"])
    if optimizer == "sgd":
        gradient = after["backbone.weight"].grad
        assert gradient is not None
        torch.testing.assert_close(
            before["backbone.weight"] - 0.25 * 0.01 * gradient, after["backbone.weight"]
        )
    rates = dict(zip(run.trace().tensors, run.trace().learning_rates[0], strict=True))
    assert rates["head.weight"] == 0.01
    assert rates["backbone.weight"] == 0.0025
    assert rates["backbone.bias"] == 0.0


def test_stacked_models_have_them_too(tmp_path: Path) -> None:
    from sweeps.together import StackedRun

    seeds = [dataclasses.replace(scaled(), seed=seed) for seed in range(3)]
    together = StackedRun(seeds, tmp_path / "together.pt")
    together.advance(1e9)
    for seed, trace in zip(seeds, together.traces(), strict=True):
        alone = TrainingRun(seed, tmp_path / f"{seed.seed}.pt")
        alone.advance(1e9)
        np.testing.assert_array_equal(trace.learning_rates, alone.trace().learning_rates)
        np.testing.assert_allclose(
            trace.change_rate(), alone.trace().change_rate(), rtol=1e-3, atol=1e-9
        )


def test_an_initialisation_draws_what_is_new() -> None:
    plain, drawn = (
        Course(scaled(init=name).candidate).build(0) for name in ("default", "orthogonal")
    )
    tensors = zip(plain.named_parameters(), drawn.named_parameters(), strict=True)
    same = {name for (name, one), (_, other) in tensors if torch.equal(one, other)}
    assert same == {"backbone.weight", "backbone.bias"}


# ---- precision


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32(tmp_path: Path) -> None:
    plain, mixed = one(), one(dtype="mixed_bfloat16")
    assert plain.training_id != mixed.training_id
    runs = [
        TrainingRun(each, tmp_path / f"{number}.pt") for number, each in enumerate((plain, mixed))
    ]
    computed = []
    runs[1].model.register_forward_hook(lambda *call: computed.append(call[-1].dtype))
    for run in runs:
        run.advance(1e9)
    assert set(computed) == {torch.bfloat16}
    assert all(each.dtype == torch.float32 for each in runs[1].model.parameters())
    losses = [run.history[-1]["train_loss"] for run in runs]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


# ---- data


def of_pictures(**changes: Any) -> Training:
    return one(architecture="scaled_models:build", task="scaled_models:pictures", **changes)


def test_pixels_are_given_standardised_and_stay_as_they_are() -> None:
    course = Course(of_pictures().candidate)
    task = get_task("scaled_models:pictures")
    pixels = task.data().train.inputs
    inputs, targets = course.batch(torch.arange(5))
    expected = (pixels[:5].astype(np.float64) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(inputs.double(), expected, atol=1e-6)
    assert targets.tolist() == task.data().train.targets[:5].tolist()
    before = pixels.copy()
    course.outputs(course.build(0), "validation")
    assert np.array_equal(before, pixels)


def frozen(part: Part) -> Part:
    for array in (part.inputs, part.targets):
        array.setflags(write=False)
    return part


@pytest.mark.parametrize("chosen", [of_pictures(), scaled()])
def test_data_that_cannot_be_written_is_read_all_the_same(tmp_path: Path, chosen: Training) -> None:
    # The model changes its inputs in place: it must never get the data itself.
    plain, other = RunDirectory(tmp_path / "plain"), RunDirectory(tmp_path / "other")
    make(plain, chosen)
    splits = get_task(chosen.candidate.task).data()
    for part in (splits.train, splits.validation, splits.test):
        frozen(part)
    make(other, chosen)
    assert figures(plain, chosen.training_id)[0] == figures(other, chosen.training_id)[0]


def test_shared_data_is_taken_in_place_of_the_task_s_own() -> None:
    candidate = of_pictures().candidate
    own = data.prepared_for(candidate)
    (key,) = data.prepare_all(config_of_pictures())
    other = data.Prepared(own.task, own.splits, 0.125)
    data.share({key: other})
    assert data.prepared_for(candidate) is other
    assert Course(candidate).baseline == 0.125


def config_of_pictures(**changes: Any) -> SweepConfig:
    given = small(task="scaled_models:pictures", trials=2, replicates=2, **changes)
    given["space"] |= {"architecture": ["scaled_models:build"], "learning_rate": [0.1, 0.2]}
    given["budget"] = {"steps": 10, "evaluations": 2, "batch_size": 16}
    return SweepConfig.from_dict(given)


def test_data_of_no_file_is_not_shared() -> None:
    assert data.prepare_all(SweepConfig.from_dict(small())) == {}


@pytest.mark.slow
def test_workers_share_the_data_through_the_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_by = tmp_path / "read-by"
    monkeypatch.setenv("PICTURES_READ_BY", str(read_by))
    monkeypatch.chdir(Path(__file__).parent)
    config = config_of_pictures(replicates_together=False)
    done = sweeps.run(config, out=tmp_path / "run", workers=2, progress=False)
    assert (done.trials["state"] == "COMPLETE").all(), done.trials["reason"].tolist()
    assert set(read_by.read_text().split()) <= {str(os.getpid())}, "a worker read it for itself"
    workers = RunDirectory(tmp_path / "run")
    for path in workers.traces.glob("*.json"):
        candidate = of_pictures().candidate
        record = records.load(workers, path.stem)
        assert record is not None
        trial = done.trials.set_index("trial").loc[record.trial]
        assert record.baseline == get_task(candidate.task).baseline()
        assert trial["model_id"] == record.model_id
