"""Hugging Face's Trainer, the real one, with a small BERT (dropout and all) made from a config."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from equality import assert_same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from trace_core import Trace, TraceError
from trace_core.integrations.huggingface import STATE_FILE, TRACE_FILE, TraceabilityCallback

STEPS = 12
VALUES = ("score", "steadiness", "change_rate_rms", "explainability_gini")


def rows(count: int = 96) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(3)
    words = torch.randint(0, 32, (count, 8), generator=generator)
    return [{"input_ids": row, "labels": int(row[0] > row[1])} for row in words]


def make_trainer(folder: Path, *callbacks: TrainerCallback, **changed: Any) -> Trainer:
    set_seed(0)
    config = BertConfig(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    settings = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_steps": STEPS,
        "learning_rate": 3e-3,
        "logging_steps": 3,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return Trainer(
        model=BertForSequenceClassification(config),
        args=TrainingArguments(str(folder), **(settings | changed)),
        train_dataset=rows(),
        callbacks=list(callbacks),
    )


def traced(
    folder: Path, settings: dict[str, Any] | None = None, resume: Any = None, **changed: Any
) -> tuple[Trainer, TraceabilityCallback]:
    trainer = make_trainer(folder, **changed)
    callback = TraceabilityCallback(trainer, **(settings or {}))
    trainer.train(resume_from_checkpoint=resume)
    return trainer, callback


def logged(trainer: Trainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def test_training_is_bitwise_the_same_with_the_callback(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path / "plain")
    plain.train()
    random = torch.get_rng_state()
    watched, _ = traced(tmp_path / "watched")
    assert torch.equal(torch.get_rng_state(), random)
    for name in ("loss", "grad_norm"):
        assert logged(watched, name) == logged(plain, name)
    expected, found = plain.model.state_dict(), watched.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


class Snapshots(TrainerCallback):
    """The parameters around each step of the optimiser, and its gradients."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.masses: list[float] = []

    def on_pre_optimizer_step(self, *_: Any, model: nn.Module, **__: Any) -> None:
        self.before = [parameter.detach().double().clone() for parameter in model.parameters()]

    def on_optimizer_step(self, *_: Any, model: nn.Module, **__: Any) -> None:
        # A parameter that has no gradient (none of BERT's here) would not count.
        after = [parameter.detach().double() for parameter in model.parameters()]
        moved = sum(float(((b - a) ** 2).sum()) for a, b in zip(self.before, after, strict=True))
        self.rates.append((moved / sum(float((a**2).sum()) for a in self.before)) ** 0.5)
        mass = [
            (a * parameter.grad.double()).abs().sum()
            for a, parameter in zip(self.before, model.parameters(), strict=True)
        ]
        self.masses.append(float(sum(mass)))


def test_a_step_is_the_optimisers_whatever_is_accumulated(tmp_path: Path) -> None:
    snapshots = Snapshots()
    trainer = make_trainer(tmp_path, snapshots, gradient_accumulation_steps=3)
    callback = TraceabilityCallback(trainer)
    trainer.train()
    trace = callback.trace
    assert trace.steps.tolist() == list(range(STEPS))
    np.testing.assert_allclose(trace.change_rate("rms"), snapshots.rates, rtol=1e-6)
    importance = trace.to_pandas().groupby("step")["c"].sum()
    np.testing.assert_allclose(importance, snapshots.masses, rtol=1e-5)


def test_every_reporter_gets_the_values_of_the_trace_when_the_loss_is_logged(
    tmp_path: Path,
) -> None:
    trainer, callback = traced(tmp_path, {"alpha": 0.3}, report_to="tensorboard")
    trace = callback.trace
    expected = {
        "score": trace.scores(0.3),
        "steadiness": trace.scores(1.0, explainability="hoyer"),
        "change_rate_rms": trace.change_rate("rms"),
        "explainability_gini": trace.explainability("gini"),
    }
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in history] == [3, 6, 9, 12]
    (file,) = tmp_path.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file))
    events.Reload()
    for name, values in expected.items():
        defined = {step: values[step - 1] for step in (3, 6, 9, 12)}
        defined = {step: value for step, value in defined.items() if not np.isnan(value)}
        assert set(defined) == ({9, 12} if name in ("score", "steadiness") else {3, 6, 9, 12})
        found = {
            entry["step"]: entry[f"traceability/{name}"]
            for entry in history
            if f"traceability/{name}" in entry
        }
        assert found == defined
        written = {e.step: e.value for e in events.Scalars(f"train/traceability/{name}")}
        assert written == {step: np.float32(value) for step, value in defined.items()}
    assert not any("traceability/score" in e for e in trainer.state.log_history if "loss" not in e)


