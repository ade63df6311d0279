"""What a sweep would cost, from a few timed steps of the smallest and the largest model of each
architecture, and of each checkpoint.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search_spaces import Choice, Dimension, source_of
from search_spaces.pretrained.checkpoint import SCRATCH
from sweeps.candidate import Candidate, Training
from sweeps.config import SweepConfig
from sweeps.training import TrainingRun

TIMED_STEPS = 5
ENOUGH_SECONDS = 1.0
"""Of timed steps: no more are taken after it."""


@dataclass(frozen=True)
class Estimate:
    """``models`` distinct models in the space (None: more than can be counted), ``trainings`` at
    most, and the seconds they take on ``workers`` workers, were all as small, or as large, as can
    be.
    """

    models: int | None
    trainings: int
    workers: int
    fastest_seconds: float
    slowest_seconds: float

    def to_json(self) -> dict[str, Any]:
        """The estimate as JSON-able data."""
        return asdict(self)

    def words(self) -> str:
        """The estimate in a sentence for people."""
        from sweeps.terminal import duration

        models = (
            "a continuum of models" if self.models is None else f"{self.models} distinct models"
        )
        return (
            f"{models}; at most {self.trainings} trainings, "
            f"{duration(self.fastest_seconds)} to {duration(self.slowest_seconds)} "
            f"with {self.workers} workers (start-up of a few seconds not counted)"
        )


class _Timed(TrainingRun):
    """Of which the steps alone are wanted: it is neither judged nor saved, which may take far
    longer.
    """

    def save(self) -> None:
        """Nothing: it isn't gone on with."""

    def _evaluate(self) -> None:
        """Nothing: no figure of it is told."""


def estimate(config: SweepConfig, workers: int) -> Estimate:
    """Time a few steps of each architecture's extremes; trains nothing to the end and stores
    nothing.
    """
    models = config.space.size()
    count = config.trials if models is None else min(config.trials, models)
    trainings = count * config.replicates
    smallest, largest = [], []
    for architecture in config.space.architectures:
        times = [_training_seconds(each) for each in _extremes(config, architecture)]
        smallest.append(min(times))
        largest.append(max(times))
    share = trainings / workers
    return Estimate(
        models=models,
        trainings=trainings,
        workers=workers,
        fastest_seconds=share * sum(smallest) / len(smallest),
        slowest_seconds=share * sum(largest) / len(largest),
    )


def _extremes(config: SweepConfig, architecture: str) -> list[Candidate]:
    """The smallest and the largest model of an architecture, of each checkpoint if it has some;
    none twice.
    """
    settings = config.space.architectures[architecture]
    checkpoints: Sequence[Any] = [None]
    if source_of(architecture) is not None:
        given = settings["checkpoint"]
        assert isinstance(given, Choice)
        # One from scratch takes as long as the one whose architecture it has.
        checkpoints = [
            name
            for name in given.values
            if str(name).removeprefix(SCRATCH) == name
            or str(name).removeprefix(SCRATCH) not in given.values
        ]
    found: list[Candidate] = []
    for checkpoint, pick in itertools.product(checkpoints, (min, max)):
        fixed = {"architecture": architecture, f"{architecture}.checkpoint": checkpoint}
        candidate = _extreme(config, fixed, pick)
        if candidate not in found:
            found.append(candidate)
    return found


def _extreme(
    config: SweepConfig, fixed: Mapping[str, Any], pick: Callable[[Iterable[Any]], Any]
) -> Candidate:
    def suggest(name: str, dimension: Dimension) -> Any:
        if name in fixed:
            return fixed[name]
        # Only a model's settings make it small or large; a large learning rate may diverge.
        return _end(dimension, pick if "." in name else min)

    return Candidate.from_parameters(config, config.space.draw(suggest))[0]


def _end(dimension: Dimension, pick: Callable[[Iterable[Any]], Any]) -> Any:
    if not isinstance(dimension, Choice):
        return pick((dimension.low, dimension.high))
    numbers = all(isinstance(value, int | float) for value in dimension.values)
    return pick(dimension.values) if numbers else dimension.values[0]


def _training_seconds(candidate: Candidate) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run = _Timed(Training(candidate, 0), Path(folder) / "checkpoint.pt")
        run.advance(0.0)
        # Where a step takes that long, what the first one does besides is no matter.
        warm, before = (0.0, 0) if run.seconds >= ENOUGH_SECONDS else (run.seconds, run.step)
        while run.step - before < TIMED_STEPS and run.seconds - warm < ENOUGH_SECONDS:
            run.advance(0.0)
    return (run.seconds - warm) / (run.step - before) * run.total_steps
