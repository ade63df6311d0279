"""A training's trace and record into its scores: a pure function of the two."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from sweeps.config import SweepConfig
from sweeps.config_sections import RankingSettings
from sweeps.records import TrainingRecord
from trace_core import CHANGE_RATES, EXPLAINABILITIES, STABILITIES, Trace, TraceError
from trace_core.statistics import Array

SCORE_COLUMNS = (
    "stability",
    "change_rate",
    "explainability",
    "article_score",
    "article_change_rate",
    "article_explainability",
)
REPLICATE_COLUMNS = (
    "model_id",
    "seed",
    *SCORE_COLUMNS,
    "metric",
    "metric_best",
    "metric_start",
    "metric_error",
    "metric_test",
    "metric_early",
    "train_loss",
    "train_loss_sum",
    "parameters",
    "trained",
)

# 1/N, the article's, has a column of its own.
_CONCENTRATIONS = tuple(kind for kind in EXPLAINABILITIES if kind != "article")
KIND_COLUMNS = (
    *(f"stability.{kind}" for kind in STABILITIES),
    *(f"change_rate.{kind}" for kind in CHANGE_RATES),
    *(f"explainability.{kind}" for kind in _CONCENTRATIONS),
)
"""A column of the replicate table for every kind, so that a reader may change to another one."""
TRACE_COLUMNS = (*SCORE_COLUMNS, *KIND_COLUMNS)
"""What follows from a trace alone."""

POINTS = 32
"""Most points of a `curve`: about one for every three dots of a table's cell."""

EARLY = 0.1
"""Share of the budget after which ``metric_early`` is taken, at the next evaluation."""


def score(
    record: TrainingRecord, trace: Trace, config: SweepConfig, steps: int | None = None
) -> dict[str, Any]:
    """The scores of one finished training over its first ``steps`` optimiser steps (default: all):
    what `of_record` and `of_trace` give. Raises TraceError where the configured stability has none.
    """
    span = trace if steps is None else trace.window(0, steps)
    return of_record(record) | of_trace(span, config.ranking)


def of_record(record: TrainingRecord) -> dict[str, Any]:
    """What a finished training's record says of it.

    ``metric_early`` is the metric at the first evaluation after a tenth of the budget,
    ``train_loss`` that of the last epoch, ``train_loss_sum`` the sum over the epochs. What can't be
    computed is NaN.
    """
    best = max if record.direction == "maximize" else min
    metrics = record.metrics()
    early = [e["metric"] for e in record.history if e["step"] >= EARLY * record.steps]
    losses = [e["train_loss"] for e in record.history if e["train_loss"] is not None]
    return {
        "model_id": record.model_id,
        "seed": record.seed,
        "metric": metrics[-1],
        "metric_best": best(metrics),
        "metric_start": metrics[0],
        "metric_error": record.history[-1]["metric_error"],
        "metric_test": record.metric_test,
        "metric_early": early[0],
        "train_loss": losses[-1] if losses else math.nan,
        "train_loss_sum": math.fsum(losses) if losses else math.nan,
        "parameters": record.parameters,
        "trained": record.trained or record.parameters,
    }


def of_trace(span: Trace, kinds: RankingSettings) -> dict[str, float]:
    """The scores of a span of steps, by `TRACE_COLUMNS`; NaN where one is undefined.

    ``change_rate`` and ``explainability`` are means over the observations, ``stability`` one number
    for the span, ``article_score`` the article's reading at α = 0.5 with ``tensor_l1``, and the two
    after it its terms. Raises TraceError where the stability of ``kinds`` has no value.
    """
    rates = {kind: mean(span.change_rate(kind)) for kind in CHANGE_RATES}
    indices = {kind: mean(span.explainability(kind)) for kind in EXPLAINABILITIES}
    chosen = span.stability(kinds.stability)
    stabilities = {
        kind: chosen if kind == kinds.stability else defined_stability(span, kind)
        for kind in STABILITIES
    }
    return {
        "stability": chosen,
        "change_rate": rates[kinds.change_rate],
        "explainability": indices[kinds.explainability],
        "article_score": span.score(alpha=0.5, reading="article"),
        "article_change_rate": rates["tensor_l1"],
        "article_explainability": indices["article"],
        **{f"stability.{kind}": value for kind, value in stabilities.items()},
        **{f"change_rate.{kind}": value for kind, value in rates.items()},
        **{f"explainability.{kind}": indices[kind] for kind in _CONCENTRATIONS},
    }


def defined_stability(span: Trace, kind: str) -> float:
    """The stability of a span of steps, NaN where it has none."""
    try:
        return span.stability(kind)
    except TraceError:
        return math.nan


def curve(trace: Trace, kind: str) -> Array:
    """The change rate over a training's steps as at most `POINTS` points, for drawing: (2, points)
    float32, the middle step of each span of observations, and the mean rate over it (NaN where
    there is none).
    """
    steps, rates = np.asarray(trace.steps), trace.change_rate(kind)
    starts = np.arange(0, len(steps), max(1, -(-len(steps) // POINTS)))
    last = np.append(starts[1:], len(steps)) - 1
    known = np.isfinite(rates)
    counts = np.add.reduceat(known.astype(np.int64), starts)
    sums = np.add.reduceat(np.where(known, rates, 0.0), starts)
    means = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    return np.stack([(steps[starts] + steps[last]) / 2, means]).astype(np.float32)


def mean(values: Iterable[float]) -> float:
    """Mean of what is defined; NaN if nothing is."""
    defined = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