def test_the_trace_is_saved_and_the_optimiser_let_go(tmp_path: Path) -> None:
    trainer, callback = traced(tmp_path, {"every": 2})
    assert_same(Trace.load(tmp_path / TRACE_FILE), callback.trace)
    assert callback.trace.every == 2
    trainer.optimizer.optimizer.step()
    assert len(callback.trace) == STEPS // 2
    trainer.train()
    assert callback.trace.steps[0] == 0
    assert len(callback.trace) == STEPS // 2


def test_a_resumed_training_has_the_trace_of_an_uninterrupted_one(tmp_path: Path) -> None:
    saves = {"save_strategy": "steps", "save_steps": 5}
    whole, expected = traced(tmp_path / "whole", **saves)
    checkpoint = tmp_path / "elsewhere" / "checkpoint-5"
    shutil.copytree(tmp_path / "whole" / "checkpoint-5", checkpoint)

    # From where Trainer itself would look: the last checkpoint in the output folder.
    shutil.copytree(checkpoint, tmp_path / "again" / "checkpoint-5")
    resumed, found = traced(tmp_path / "again", resume=True, **saves)
    assert_same(found.trace, expected.trace)
    assert len(found.trace) == STEPS
    assert logged(resumed, "grad_norm") == logged(whole, "grad_norm")
    weights = resumed.model.state_dict()
    assert all(torch.equal(weights[name], v) for name, v in whole.model.state_dict().items())

    # From another folder, though the output folder has another training's checkpoint 5.
    traced(tmp_path / "other", **saves, max_steps=5, seed=1)
    named = {"resume_from_checkpoint": str(checkpoint)}
    _, found = traced(tmp_path / "other", resume=str(checkpoint), **saves, **named)
    assert_same(found.trace, expected.trace)
    with pytest.warns(UserWarning, match="resumed at step 5, and its trace begins there"):
        _, found = traced(tmp_path / "other", resume=str(checkpoint), **saves)
    assert len(found.trace) == STEPS - 5

    with pytest.raises(TraceError, match="every"):
        traced(tmp_path / "again", resume=str(checkpoint), settings={"every": 2}, **named)


def test_a_checkpoint_of_the_model_only_holds_no_tracer(tmp_path: Path) -> None:
    traced(tmp_path, save_strategy="steps", save_steps=6, save_only_model=True)
    assert (tmp_path / "checkpoint-6").is_dir()
    assert not list(tmp_path.rglob(STATE_FILE))


def test_only_the_main_process_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "is_world_process_zero", lambda self: False)
    _, callback = traced(tmp_path, save_strategy="steps", save_steps=6)
    assert not list(tmp_path.rglob(TRACE_FILE)) + list(tmp_path.rglob(STATE_FILE))
    with pytest.raises(TraceError, match="main process"):
        _ = callback.trace


class Fails(TrainerCallback):
    def on_step_end(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("stopped")


def test_after_an_error_the_trace_so_far_is_there_and_the_next_training_is_clean(
    tmp_path: Path,
) -> None:
    trainer = make_trainer(tmp_path, Fails())
    callback = TraceabilityCallback(trainer)
    with pytest.raises(RuntimeError, match="stopped"):
        trainer.train()
    assert len(callback.trace) == 1
    trainer.remove_callback(Fails)
    trainer.train()
    assert len(callback.trace) == STEPS


def test_what_cannot_be_traced_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    with pytest.raises(TraceError, match="alpha"):
        TraceabilityCallback(trainer, alpha=1.5)
    callback = TraceabilityCallback(trainer)
    event = (trainer.args, trainer.state, trainer.control)
    with pytest.raises(TraceError, match="object, and only a torch"):
        callback.on_train_begin(*event, model=trainer.model, optimizer=object())
