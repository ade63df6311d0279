"""The replicates of a model in training as one, as `TrainingRun` trains each alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search_spaces import Task
from sweeps.candidate import Training
from sweeps.course import Course, History, TrainingError
from sweeps.stacking import Stacked
from sweeps.training import Clockwork
from trace_core import Trace
from trace_core.stacked import StackedTracer


class StackedRun(Clockwork):
    """Trainings of one candidate that take their steps together.

    Continues from ``checkpoint`` if that file is there. One that diverges is left behind, and the
    others go on. Raises CheckpointError if the checkpoint can't be used, and whatever models that
    can't be stacked raise (see `sweeps.stacking.require_stackable`).
    """

    def __init__(self, trainings: Sequence[Training], checkpoint: Path) -> None:
        course = Course(trainings[0].candidate)
        super().__init__(course, checkpoint)
        self._seeds = [training.seed for training in trainings]
        self._stacked = Stacked(course, [course.build(seed) for seed in self._seeds])
        self._tracer = StackedTracer(
            self._stacked.parameters,
            self._stacked.optimizer,
            importance=course.candidate.importance,
            every=course.candidate.every,
            histogram_every=course.histogram_every,
            exact_directness=True,
        )
        self._histories = [History() for _ in trainings]
        self.failed: dict[int, str] = {}
        """Why trainings can't go on, by their number among these."""
        self._order: tuple[int, Tensor] | None = None
        self._begin()

    @property
    def finished(self) -> bool:
        """Whether every step of the budget was taken, or none of the trainings can go on."""
        return super().finished or len(self.failed) == len(self._seeds)

    @property
    def histories(self) -> list[list[dict[str, Any]]]:
        """The evaluations so far of each of the trainings."""
        return [history.entries for history in self._histories]

    def traces(self) -> list[Trace]:
        """The trace so far of each of the trainings."""
        return self._tracer.traces()

    def members(self) -> list[Member]:
        """Each of the trainings, once finished."""
        stacked = list(self._stacked.parameters.values())
        ends = zip(self._histories, self.traces(), self._stacked.outputs("test"), strict=True)
        return [
            Member(
                course=self.course,
                step=self.step,
                seconds=self.seconds / len(self._seeds),
                resumed=self.resumed,
                parameters=sum(tensor[0].numel() for tensor in stacked),
                trained=sum(tensor[0].numel() for tensor in stacked if tensor.requires_grad),
                history=history.entries,
                failed=self.failed.get(number, ""),
                traced=trace,
                outputs=outputs,
            )
            for number, (history, trace, outputs) in enumerate(ends)
        ]

    def fail(self, reason: str) -> None:
        """None of those that are under way can go on."""
        for number, _ in self._going():
            self.failed[number] = reason

    def _one_step(self) -> None:
        course, step = self.course, self.step
        epoch, batch = course.place(step)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, torch.stack([course.order(seed, epoch) for seed in self._seeds])
        losses = self._stacked.losses(step, self._order[1][:, batch])
        values = losses.detach().tolist()
        for number, history in self._going():
            try:
                history.add_loss(step, values[number])
            except TrainingError as error:
                self.failed[number] = str(error)
        self._stacked.step(losses)
        self.step += 1
        if self.step in course.rounds:
            self._evaluate()

    def _evaluate(self) -> None:
        outputs = self._stacked.outputs("validation")
        for number, history in self._going():
            try:
                found = self.course.judge(outputs[number], "validation")
                history.add_evaluation(self.step, self.course.rounds.get(self.step, 0), *found)
            except TrainingError as error:
                self.failed[number] = str(error)

    def _going(self) -> list[tuple[int, History]]:
        """The trainings that haven't failed."""
        return [
            (number, history)
            for number, history in enumerate(self._histories)
            if number not in self.failed
        ]

    def _state(self) -> dict[str, Any]:
        return {
            "seeds": self._seeds,
            "parameters": self._stacked.parameters,
            "buffers": self._stacked.buffers,
            "optimizer": self._stacked.optimizer.state_dict(),
            "tracer": self._tracer.state_dict(),
            "histories": [history.state_dict() for history in self._histories],
            "failed": self.failed,
        }

    def _load(self, state: dict[str, Any]) -> None:
        if state["seeds"] != self._seeds:
            raise ValueError(f"it is of the seeds {state['seeds']}, not {self._seeds}")
        with torch.no_grad():
            for kind in ("parameters", "buffers"):
                for name, tensor in getattr(self._stacked, kind).items():
                    tensor.copy_(state[kind][name])
        self._stacked.optimizer.load_state_dict(state["optimizer"])
        self._tracer.load_state_dict(state["tracer"])
        for history, each in zip(self._histories, state["histories"], strict=True):
            history.load_state_dict(each)
        self.failed = dict(state["failed"])


@dataclass(frozen=True)
class Member:
    """A training that has ended among others, read as a `TrainingRun` is.

    ``failed`` says why it can't go on, if so. ``outputs`` are its model's for the test part.
    """

    course: Course
    step: int
    seconds: float
    resumed: list[int]
    parameters: int
    trained: int
    history: list[dict[str, Any]]
    failed: str
    traced: Trace
    outputs: Tensor

    @property
    def task(self) -> Task:
        """The task of the training."""
        return self.course.task

    @property
    def examples(self) -> int:
        """Training examples seen in the whole budget."""
        return self.course.examples

    def trace(self) -> Trace:
        """The trace of the training."""
        return self.traced

    def evaluate(self, part: str) -> tuple[float, float]:
        """The metric and its standard error on ``test``."""
        return self.course.judge(self.outputs, part)
