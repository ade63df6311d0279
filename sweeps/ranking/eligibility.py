"""Which models may be ranked, and why the others may not.

A model that does not learn is perfectly stable, so only what demonstrably learned is ranked:
all replicates finished, the validation metric above both the trivial predictor and the model's
own start with 95% confidence, and a fair part of the best model's skill.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, isnan
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtrit

from search_spaces.pretrained.checkpoint import SCRATCH

FloatArray = npt.NDArray[np.float64]

STATES = ("COMPLETE", "PRUNED", "FAILED", "INTERRUPTED")
CONTROL_REASON = "a control with random weights: compared with the others, not ranked among them"

_CONFIDENCE = 0.95
_NORMAL_FREEDOM = 1e9


@dataclass(frozen=True)
class MetricInfo:
    """The task's metric: ``direction`` is maximize or minimize.

    ``baseline`` is what the trivial predictor reaches on the validation part; NaN where no
    training got as far as to tell, and then no model is eligible.
    """

    name: str
    direction: str
    baseline: float

    def __post_init__(self) -> None:
        if self.direction not in ("maximize", "minimize"):
            raise ValueError(
                f"direction is {self.direction!r}: it must be 'maximize' or 'minimize'"
            )

    @property
    def sign(self) -> float:
        """+1 or −1: times the metric, higher is better."""
        return 1.0 if self.direction == "maximize" else -1.0


@dataclass(frozen=True)
class Exclusion:
    """A model that is not ranked, and the reason in plain words."""

    model_id: str
    reason: str


def judge(
    models: pd.DataFrame,
    replicates: pd.DataFrame,
    metric: MetricInfo,
    replicates_expected: int,
    floor: float,
    components: tuple[str, ...],
) -> tuple[list[str], list[Exclusion]]:
    """Split the models into those to rank and the others.

    Args:
        models: one row per model: ``model_id``, ``settings``, ``state``, ``reason``. Controls,
            which begin from a checkpoint's architecture alone, are compared and not ranked, unless
            there is nothing else.
        replicates: one row per finished training: ``model_id``, ``metric``, ``metric_start``,
            ``metric_error`` and the ``components``.
        metric: what the metric is.
        replicates_expected: trainings that a model must have finished.
        floor: least share of the best eligible model's skill over the baseline.
        components: columns that must be finite for a model to be scored.

    Returns:
        The eligible model ids and the exclusions, both in order of ``model_id``.
    """
    reasons: dict[str, str] = {}
    skill: dict[str, float] = {}
    names = dict.fromkeys((*components, "metric", "metric_start", "metric_error"))
    columns = {name: replicates[name].to_numpy(dtype=np.float64) for name in names}
    # As arrays: of each model a table of its own would take longer than all else.
    places = replicates.groupby("model_id").indices
    learned = _learned(columns, places, metric)
    judged = {name: columns[name] for name in (*components, "metric")}
    finite = np.all([np.isfinite(column) for column in judged.values()], axis=0)
    ordered = models.sort_values("model_id")
    rows = (ordered[name].tolist() for name in ("model_id", "state", "reason", "settings"))
    alone = all(map(is_control, models["settings"]))
    for model_id, state, why, settings in zip(*rows, strict=True):
        own = places.get(model_id, np.zeros(0, np.intp))
        reason = _unfinished(state, why, len(own), replicates_expected)
        if not reason and not finite[own].all():
            reason = _not_finite({name: column[own] for name, column in judged.items()})
        reason = reason or _not_learned(learned[model_id], metric)
        if not reason and is_control(settings) and not alone:
            reason = f"{CONTROL_REASON}; {metric.name} {learned[model_id].reached:.4g}"
        if reason:
            reasons[model_id] = reason
        else:
            skill[model_id] = metric.sign * (learned[model_id].reached - metric.baseline)
    best = max(skill.values(), default=0.0)
    for model_id, gain in skill.items():
        if gain / best < floor:
            reasons[model_id] = (
                f"{metric.name} {metric.baseline + metric.sign * gain:.4g} is {gain / best:.0%} of "
                f"the way from the baseline {metric.baseline:.4g} to the best model's "
                f"{metric.baseline + metric.sign * best:.4g}: below the floor of {floor:.0%}"
            )
    return [each for each in skill if each not in reasons], [
        Exclusion(each, reasons[each]) for each in sorted(reasons)
    ]


class _Learned(NamedTuple):
    """A model's metric: its mean, the bound of that, and where it stood at step 0."""

    reached: float
    bound: float
    start: float


