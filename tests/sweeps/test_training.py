"""A training that is interrupted goes on from its checkpoint, and gives the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inprocess import make

from search_spaces import architecture_names, get_architecture
from sweeps import records, training
from sweeps.candidate import Candidate, Training
from sweeps.course import CheckpointError
from sweeps.run_directory import RunDirectory
from sweeps.training import TrainingRun
from trace_core import Trace

# Those whose models need nothing but settings.
OWN = [name for name in architecture_names() if get_architecture(name).source is None]


def one(architecture: str = "mlp", optimizer: str = "sgd", **changes: Any) -> Training:
    settings = {
        name: each.default for name, each in get_architecture(architecture).settings.items()
    }
    fields = {
        "task": "digits",
        "architecture": architecture,
        "settings": settings,
        "init": "default",
        "optimizer": optimizer,
        "learning_rate": 0.01,
        "momentum": 0.9 if optimizer == "sgd" else 0.0,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "epochs": 2,
        "batch_size": 128,
        "dtype": "float32",
        "importance": "taylor",
        "every": 1,
        "histograms": 4,
    }
    return Training(Candidate(**(fields | changes)), 3)


def figures(run: RunDirectory, name: str) -> tuple[Any, Trace]:
    record = records.load(run, name)
    assert record is not None
    assert record.state == "COMPLETE", record.reason
    return (record.history, record.metric_test), Trace.load(run.trace(name))


@pytest.mark.parametrize("importance", ["synaptic_intelligence", "fisher", "ablation"])
def test_importances_that_take_more_than_the_gradient(tmp_path: Path, importance: str) -> None:
    plain, other = RunDirectory(tmp_path / "plain"), RunDirectory(tmp_path / "other")
    make(plain, one())
    make(other, one(importance=importance))
    (history, _), usual = figures(plain, one().training_id)
    (history_too, _), found = figures(other, one(importance=importance).training_id)
    assert history == history_too, "estimating disturbed the training"
    taken = found.explainability("gini")[found.histogram.observations]
    # At step 0 an ablation may well make nothing worse.
    assert np.isfinite(taken[1:]).all()
    assert np.isfinite(found.score())
    assert not np.allclose(taken, usual.explainability("gini")[found.histogram.observations])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("architecture", OWN)
def test_a_training_goes_on_from_its_checkpoint(
    tmp_path: Path, architecture: str, optimizer: str
) -> None:
    chosen = one(architecture, optimizer)
    whole, broken = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "broken")
    make(whole, chosen)
    begun = TrainingRun(chosen, broken.checkpoint(chosen.training_id))
    for _ in range(11):
        begun.advance(0.0)
    begun.save()
    begun.advance(0.0)
    make(broken, chosen)
    assert not broken.checkpoint(chosen.training_id).exists()
    expected, found = (figures(run, chosen.training_id) for run in (whole, broken))
    assert expected[0] == found[0]
    np.testing.assert_array_equal(expected[1].statistics, found[1].statistics)
    assert whole.trace(chosen.training_id).read_bytes() == (
        broken.trace(chosen.training_id).read_bytes()
    )


def test_slices_shorter_than_the_interval_leave_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.02)
    checkpoint = tmp_path / "checkpoint.pt"
    run = TrainingRun(one(epochs=30), checkpoint)
    while not checkpoint.exists() and not run.finished:
        run.advance(0.0)  # one step, so that none follows the checkpoint
    assert not run.finished
    assert TrainingRun(one(epochs=30), checkpoint).step == run.step


def test_a_checkpoint_that_is_none_is_left_aside(tmp_path: Path) -> None:
    chosen = one()
    run = RunDirectory(tmp_path)
    path = run.checkpoint(chosen.training_id)
    path.parent.mkdir()
    for content in (b"", b"not a checkpoint", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=str(path)):
            TrainingRun(chosen, path)
    make(run, chosen)
    assert figures(run, chosen.training_id)[0][0][-1]["epoch"] == 2


def test_code_that_changed_while_the_sweep_ran_is_a_failed_record(tmp_path: Path) -> None:
    from sweeps.worker import Worker

    Worker(tmp_path, one().to_json(), "another id", 0, "a").advance(1e9)
    record = json.loads((tmp_path / "traces" / "another id.json").read_text())
    assert record["state"] == "FAILED"
    assert "changed while the sweep ran" in record["reason"]


def test_a_training_is_a_function_of_candidate_and_seed_alone(tmp_path: Path) -> None:
    import torch

    first, second = RunDirectory(tmp_path / "first"), RunDirectory(tmp_path / "second")
    make(first, one())
    torch.manual_seed(99)
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    make(second, one())
    name = one().training_id
    assert first.trace(name).read_bytes() == second.trace(name).read_bytes()
