"""The ranking: who is eligible, in what order, and how sure that order is.

A pure function of two tables: nothing is trained, and neither torch, ray nor optuna is needed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweeps.ranking.cautions import warnings_of
from sweeps.ranking.checkpoints import about_checkpoints
from sweeps.ranking.eligibility import STATES, Exclusion, MetricInfo, judge
from sweeps.ranking.first_place import probability_first
from sweeps.ranking.rank_intervals import rank_intervals
from trace_core.alpha import (
    DEFAULT_ALPHA,
    common_alpha,
    leaders,
    parse_alpha,
    share_first,
)

FloatArray = npt.NDArray[np.float64]

SCHEMA = 1
READINGS = {
    "calibrated": ("stability", "explainability"),
    "article": ("article_change_rate", "article_explainability"),
}
TRIAL_COUNTS = (*STATES, "trained", "replayed")
COLUMNS = (
    "rank",
    "rank_low",
    "rank_high",
    "model_id",
    "architecture",
    "init",
    "settings",
    "traceability",
    "stability",
    "change_rate",
    "explainability",
    "article_score",
    "metric",
    "metric_best",
    "metric_test",
    "metric_name",
    "share_first",
    "p_first",
    "replicates",
)
_MEANS = (
    "stability",
    "change_rate",
    "explainability",
    "article_score",
    "metric",
    "metric_best",
    "metric_test",
)
_MODEL_COLUMNS = ("model_id", "architecture", "init", "settings", "state", "reason")
_REPLICATE_COLUMNS = ("model_id", "seed", *_MEANS, "metric_start", "metric_error")
_SCORES = ("model_id", "seed", "stability", "explainability")


@dataclass(frozen=True)
class Leader:
    """A model that is first for every α in the open interval (``start``, ``stop``)."""

    model_id: str
    start: float
    stop: float


@dataclass(frozen=True)
class Ranking:
    """The ranked models, and what is needed to judge the order.

    Attributes:
        alpha: the common α, in [0, 1].
        alpha_source: ``fixed``, a scheme's name, or ``cross_validated: fallback``.
        alpha_note: how α came about, in plain words.
        reading: ``calibrated`` or ``article``.
        metric: the task's metric.
        frame: one row per eligible model, in order of rank, with ``COLUMNS``. ``settings`` is
            JSON. ``p_first`` and ``share_first`` are NaN where withheld or unknown.
        scores: one row per training of an eligible model: ``model_id``, ``seed``,
            ``stability``, ``explainability``, ``traceability``.
        excluded: the models that are not ranked.
        trials: trials by state, and how many were trained and replayed.
        warnings: in plain words, the gravest first.
        leaders: who leads at which α, ascending; identical models lead together.
        pareto: eligible models that no other dominates in stability (in the article's reading:
            its change rate), explainability and metric.
        method: ``tukey``, ``games-howell`` or ``none``.
        omnibus_p: of the permutation test; None if it could not be made.
        variances_p_value: of the Brown–Forsythe test; None likewise.
        distinguishable: whether the omnibus test found any difference at 5%.
    """

    alpha: float
    alpha_source: str
    alpha_note: str
    reading: str
    metric: MetricInfo
    frame: pd.DataFrame
    scores: pd.DataFrame
    excluded: tuple[Exclusion, ...]
    trials: dict[str, int]
    warnings: tuple[str, ...]
    leaders: tuple[Leader, ...]
    pareto: tuple[str, ...]
    method: str
    omnibus_p: float | None
    variances_p_value: float | None
    distinguishable: bool

    @property
    def leading_group(self) -> tuple[str, ...]:
        """The models that may be first: those whose rank interval includes 1."""
        return tuple(self.frame.loc[self.frame["rank_low"] == 1, "model_id"])

    def to_json(self) -> dict[str, Any]:
        """The content of ``ranking.json``: JSON types alone, None for what is unknown."""
        columns = [[_plain(value) for value in self.frame[name].tolist()] for name in COLUMNS]
        rows = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*columns, strict=True)]
        for row in rows:
            row["settings"] = json.loads(row["settings"])
        return {
            "schema": SCHEMA,
            "alpha": self.alpha,
            "alpha_source": self.alpha_source,
            "alpha_note": self.alpha_note,
            "reading": self.reading,
            "models": rows,
            "excluded": [
                {"model_id": each.model_id, "reason": each.reason} for each in self.excluded
            ],
            "trials": dict(self.trials),
            "warnings": list(self.warnings),
            "omnibus": {
                "p_value": self.omnibus_p,
                "distinguishable": self.distinguishable,
                "method": self.method,
                "variances_p_value": self.variances_p_value,
            },
            "leading_group": list(self.leading_group),
            "leaders": [
                {"model_id": each.model_id, "from": each.start, "to": each.stop}
                for each in self.leaders
            ],
            "pareto": list(self.pareto),
            "metric": {
                "name": self.metric.name,
                "direction": self.metric.direction,
                "baseline": _plain(self.metric.baseline),
            },
        }


def rank(
    models: pd.DataFrame,
    replicates: pd.DataFrame,
    *,
    metric: MetricInfo,
    replicates_expected: int,
    alpha: float | str = 0.5,
    floor: float = 0.5,
    reading: str = "calibrated",
    seed: int = 0,
    trials: Mapping[str, int] | None = None,
) -> Ranking:
    """Rank the models that may be ranked by their mean traceability at one common α.

    Args:
        models: one row per model: ``model_id``, ``architecture``, ``init``, ``settings`` (a
            dict), ``state``, ``reason``; optionally ``learning_rate``, ``weight_decay``,
            ``batch_size`` and ``epochs``, for the warnings.
        replicates: one row per finished training: ``model_id``, ``seed``, ``stability``,
            ``change_rate``, ``explainability``, ``article_score``, ``metric``, ``metric_best``,
            ``metric_start``, ``metric_error``, ``metric_test``. The article's reading at another
            α than 0.5 also needs ``article_change_rate`` and ``article_explainability``, the
            two terms of the article's score.
        metric: the task's metric, its direction and its trivial baseline.
        replicates_expected: trainings that a model must have finished, ≥ 1.
        alpha: in [0, 1], or ``std``, ``entropy``, ``cross_validated``.
        floor: least share of the best model's skill over the baseline, in [0, 1].
        reading: ``calibrated``, or ``article`` (S5: a higher change rate scores higher).
        seed: of the permutations and the posterior draws.
        trials: trials by state and kind; missing ones count 0.

    Returns:
        The ranking; the order of the rows of either table makes no difference to it. Equal
        traceability is ordered by the better metric, then by ``model_id``.

    Raises:
        ValueError: for an argument out of its range, a missing column, a duplicate row, an
            unknown state, or a training of an unknown model.
    """
    value = parse_alpha(alpha)
    _check_arguments(replicates_expected, floor, reading)
    _check_tables(models, replicates)
    names = _components(replicates, reading, value)
    replicates = replicates.sort_values(["model_id", "seed"], ignore_index=True)
    eligible, excluded = judge(models, replicates, metric, replicates_expected, floor, names)
    pool = _pool(eligible, replicates, names, metric)
    choice = common_alpha(
        value, pool.first, pool.second, validation=pool.goodness, test=pool.outcome
    )
    weights = np.array([choice.alpha, 1 - choice.alpha])
    traceability = [parts @ weights for parts in pool.parts]
    intervals = rank_intervals(traceability, seed)
    ranked = models[models["model_id"].isin(eligible)].sort_values("model_id")
    sizes = [len(parts) for parts in pool.parts]
    # The article's score without its two terms is a number, not a line in α.
    lines = names[0] != names[1]
    table = ranked.assign(
        rank_low=intervals.low,
        rank_high=intervals.high,
        # A line in α, computed as the page does it: its order is this one at every α.
        traceability=choice.alpha * pool.first + (1 - choice.alpha) * pool.second,
        metric_name=metric.name,
        share_first=share_first(pool.first, pool.second) if lines else np.nan,
        p_first=probability_first(pool.parts, choice, pool.goodness, seed)
        if intervals.distinguishable
        else np.nan,
        replicates=sizes,
    )
    return Ranking(
        alpha=choice.alpha,
        alpha_source=choice.source,
        alpha_note=choice.note,
        reading=reading,
        metric=metric,
        frame=_frame(table, pool.means, metric),
        scores=pool.trainings[list(_SCORES)].assign(
            traceability=np.concatenate([np.empty(0), *traceability])
        ),
        excluded=tuple(excluded),
        trials={name: int((trials or {}).get(name, 0)) for name in TRIAL_COUNTS},
        warnings=(
            *warnings_of(ranked, pool.trainings, sizes, choice, intervals),
            *about_checkpoints(models, replicates, eligible, metric),
        ),
        leaders=_leaders(eligible, pool.first, pool.second) if lines else (),
        pareto=_pareto(eligible, np.column_stack([pool.first, pool.second, pool.goodness])),
        method=intervals.method,
        omnibus_p=intervals.p_value,
        variances_p_value=intervals.variances_p_value,
        distinguishable=intervals.distinguishable,
    )


def _check_arguments(replicates_expected: int, floor: float, reading: str) -> None:
    if replicates_expected < 1:
        raise ValueError(f"replicates_expected is {replicates_expected}: it must be at least 1")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor is {floor}: it must be from 0 to 1")
    if reading not in READINGS:
        raise ValueError(f"reading is {reading!r}: it must be one of {', '.join(READINGS)}")


def _check_tables(models: pd.DataFrame, replicates: pd.DataFrame) -> None:
    for name, table, wanted in (
        ("model", models, _MODEL_COLUMNS),
        ("replicate", replicates, _REPLICATE_COLUMNS),
    ):
        missing = [column for column in wanted if column not in table]
        if missing:
            raise ValueError(f"the {name} table lacks {', '.join(missing)}")
    if models["model_id"].duplicated().any():
        twice = models.loc[models["model_id"].duplicated(), "model_id"].iloc[0]
        raise ValueError(f"model {twice} stands in the model table more than once")
    if replicates.duplicated(["model_id", "seed"]).any():
        raise ValueError("the replicate table holds a model and seed more than once")
    strangers = sorted(set(replicates["model_id"]) - set(models["model_id"]))
    if strangers:
        raise ValueError(f"trainings of {strangers[0]}, which the model table doesn't know")
    states = sorted(set(models["state"]) - set(STATES))
    if states:
        raise ValueError(f"state is {states[0]!r}: it must be one of {', '.join(STATES)}")


def _components(replicates: pd.DataFrame, reading: str, alpha: float | str) -> tuple[str, str]:
    """The columns that α and 1 − α weigh."""
    names = READINGS[reading]
    missing = [name for name in names if name not in replicates]
    if not missing:
        return names
    if alpha != DEFAULT_ALPHA:
        raise ValueError(
            f"the article's score at α = {alpha} needs the column {' and '.join(missing)}; without "
            f"it only α = {DEFAULT_ALPHA} is known"
        )
    return "article_score", "article_score"


@dataclass(frozen=True)
class _Pool:
    """The eligible models' figures, in order of ``model_id``.

    ``first`` and ``second`` are the means of what α and 1 − α weigh, ``parts`` both per
    replicate, shape (replicates, 2) a model; ``goodness`` and ``outcome`` the validation and
    the test metric, higher is better.
    """

    trainings: pd.DataFrame
    means: pd.DataFrame
    first: FloatArray
    second: FloatArray
    parts: list[FloatArray]
    goodness: FloatArray
    outcome: FloatArray


def _pool(
    eligible: list[str], replicates: pd.DataFrame, names: tuple[str, str], metric: MetricInfo
) -> _Pool:
    trainings = replicates[replicates["model_id"].isin(eligible)].reset_index(drop=True)
    columns = list(dict.fromkeys([*_MEANS, *names]))
    trainings = trainings.astype(dict.fromkeys(columns, "float64"))
    grouped = trainings.groupby("model_id")
    means = grouped[columns].mean(skipna=False).loc[eligible]
    values = {name: means[name].to_numpy(dtype=np.float64) for name in columns}
    return _Pool(
        trainings,
        means,
        values[names[0]],
        values[names[1]],
        np.split(
            trainings[list(names)].to_numpy(dtype=np.float64),
            np.cumsum(grouped.size().to_numpy())[:-1],
        )
        if eligible
        else [],
        metric.sign * values["metric"],
        metric.sign * values["metric_test"],
    )


def _frame(ranked: pd.DataFrame, means: pd.DataFrame, metric: MetricInfo) -> pd.DataFrame:
    """The table in order of rank."""
    table = ranked.set_index("model_id", drop=False).assign(
        settings=[json.dumps(each, sort_keys=True) for each in ranked["settings"]],
        **{name: means[name] for name in _MEANS},
    )
    order = np.lexsort((table["model_id"], -metric.sign * table["metric"], -table["traceability"]))
    table = table.iloc[order].reset_index(drop=True)
    return table.assign(rank=np.arange(1, len(table) + 1))[list(COLUMNS)]


def _leaders(eligible: list[str], first: FloatArray, second: FloatArray) -> tuple[Leader, ...]:
    return tuple(
        Leader(eligible[model], float(span.start), float(span.stop))
        for span in leaders(first, second)
        for model in span.models
    )


def _pareto(eligible: list[str], objectives: FloatArray) -> tuple[str, ...]:
    """The models that no other equals everywhere and beats somewhere; objectives are (M, 3)."""
    # Whoever beats a model stands before it, or is beaten by one of the front that does.
    falling = np.lexsort(-objectives.T[::-1])
    front = np.empty_like(objectives)
    found: list[int] = []
    for model in falling.tolist():
        others = front[: len(found)]
        reaches = (others >= objectives[model]).all(axis=1)
        beats = (others > objectives[model]).any(axis=1)
        if not (reaches & beats).any():
            front[len(found)] = objectives[model]
            found.append(model)
    return tuple(eligible[model] for model in sorted(found))


def _plain(value: Any) -> Any:
    """A cell as a JSON type; what is not finite is unknown."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not isfinite(value) else value
