"""Stored traces and records into scores: one row per training, a pure function of what is on
disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from sweeps import records
from sweeps.config import SweepConfig
from sweeps.records import TrainingRecord
from sweeps.run_directory import RunDirectory, RunDirectoryError, resume_command
from trace_core import CHANGE_RATES, EXPLAINABILITIES, STABILITIES, Trace, TraceError

REPLICATE_COLUMNS = (
    "model_id",
    "seed",
    "stability",
    "change_rate",
    "explainability",
    "article_score",
    "article_change_rate",
    "article_explainability",
    "metric",
    "metric_best",
    "metric_start",
    "metric_error",
    "metric_test",
    "metric_early",
    "train_loss",
    "train_loss_sum",
    "parameters",
)

# 1/N, the article's, has a column of its own.
_CONCENTRATIONS = tuple(kind for kind in EXPLAINABILITIES if kind != "article")
KIND_COLUMNS = (
    *(f"stability.{kind}" for kind in STABILITIES),
    *(f"change_rate.{kind}" for kind in CHANGE_RATES),
    *(f"explainability.{kind}" for kind in _CONCENTRATIONS),
)
"""A column of `replicate_table` for every kind, so that a reader may change to another one."""

EARLY = 0.1
"""Share of the budget after which ``metric_early`` is taken, at the next evaluation."""


def score(
    record: TrainingRecord, trace: Trace, config: SweepConfig, steps: int | None = None
) -> dict[str, Any]:
    """The scores of one finished training over its first ``steps`` optimiser steps (default: all).

    ``change_rate`` and ``explainability`` are means over the observations, ``stability`` one number
    for the span, ``article_score`` the article's reading at α = 0.5 with ``tensor_l1``, and the two
    after it its terms. ``metric_early`` is the metric at the first evaluation after a tenth of the
    budget, ``train_loss`` that of the last epoch, ``train_loss_sum`` the sum over the epochs. What
    can't be computed is NaN.
    """
    kinds = config.ranking
    span = trace if steps is None else trace.window(0, steps)
    best = max if record.direction == "maximize" else min
    metrics = record.metrics()
    early = [e["metric"] for e in record.history if e["step"] >= EARLY * record.steps]
    losses = [e["train_loss"] for e in record.history if e["train_loss"] is not None]
    return {
        "model_id": record.model_id,
        "seed": record.seed,
        "stability": span.stability(kinds.stability),
        "change_rate": mean(span.change_rate(kinds.change_rate)),
        "explainability": mean(span.explainability(kinds.explainability)),
        "article_score": span.score(alpha=0.5, reading="article"),
        "article_change_rate": mean(span.change_rate("tensor_l1")),
        "article_explainability": mean(span.explainability("article")),
        "metric": metrics[-1],
        "metric_best": best(metrics),
        "metric_start": metrics[0],
        "metric_error": record.history[-1]["metric_error"],
        "metric_test": record.metric_test,
        "metric_early": early[0],
        "train_loss": losses[-1] if losses else math.nan,
        "train_loss_sum": math.fsum(losses) if losses else math.nan,
        "parameters": record.parameters,
    }


def kinds(span: Trace) -> dict[str, float]:
    """Every kind of score of a span of steps, by `KIND_COLUMNS`; NaN where it is undefined."""
    return {
        **{f"stability.{kind}": _defined(span.stability, kind) for kind in STABILITIES},
        **{f"change_rate.{kind}": mean(span.change_rate(kind)) for kind in CHANGE_RATES},
        **{f"explainability.{kind}": mean(span.explainability(kind)) for kind in _CONCENTRATIONS},
    }


def _defined(stability: Callable[[str], float], kind: str) -> float:
    try:
        return stability(kind)
    except TraceError:
        return math.nan


def mean(values: Iterable[float]) -> float:
    """Mean of what is defined; NaN if nothing is."""
    defined = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def replicate_table(
    run: RunDirectory,
    config: SweepConfig,
    models: dict[str, list[str]],
    examples: int | None = None,
) -> pd.DataFrame:
    """One row of scores per finished training of the given models (``model_id`` → training ids).

    ``examples`` limits every training to the steps in which it saw that many, so that trainings of
    unequal budget are compared over an equal span.
    """
    rows = []
    for training_ids in models.values():
        for training_id in training_ids:
            record = records.load(run, training_id)
            for path in (run.record(training_id), run.trace(training_id)):
                if not path.exists():
                    raise RunDirectoryError(
                        f"{path}: missing; make it again with: {resume_command(run.path)}"
                    )
            if record is None or record.state != "COMPLETE":
                continue
            trace = Trace.load(run.trace(training_id))
            steps = None if examples is None else round(record.steps * examples / record.examples)
            span = trace if steps is None else trace.window(0, steps)
            rows.append(score(record, trace, config, steps) | kinds(span))
    return pd.DataFrame(rows, columns=[*REPLICATE_COLUMNS, *KIND_COLUMNS])
