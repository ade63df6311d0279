"""Two sweeps side by side: what was set otherwise, what came of it, and whether that can be told
apart.

Whole sweeps are compared by their first models, each the best of many tries, so that each score is
somewhat flattered; a model that both have trained is compared with itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy import stats

from search_spaces import task_identity
from sweeps.report.facts import score_kinds, with_scores
from sweeps.report.settings import flat
from sweeps.report.wording import finite
from sweeps.results import Results

SHARED = 200
"""Most models that both have, of those told."""

_INCIDENTAL = ("name", "workers", "storage", "limits", "loggers", "warm_start", "first")
"""What may be set otherwise without making a sweep's models others."""


@dataclass(frozen=True)
class Comparison:
    """What two sweeps, ``a`` and ``b``, have come to.

    ``differences`` are keys of the configuration with both values; ``obstacles`` say why figures
    aren't of a kind. ``leaders`` has the first model of each, ``difference`` how much higher the
    second sweep's scores, with its 95% interval (None without replicates, or where scores aren't of
    a kind). ``architectures`` has the best of each, ``shared`` the models that both ranked;
    ``metrics`` are the names of the two metrics.
    """

    metrics: list[str]
    obstacles: list[str]
    differences: list[dict[str, Any]]
    figures: list[dict[str, Any]]
    leaders: list[dict[str, Any] | None]
    difference: dict[str, float] | None
    architectures: list[dict[str, Any]]
    shared: list[dict[str, Any]]
    shared_count: int


def compare(a: Results, b: Results) -> Comparison:
    """Set two sweeps side by side."""
    settings = [flat(each.config.resolved()) for each in (a, b)]
    obstacles, alike = _obstacles(a, b)
    frames = [each.ranking.frame for each in (a, b)]
    leaders = [_row(frame.iloc[0]) if len(frame) else None for frame in frames]
    shared = _shared(*frames)
    return Comparison(
        metrics=[a.ranking.metric.name, b.ranking.metric.name],
        obstacles=obstacles,
        differences=[
            {"key": key, "a": settings[0].get(key, ""), "b": settings[1].get(key, "")}
            for key in sorted({*settings[0], *settings[1]})
            if settings[0].get(key) != settings[1].get(key) and key not in _INCIDENTAL
        ],
        figures=_figures(a, b),
        leaders=leaders,
        difference=_difference(a, b) if alike and all(leaders) else None,
        architectures=_architectures(*frames),
        shared=shared[:SHARED],
        shared_count=len(shared),
    )


def _obstacles(a: Results, b: Results) -> tuple[list[str], bool]:
    """Why figures aren't of a kind, and whether scores are."""
    found = []
    one, other = a.config, b.config
    alike = _task(a) == _task(b)
    if not alike:
        names = f"{one.task_name}, {other.task_name}"
        if one.task_name == other.task_name:
            names = f"{one.task_name}, and its files or settings"
        found.append(f"The tasks differ ({names}): neither figure is of a kind.")
    elif a.ranking.metric.name != b.ranking.metric.name:
        found.append("The metrics differ.")
    spans = [
        {(row.epochs, row.steps, row.batch_size) for row in each.models.itertuples()}
        if {"epochs", "steps", "batch_size"} <= set(each.models)
        else set()
        for each in (a, b)
    ]
    if spans[0] != spans[1]:
        found.append(
            "Budgets or batch sizes differ: stability depends on how long is trained, and with "
            "which batches."
        )
        alike = False
    kinds = [score_kinds(each.config.resolved()) for each in (a, b)]
    if kinds[0] != kinds[1] or a.ranking.reading != b.ranking.reading:
        found.append("The kinds of score differ.")
        alike = False
    if a.ranking.alpha != b.ranking.alpha:
        found.append(f"α differs ({a.ranking.alpha:.3g}, {b.ranking.alpha:.3g}).")
        alike = False
    return found, alike


def _task(each: Results) -> Any:
    """What tells a task: its files by their content, wherever they lay."""
    task = each.config.task
    return task_identity(task, each.content) if each.content else task


def _row(row: Mapping[Any, Any] | pd.Series) -> dict[str, Any]:
    figures = ("traceability", "stability", "explainability", "metric", "metric_test")
    return {
        **{name: int(row[name]) for name in ("rank", "rank_low", "rank_high")},
        **{name: str(row[name]) for name in ("model_id", "architecture", "init")},
        "settings": json.loads(row["settings"]),
        **{name: finite(row[name]) for name in figures},
    }


def _figures(a: Results, b: Results) -> list[dict[str, Any]]:
    """Figures of the whole sweeps: ``name``, ``a``, ``b``."""

    def of(each: Results) -> dict[str, float | None]:
        frame, metric = each.ranking.frame, each.ranking.metric
        best = frame["metric"].max() if metric.sign > 0 else frame["metric"].min()
        return {
            "trials": float(len(each.ledger)),
            "models ranked": float(len(frame)),
            "models left out": float(len(each.ranking.excluded)),
            "highest traceability": finite(frame["traceability"].max()) if len(frame) else None,
            "median traceability": finite(frame["traceability"].median()) if len(frame) else None,
            f"best {metric.name}".replace("_", " "): finite(best) if len(frame) else None,
            "seconds of training": finite(each.ledger["seconds"].sum()),
        }

    found = [of(a), of(b)]
    names = list(dict.fromkeys([*found[0], *found[1]]))
    return [{"name": name, "a": found[0].get(name), "b": found[1].get(name)} for name in names]


def _difference(a: Results, b: Results) -> dict[str, float] | None:
    """How much higher the second sweep's first model scores than the first one's: Welch's interval
    over their trainings.
    """
    scores = []
    for each in (a, b):
        table = with_scores(each.replicates, each.ranking.reading, each.ranking.alpha)
        own = table[table["model_id"] == each.ranking.frame.iloc[0]["model_id"]]
        scores.append(own["traceability"].to_numpy())
    if min(map(len, scores)) < 2:
        return None
    found = stats.ttest_ind(scores[1], scores[0], equal_var=False)
    interval = found.confidence_interval(0.95)
    mean = float(scores[1].mean() - scores[0].mean())
    low, high = float(interval.low), float(interval.high)
    # Trainings that are all equal have no spread to tell an interval from.
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return {"mean": mean, "low": low, "high": high}


def _architectures(a: pd.DataFrame, b: pd.DataFrame) -> list[dict[str, Any]]:
    names = sorted({*a["architecture"], *b["architecture"]})

    def best(frame: pd.DataFrame, name: str) -> dict[str, Any] | None:
        own = frame[frame["architecture"] == name]
        return _row(own.iloc[0]) if len(own) else None

    return [{"architecture": name, "a": best(a, name), "b": best(b, name)} for name in names]


def _shared(a: pd.DataFrame, b: pd.DataFrame) -> list[dict[str, Any]]:
    others = b.set_index("model_id", drop=False)
    both: Sequence[pd.Series] = [row for _, row in a.iterrows() if row["model_id"] in others.index]
    return [{"a": _row(row), "b": _row(others.loc[row["model_id"]])} for row in both]