def is_control(settings: Mapping[str, object]) -> bool:
    """Whether a model of these settings begins from random weights in a checkpoint's place."""
    return str(settings.get("checkpoint", "")).startswith(SCRATCH)


def confidence_bound(values: FloatArray, errors: FloatArray, sign: float) -> FloatArray:
    """The one-sided 95% bound of a metric's mean, on its worse side, of one model or of many.

    The squared error is sd²/n over replicates plus the mean squared standard error of the
    validation sample, which all replicates share and no replicate reduces. Student's t has the
    degrees of freedom that Satterthwaite (1946, Biometrics Bull. 2) gives such a sum:
    n − 1 where the seeds make all of it, normal where the sample does (one replicate).

    Args:
        values: shape (..., n), the metric of n ≥ 1 replicates.
        errors: its standard errors from the validation sample; a missing one counts as 0.
        sign: +1 if higher is better, −1 if lower is.

    Returns:
        Shape (...), in units of the metric: a lower bound if higher is better, else an upper one.
    """
    values = np.asarray(values)
    count = values.shape[-1]
    means = values.mean(axis=-1)
    between = values.var(axis=-1, ddof=1) / count if count > 1 else np.zeros_like(means)
    total = between + (np.where(np.isnan(errors), 0.0, errors) ** 2).mean(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(between > 0, (count - 1) * (total / between) ** 2, _NORMAL_FREEDOM)
    quantiles = stdtrit(np.minimum(freedom, _NORMAL_FREEDOM), _CONFIDENCE)
    bounds: FloatArray = means - sign * quantiles * np.sqrt(total)
    return bounds


def _learned(
    columns: Mapping[str, FloatArray],
    places: Mapping[Any, Any],
    metric: MetricInfo,
) -> dict[str, _Learned]:
    """What each model has learned; ``places`` holds the rows of its trainings, by its id."""
    of_size: dict[int, list[str]] = {}
    for model_id, own in places.items():
        of_size.setdefault(len(own), []).append(model_id)
    found: dict[str, _Learned] = {}
    for ids in of_size.values():
        at = np.stack([places[model_id] for model_id in ids])
        values, errors = columns["metric"][at], columns["metric_error"][at]
        # A metric that isn't finite has no bound, and is told of for itself.
        with np.errstate(invalid="ignore"):
            bounds = confidence_bound(values, errors, metric.sign)
            starts = columns["metric_start"][at].mean(axis=1)
            figures = (values.mean(axis=1).tolist(), bounds.tolist(), starts.tolist())
        found |= dict(zip(ids, map(_Learned, *figures), strict=True))
    return found


def _unfinished(state: str, why: object, finished: int, expected: int) -> str | None:
    detail = f": {why}" if isinstance(why, str) and why else ""
    if state != "COMPLETE":
        return f"{state}{detail}"
    if finished < expected:
        return (
            f"{finished} of {expected} replicates finished{detail}; a model is not averaged over "
            "those that survived"
        )
    return None


def _not_finite(finished: Mapping[str, FloatArray]) -> str | None:
    for column, values in finished.items():
        bad = len(values) - int(np.count_nonzero(np.isfinite(values)))
        if bad:
            return f"{column} is not a finite number in {bad} of {len(values)} replicates"
    return None


def _not_learned(learned: _Learned, metric: MetricInfo) -> str | None:
    if not isfinite(metric.baseline):
        return f"the trivial baseline of {metric.name} is {metric.baseline}: nothing can beat it"
    reached, bound, start = learned
    if isnan(start):
        return f"{metric.name} at step 0 is missing, so that nothing shows the model learned"
    side = "lower" if metric.sign > 0 else "upper"
    figures = f"{metric.name} {reached:.4g} ({side} 95% bound {bound:.4g})"
    if metric.sign * (bound - metric.baseline) <= 0:
        return f"{figures} does not beat the trivial baseline {metric.baseline:.4g}"
    if metric.sign * (bound - start) <= 0:
        return f"{figures} does not beat the model's own {start:.4g} at step 0"
    return None
