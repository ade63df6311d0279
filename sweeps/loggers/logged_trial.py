"""What a logger is given of a trial, and what it must do with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sweeps import records
from sweeps.candidate import Candidate
from sweeps.config import SweepConfig
from sweeps.records import TrainingRecord
from sweeps.run_directory import RunDirectory
from trace_core import Trace, TraceError
from trace_core.stability import TRAILING
from trace_core.statistics import IntArray

if TYPE_CHECKING:
    from sweeps.selection import StudyTrial

POINTS = 100
"""Most observations of a trace that are logged; they are evenly spaced."""


def name_of(number: int) -> str:
    """A trial's name, which sorts as its number does."""
    return f"trial-{number:05d}"


@dataclass(frozen=True)
class Curves:
    """One training's figures by optimiser step, ascending; what is undefined is not there.

    ``train_loss`` and the validation metric by its own name, at the evaluations; ``change_rate``,
    ``stability`` (of the trailing 50 observations) and ``explainability``, of the kinds that the
    sweep ranks by, at up to `POINTS` observations.
    """

    seed: int
    training_id: str
    points: dict[int, dict[str, float]]


@dataclass(frozen=True)
class LoggedTrial:
    """A told trial, as every logger shows it.

    ``parameters`` describe the model and hold α; ``values`` are the objectives' (none of a trial
    that failed), named ``objective/NAME``, and the mean validation metric by its own name.
    """

    number: int
    state: str
    reason: str
    model_id: str
    parameters: dict[str, str | int | float | bool]
    values: dict[str, float]
    replayed: bool
    seconds: float
    started: datetime | None
    ended: datetime | None
    curves: tuple[Curves, ...]

    @property
    def name(self) -> str:
        """As `name_of` has it."""
        return name_of(self.number)

    def facts(self) -> dict[str, str | int | float | bool]:
        """What is known of the trial besides its parameters and values."""
        facts: dict[str, str | int | float | bool] = {
            "model_id": self.model_id,
            "state": self.state,
            "replayed": self.replayed,
            "seconds": self.seconds,
        }
        return facts | ({"reason": self.reason} if self.reason else {})

    def by_step(self) -> dict[int, dict[str, float]]:
        """The curves of all trainings by step, ascending, each name led by ``seed_N/``."""
        together: dict[int, dict[str, float]] = {}
        for curves in self.curves:
            for step, values in curves.points.items():
                named = {f"seed_{curves.seed}/{name}": value for name, value in values.items()}
                together.setdefault(step, {}).update(named)
        return dict(sorted(together.items()))


class Logger(Protocol):
    """Writes trials somewhere; made with (run directory, configuration, the sweep's own id).

    What it can't do it raises as whatever exception it likes: it is left out from then on.
    """

    def log(self, trial: LoggedTrial) -> None:
        """Write a trial of which nothing is there."""

    def discard(self, number: int) -> None:
        """Remove what a driver that was killed has left of a trial, which will be logged anew."""

    def close(self) -> None:
        """Let go of everything: no trial follows."""


def logged_trial(run: RunDirectory, config: SweepConfig, trial: StudyTrial) -> LoggedTrial:
    """Gather a told trial from the study's row and its trainings' records and traces.

    Raises FileNotFoundError where one of these is missing, RunDirectoryError or TraceError where
    one is damaged.
    """
    details = trial.details
    candidate = Candidate.from_dict(details["candidate"])
    described: dict[str, Any] = {
        "architecture": candidate.architecture,
        "init": candidate.init,
        **candidate.described(),
        "alpha": details["alpha"],
    }
    names = [f"objective/{name}" for name in config.objective_names()]
    values = dict(zip(names, trial.values, strict=True)) if trial.values is not None else {}
    if details["metric"] is not None:
        values[config.metric_name] = details["metric"]
    loaded = [records.load(run, training_id) for training_id in details["trainings"]]
    ended = [record for record in loaded if record is not None]
    if trial.state == "COMPLETE" and len(ended) < len(loaded):
        raise FileNotFoundError(f"trial {trial.number}: a training has no record")
    return LoggedTrial(
        number=trial.number,
        state=trial.state,
        reason=details["reason"],
        model_id=details["model"],
        parameters={name: value for name, value in described.items() if value is not None},
        values=values,
        replayed=details["replayed"],
        seconds=details["seconds"],
        started=trial.started,
        ended=trial.ended,
        curves=tuple(_curves(run, config, record) for record in ended),
    )


def _curves(run: RunDirectory, config: SweepConfig, record: TrainingRecord) -> Curves:
    points: dict[int, dict[str, float]] = {}
    for entry in record.history:
        figures = {"train_loss": entry["train_loss"], record.metric_name: entry["metric"]}
        _add(points, entry["step"], figures)
    if record.state == "COMPLETE":
        trace = Trace.load(run.trace(record.training_id))
        kinds = config.ranking
        rates = trace.change_rate(kinds.change_rate)
        for row in _thinned(np.arange(len(trace))):
            stability = _trailing_stability(trace, row, kinds.stability)
            figures = {"change_rate": float(rates[row]), "stability": stability}
            _add(points, int(trace.steps[row]), figures)
        indices = trace.explainability(kinds.explainability)
        for row in _thinned(np.flatnonzero(np.isfinite(indices))):
            _add(points, int(trace.steps[row]), {"explainability": float(indices[row])})
    return Curves(record.seed, record.training_id, dict(sorted(points.items())))


def _add(points: dict[int, dict[str, float]], step: int, figures: dict[str, float | None]) -> None:
    known = {
        name: value for name, value in figures.items() if value is not None and math.isfinite(value)
    }
    if known:
        points.setdefault(step, {}).update(known)


def _thinned(rows: IntArray) -> list[int]:
    """Up to `POINTS` of the rows, the first and the last among them."""
    at = np.linspace(0, len(rows) - 1, min(POINTS, len(rows))).round().astype(int)
    return [int(row) for row in rows[at]]


def _trailing_stability(trace: Trace, row: int, kind: str) -> float | None:
    try:
        return trace.rows(max(0, row + 1 - TRAILING), row + 1).stability(kind)
    except TraceError:
        # Directness, where the window doesn't begin at an anchor.
        return None
