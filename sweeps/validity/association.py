"""How alike two orders of the same models are: rank correlations, with intervals and a test.

Each model is one pair of numbers: a score, and a performance, both means over its seeds. Intervals
resample models, each with all its seeds: where seeds are nested in models, that carries the
variation of both, and resampling the seeds as well would count theirs twice (Davison & Hinkley
1997, *Bootstrap Methods and their Application*, §3.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
DRAWS = 2_000
LEVEL = 0.95


@dataclass(frozen=True)
class Association:
    """A rank correlation in [−1, 1], its 95% interval, and how often chance alone does as much.

    NaN where a side is constant.
    """

    value: float
    low: float
    high: float
    p_value: float


def kendall(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Kendall's τ-b of (M,) and (M,): NaN if one is constant. O(M²)."""
    first, second = _vector(x), _vector(y)
    return float(_tau(first, second, np.ones((1, len(first))))[0])


def association(
    x: npt.ArrayLike, y: npt.ArrayLike, *, seed: int = 0, draws: int = DRAWS
) -> Association:
    """Kendall's τ-b with a percentile interval from ``draws`` resampled pools, and the two-sided
    p-value of no association (exact for small pools without ties, else from its normal limit).

    In a resampled pool, two copies of one model are no pair. O(draws · M²).
    """
    return associations([x], y, seed=seed, draws=draws)[0]


def associations(
    sides: Sequence[npt.ArrayLike], y: npt.ArrayLike, *, seed: int = 0, draws: int = DRAWS
) -> list[Association]:
    """The `association` of each of ``sides`` with ``y``: in the same pools, drawn once."""
    from scipy.stats import kendalltau

    second = _vector(y)
    models = len(second)
    counts = np.random.default_rng([seed, models]).multinomial(
        models, np.full(models, 1 / models), size=draws
    )
    # First the pool as it is.
    pools = np.concatenate([np.ones((1, models)), counts])
    found = []
    for first in map(_vector, sides):
        value, *drawn = _tau(first, second, pools).tolist()
        if np.isnan(value):
            found.append(Association(value, value, value, 1.0))
            continue
        low, high = _percentiles(np.array(drawn))
        p_value = float(kendalltau(first, second).pvalue)
        found.append(Association(value, low, high, p_value))
    return found


def correlation(x: FloatArray, y: FloatArray) -> FloatArray:
    """Pearson's correlation along the last axis; NaN where a side is constant."""
    first, second = (side - side.mean(axis=-1, keepdims=True) for side in (x, y))
    norm = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = np.where(norm > 0, (first * second).sum(axis=-1) / norm, np.nan)
    return found


def _tau(first: FloatArray, second: FloatArray, counts: FloatArray) -> FloatArray:
    """τ-b of pools in which model i stands counts[·, i] times; (draws, M) -> (draws,)."""
    agreement = _signs(first) * _signs(second)
    # Whole numbers no greater than M, which float32 holds as they are, in half of the time.
    agreeing = counts.astype(np.float32) @ agreement.astype(np.float32)
    pairs = (agreeing * counts).sum(axis=1)
    norm = np.sqrt(_untied(first, counts) * _untied(second, counts))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = np.where(norm > 0, pairs / norm, np.nan)
    return found


def _signs(values: FloatArray) -> FloatArray:
    signs: FloatArray = np.sign(np.subtract.outer(values, values))
    return signs


def _untied(values: FloatArray, counts: FloatArray) -> FloatArray:
    """How many ordered pairs of different values each pool has: all but those within a value."""
    order = np.argsort(values)
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)
    tied = len(starts) < len(values)
    groups = np.add.reduceat(counts[:, order], starts, axis=1) if tied else counts
    pairs: FloatArray = counts.sum(axis=1) ** 2 - (groups**2).sum(axis=1)
    return pairs


def _vector(values: npt.ArrayLike) -> FloatArray:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or len(vector) < 2 or not np.isfinite(vector).all():
        raise ValueError(f"got an array of shape {vector.shape}; must be 2 or more finite numbers")
    return vector


def _percentiles(values: FloatArray) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)
