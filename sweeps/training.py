"""One training with a Tracer: a loop that can stop after any step and go on from its checkpoint.

A training is a function of its candidate and seed alone. The seed fixes the weights through torch's
global generator; the order of the batches follows from (seed, epoch), so nothing about it needs to
be saved. A training that goes on from a checkpoint gives the bits an uninterrupted one gives.
"""

from __future__ import annotations

import io
import struct
import time
import zipfile
import zlib
from collections.abc import Container
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from sweeps.candidate import Training
from sweeps.course import CheckpointError, Course, History
from sweeps.storing import storing
from trace_core import Trace, Tracer
from trace_core.durable import write_atomically
from trace_core.importance import PROBED, Probe

CHECKPOINT_SECONDS = 5.0
"""Most time that an interruption costs a training, beside the step it is in; more where a
checkpoint takes long to write.
"""
CHECKPOINT_SHARE = 0.05
"""Most of a training's time that goes into its checkpoints, after the first."""

PROBE_SAMPLES = 256
"""Most samples on which an importance that needs passes of its own is estimated."""
UNREADABLE = (
    *(OSError, EOFError, LookupError, RuntimeError, ValueError, TypeError, AttributeError),
    *(UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error),
)
"""What a checkpoint raises that can't be read, or is of something else."""


def _require_whole(path: Path) -> None:
    """Raise ValueError if a bit of a checkpoint has changed: PyTorch reads its tensors without
    looking at their checksums.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} is damaged")


class Clockwork:
    """A loop of steps that can stop after any of them, and leaves a checkpoint now and then.

    A subclass takes the steps and says what is saved.
    """

    def __init__(self, course: Course, checkpoint: Path) -> None:
        self.course = course
        self.task = course.task
        self.total_steps = course.total_steps
        self.step = 0
        self.seconds = 0.0
        self.resumed: list[int] = []
        """The steps at which it went on from a checkpoint, so far."""
        self._checkpoint = checkpoint
        self._saved = time.monotonic()
        self._pause = CHECKPOINT_SECONDS

    @property
    def finished(self) -> bool:
        """Whether every step of the budget was taken."""
        return self.step >= self.total_steps

    @property
    def examples(self) -> int:
        """Training examples seen in the whole budget."""
        return self.course.examples

    def advance(self, seconds: float, until: Container[int] = ()) -> bool:
        """Train for about ``seconds``, at least one step, or to an evaluation in ``until``; True
        when finished.
        """
        started = time.monotonic()
        before = self.seconds
        while not self.finished:
            self._one_step()
            now = time.monotonic()
            self.seconds = before + now - started
            if now - self._saved >= self._pause and not self.finished:
                self.save()
            if now - started >= seconds or self.course.rounds.get(self.step) in until:
                break
        return self.finished

    def save(self) -> None:
        """Write the checkpoint, durably."""
        begun = time.monotonic()
        file = io.BytesIO()
        whole = {"step": self.step, "seconds": self.seconds, "resumed": self.resumed}
        whole |= {"of": self._checkpoint.stem}
        torch.save(self._state() | whole, file)
        with storing():
            write_atomically(self._checkpoint, file.getbuffer())
        self._saved = time.monotonic()
        self._pause = max(CHECKPOINT_SECONDS, (self._saved - begun) / CHECKPOINT_SHARE)

    def _begin(self) -> None:
        """Go on from the checkpoint if that file is there, else evaluate what is untrained."""
        if not self._checkpoint.exists():
            self._evaluate()
            self._saved = time.monotonic()
            return
        try:
            _require_whole(self._checkpoint)
            state = torch.load(self._checkpoint, weights_only=True)
            # A version before this one didn't tell.
            if state.get("of", self._checkpoint.stem) != self._checkpoint.stem:
                raise ValueError(f"it is of {state['of']}")
            self._load(state)
            self.step, self.seconds = state["step"], state["seconds"]
            self.resumed = [*state["resumed"], self.step]
        except UNREADABLE as error:
            raise CheckpointError(f"{self._checkpoint}: {error}") from error
        self._saved = time.monotonic()

    def _one_step(self) -> None:
        raise NotImplementedError

    def _evaluate(self) -> None:
        raise NotImplementedError

    def _state(self) -> dict[str, Any]:
        raise NotImplementedError

    def _load(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


class TrainingRun(Clockwork):
    """A training in progress.

    Continues from ``checkpoint`` if that file is there. Raises CheckpointError if it can't be used,
    TrainingError, TraceError, or whatever a user's builder or task raises.
    """

    def __init__(self, training: Training, checkpoint: Path) -> None:
        course = Course(training.candidate)
        super().__init__(course, checkpoint)
        self._seed = training.seed
        self.model = course.build(training.seed)
        self.optimizer = course.optimizer(self.model)
        self._tracer = Tracer(
            self.model,
            self.optimizer,
            importance=training.candidate.importance,
            every=training.candidate.every,
            histogram_every=course.histogram_every,
            exact_directness=True,
            probe=self._probe(),
        )
        self._history = History()
        self._order: tuple[int, torch.Tensor] | None = None
        self._begin()

    @property
    def history(self) -> list[dict[str, Any]]:
        """The evaluations so far."""
        return self._history.entries

    @property
    def parameters(self) -> int:
        """Number of elements of the model's parameters, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def trained(self) -> int:
        """How many of them take part in the training."""
        return sum(each.numel() for each in self.model.parameters() if each.requires_grad)

    @property
    def histories(self) -> list[list[dict[str, Any]]]:
        """The evaluations so far of the one training."""
        return [self.history]

    def trace(self) -> Trace:
        """The trace so far."""
        return self._tracer.trace()

    def traces(self) -> list[Trace]:
        """The trace so far of the one training."""
        return [self.trace()]

    def evaluate(self, part: str) -> tuple[float, float]:
        """The metric and its standard error on ``validation`` or ``test``."""
        return self.course.judge(self.course.outputs(self.model, part), part)

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "tracer": self._tracer.state_dict(),
            "generators": self.course.generators(),
            "history": self._history.state_dict(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._tracer.load_state_dict(state["tracer"])
        self._history.load_state_dict(state["history"])
        self.course.set_generators(state["generators"])

    def _probe(self) -> Probe | None:
        """What the importance is estimated on, if by passes of its own: validation samples."""
        if self.course.candidate.importance not in PROBED:
            return None
        return Probe(
            self.course.examples_of("validation", PROBE_SAMPLES),
            lambda outputs, batch: self.task.loss(outputs, batch[1]),
        )

    def _one_step(self) -> None:
        course, step = self.course, self.step
        epoch, batch = course.place(step)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, course.order(self._seed, epoch)
        index = self._order[1][batch]
        course.set_rates(self.optimizer, step)
        self.optimizer.zero_grad(set_to_none=True)
        inputs, targets = course.batch(index)
        with course.casting():
            loss = self.task.loss(self.model(inputs), targets)
        self._history.add_loss(step, float(loss.detach()))
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.step += 1
        if self.step in course.rounds:
            self._evaluate()

    def _evaluate(self) -> None:
        round_ = self.course.rounds.get(self.step, 0)
        self._history.add_evaluation(self.step, round_, *self.evaluate("validation"))
