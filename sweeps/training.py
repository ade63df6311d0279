"""One training with a Tracer: a loop that can stop after any step and go on from its checkpoint.

A training is a function of its candidate and seed alone. The seed fixes the weights through torch's
global generator; the order of the batches follows from (seed, epoch), so nothing about it needs to
be saved. A training that goes on from a checkpoint gives the bits an uninterrupted one gives.
"""

from __future__ import annotations

import io
import math
import random
import time
from collections.abc import Container
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import nn

from search_spaces import Part, get_architecture, get_task, initialise
from sweeps.candidate import Candidate, Training
from trace_core import Trace, Tracer
from trace_core.durable import write_atomically
from trace_core.importance import PROBED, Probe

CHECKPOINT_SECONDS = 5.0
"""Most time that an interruption costs a training, beside the step it is in."""

EVALUATION_BATCH = 1024
PROBE_SAMPLES = 256
"""Most samples on which an importance that needs passes of its own is estimated."""


class TrainingError(Exception):
    """A training that can't go on: it diverged, or its model doesn't fit the task."""


class CheckpointError(Exception):
    """A checkpoint that can't be read, or is not of this training."""


class TrainingRun:
    """A training in progress.

    Continues from ``checkpoint`` if that file is there. Raises CheckpointError if it can't be used,
    TrainingError, TraceError, or whatever a user's builder or task raises.
    """

    def __init__(self, training: Training, checkpoint: Path) -> None:
        candidate = training.candidate
        self._training = training
        self._candidate = candidate
        self._checkpoint = checkpoint
        self.task = get_task(candidate.task)
        data = self.task.data()
        self._dtype = getattr(torch, candidate.dtype)
        self._train_part = self._tensors(data.train)
        self._parts = {"validation": data.validation, "test": data.test}
        self._reset_torch(training.seed)
        architecture = get_architecture(candidate.architecture)
        self.model = architecture.build(self.task.shape, **candidate.settings)
        _reset_modes()
        initialise(self.model, candidate.init)
        self.model.to(self._dtype)
        self.optimizer = _optimizer(candidate, self.model)
        self._size = len(self._train_part[0])
        self._batches = math.ceil(self._size / candidate.batch_size)
        self.total_steps = self._batches * candidate.epochs
        self._tracer = Tracer(
            self.model,
            self.optimizer,
            importance=candidate.importance,
            every=candidate.every,
            histogram_every=max(
                1, math.ceil(self.total_steps / candidate.every / candidate.histograms)
            ),
            exact_directness=True,
            probe=self._probe(),
        )
        self.step = 0
        self.seconds = 0.0
        self._saved = time.monotonic()
        self.history: list[dict[str, Any]] = []
        self._loss_sum = 0.0
        self._order: torch.Tensor | None = None
        if checkpoint.exists():
            self._load()
        else:
            self._evaluate()

    @property
    def finished(self) -> bool:
        """Whether every step of the budget was taken."""
        return self.step >= self.total_steps

    @property
    def examples(self) -> int:
        """Training examples seen in the whole budget."""
        return self._size * self._candidate.epochs

    @property
    def parameters(self) -> int:
        """Number of elements of the model's parameters, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def advance(self, seconds: float, until: Container[int] = ()) -> bool:
        """Train for about ``seconds``, at least one step, or to the end of an epoch in ``until``;
        True when finished.
        """
        started = time.monotonic()
        before = self.seconds
        while not self.finished:
            self._one_step()
            now = time.monotonic()
            self.seconds = before + now - started
            if now - self._saved >= CHECKPOINT_SECONDS and self.step < self.total_steps:
                self.save()
            epoch, batch = divmod(self.step, self._batches)
            if now - started >= seconds or (batch == 0 and epoch in until):
                break
        return self.finished

    def trace(self) -> Trace:
        """The trace so far."""
        return self._tracer.trace()

    def evaluate(self, part: str) -> tuple[float, float]:
        """The metric and its standard error on ``validation`` or ``test``."""
        inputs, _ = self._tensors(self._parts[part])
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            outputs = torch.cat(
                [self.model(chunk) for chunk in torch.split(inputs, EVALUATION_BATCH)]
            )
        self.model.train(training)
        expected = (len(inputs), self.task.shape.outputs)
        if tuple(outputs.shape) != expected:
            raise TrainingError(
                f"the model does not fit the task {self.task.name}: for {len(inputs)} examples its "
                f"outputs have shape {tuple(outputs.shape)}, the task needs {expected}"
            )
        value, error = self.task.evaluate(outputs.double().numpy(), self._parts[part].targets)
        return float(value), float(error)

    def save(self) -> None:
        """Write the checkpoint, durably."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "tracer": self._tracer.state_dict(),
            "generator": torch.get_rng_state(),
            "step": self.step,
            "seconds": self.seconds,
            "loss_sum": self._loss_sum,
            "history": self.history,
        }
        file = io.BytesIO()
        torch.save(state, file)
        write_atomically(self._checkpoint, file.getvalue())
        self._saved = time.monotonic()

    def _load(self) -> None:
        try:
            state = torch.load(self._checkpoint, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self._tracer.load_state_dict(state["tracer"])
            self.step = state["step"]
            self.seconds = state["seconds"]
            self._loss_sum = state["loss_sum"]
            self.history = state["history"]
            torch.set_rng_state(state["generator"])
        except (OSError, EOFError, KeyError, RuntimeError, ValueError, UnpicklingError) as error:
            raise CheckpointError(f"{self._checkpoint}: {error}") from error

    def _reset_torch(self, seed: int) -> None:
        _reset_modes()
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (a user's builder may draw from it)

    def _tensors(self, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.from_numpy(part.inputs)
        targets = torch.from_numpy(part.targets)
        return (
            inputs.to(self._dtype) if inputs.is_floating_point() else inputs,
            targets.to(self._dtype) if targets.is_floating_point() else targets,
        )

    def _probe(self) -> Probe | None:
        """What the importance is estimated on, if by passes of its own: validation samples."""
        if self._candidate.importance not in PROBED:
            return None
        inputs, targets = self._tensors(self._parts["validation"])
        return Probe(
            (inputs[:PROBE_SAMPLES], targets[:PROBE_SAMPLES]),
            lambda outputs, batch: self.task.loss(outputs, batch[1]),
        )

    def _one_step(self) -> None:
        epoch, batch = divmod(self.step, self._batches)
        if batch == 0 or self._order is None:
            order = np.random.default_rng([self._training.seed, epoch]).permutation(self._size)
            self._order = torch.from_numpy(order)
        size = self._candidate.batch_size
        index = self._order[batch * size : (batch + 1) * size]
        for group in self.optimizer.param_groups:
            group["lr"] = self._candidate.learning_rate * self._schedule()
        self.optimizer.zero_grad(set_to_none=True)
        outputs = self.model(self._train_part[0][index])
        loss = self.task.loss(outputs, self._train_part[1][index])
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"diverged: the training loss is {value} at step {self.step}")
        torch.autograd.backward(loss)
        self.optimizer.step()
        self._loss_sum += value
        self.step += 1
        if self.step % self._batches == 0:
            self._evaluate()

    def _schedule(self) -> float:
        if self._candidate.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * self.step / self.total_steps))
        return 1.0

    def _evaluate(self) -> None:
        metric, error = self.evaluate("validation")
        for name, value in (("validation metric", metric), ("metric's standard error", error)):
            if not math.isfinite(value):
                raise TrainingError(f"diverged: the {name} is {value} at step {self.step}")
        self.history.append(
            {
                "epoch": self.step // self._batches,
                "step": self.step,
                "train_loss": self._loss_sum / self._batches if self.step else None,
                "metric": metric,
                "metric_error": error,
            }
        )
        self._loss_sum = 0.0


def _reset_modes() -> None:
    """Undo what an earlier training's code, or this model's builder, set for the whole process."""
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    torch.set_flush_denormal(False)


def _optimizer(candidate: Candidate, model: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise TrainingError("the model has no trainable parameter: nothing of it can be followed")
    rate, decay = candidate.learning_rate, candidate.weight_decay
    if candidate.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=candidate.momentum, weight_decay=decay)
    if candidate.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
