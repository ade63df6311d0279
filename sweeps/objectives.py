"""What a trial is paid: its values for the study, and the learning floor as a constraint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from sweeps.candidate import Candidate
from sweeps.config import SweepConfig
from sweeps.kept_scores import KeptScores
from sweeps.records import TrainingRecord
from sweeps.scoring import of_record
from trace_core import TraceError

_SCORED = (
    *("stability", "explainability", "metric"),
    *("article_change_rate", "article_explainability"),
)
"""What values are made of."""


@dataclass(frozen=True)
class Outcome:
    """What the study is told: ``values`` (None: the trial FAILED or was PRUNED, for ``reason``),
    the constraint (met at or below 0) and the mean validation metric.
    """

    state: Literal["COMPLETE", "PRUNED", "FAILED"]
    values: list[float] | None = None
    constraint: float | None = None
    metric: float | None = None
    reason: str = ""


class Objectives:
    """Turns the records of a trial's trainings into objective values.

    The constraint is ``floor`` less the share of the way from the task's trivial baseline to the
    best mean metric seen so far in the sweep (design §4.8): the final ranking applies the same
    floor against the best of all.
    """

    def __init__(
        self, scores: KeptScores, config: SweepConfig, seen: Iterable[tuple[str, float]]
    ) -> None:
        self._scores = scores
        self._config = config
        self._sign = 1.0 if config.metric_direction == "maximize" else -1.0
        self.best: tuple[str, float] | None = None
        self._scored: dict[str, dict[str, float]] = {}
        for model_id, metric in seen:
            self._note(model_id, metric)

    def evaluate(
        self, candidate: Candidate, alpha: float, known: Sequence[TrainingRecord]
    ) -> Outcome:
        """The outcome of a trial of ``candidate`` at ``alpha`` whose trainings have ended."""
        failed = next((record for record in known if record.state == "FAILED"), None)
        if failed is not None:
            return Outcome("FAILED", reason=f"seed {failed.seed}: {failed.reason}")
        pruned = next((record for record in known if record.state == "PRUNED"), None)
        if pruned is not None:
            return Outcome("PRUNED", reason=pruned.reason)
        try:
            rows = [self._row(record, alpha) for record in known]
        except TraceError as error:
            return Outcome("FAILED", reason=str(error))
        # A plain mean: a model is not averaged over the replicates for which a figure is defined.
        means = {name: fmean(row[name] for row in rows) for name in rows[0]}
        values = [means[name] for name in self._config.objective_names()]
        for name, value in zip(self._config.objective_names(), values, strict=True):
            if not math.isfinite(value):
                return Outcome("FAILED", reason=f"{name} is {value}: the trace does not define it")
        metric = means["metric"]
        self._note(candidate.model_id, metric)
        return Outcome("COMPLETE", values, self._constraint(metric, known[0].baseline), metric)

    def _row(self, record: TrainingRecord, alpha: float) -> dict[str, float]:
        row = self._scored.get(record.training_id)
        if row is None:
            scores = self._scores.of(record.training_id, sha256=record.trace_sha256)
            figures = of_record(record) | scores.row()
            row = {name: float(figures[name]) for name in _SCORED}
            self._scored[record.training_id] = row
        fixed = self._config.ranking.alpha
        weight = fixed if isinstance(fixed, float) else 0.5
        return {
            "stability": row["stability"],
            "explainability": row["explainability"],
            "metric": row["metric"],
            "traceability": weight * row["stability"] + (1 - weight) * row["explainability"],
            "article_score": alpha * row["article_change_rate"]
            + (1 - alpha) * row["article_explainability"],
        }

    def _note(self, model_id: str, metric: float) -> None:
        if self.best is None or self._sign * metric > self._sign * self.best[1]:
            self.best = (model_id, metric)

    def _constraint(self, metric: float, baseline: float | None) -> float:
        assert self.best is not None
        assert baseline is not None
        floor = self._config.ranking.floor
        reach = self._sign * (self.best[1] - baseline)
        if reach <= 0:
            return floor
        return floor - self._sign * (metric - baseline) / reach
