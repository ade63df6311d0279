"""What a sweep would cost, from a few timed steps of the smallest and the largest model of each
architecture.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search_spaces import Choice, Dimension
from sweeps.candidate import Candidate, Training
from sweeps.config import SweepConfig
from sweeps.training import TrainingRun

TIMED_STEPS = 5


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


def estimate(config: SweepConfig, workers: int) -> Estimate:
    """Time a few steps of each architecture's extremes; trains nothing to the end and stores
    nothing.
    """
    models = config.space.size()
    count = config.trials if models is None else min(config.trials, models)
    trainings = count * config.replicates
    smallest, largest = [], []
    for architecture in config.space.architectures:
        times = [_training_seconds(config, architecture, pick) for pick in (min, max)]
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


def _end(dimension: Dimension, pick: Callable[[Iterable[Any]], Any]) -> Any:
    if not isinstance(dimension, Choice):
        return pick((dimension.low, dimension.high))
    numbers = all(isinstance(value, int | float) for value in dimension.values)
    return pick(dimension.values) if numbers else dimension.values[0]


def _training_seconds(
    config: SweepConfig, architecture: str, pick: Callable[[Iterable[Any]], Any]
) -> float:
    def suggest(name: str, dimension: Dimension) -> Any:
        if name == "architecture":
            return architecture
        # Only a model's settings make it small or large; a large learning rate may diverge.
        return _end(dimension, pick if "." in name else min)

    candidate, _ = Candidate.from_parameters(config, config.space.draw(suggest))
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(Training(candidate, 0), Path(folder) / "checkpoint.pt")
        run.advance(0.0)
        warm = run.seconds
        for _ in range(TIMED_STEPS):
            run.advance(0.0)
    return (run.seconds - warm) / TIMED_STEPS * run.total_steps
