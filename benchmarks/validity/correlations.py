"""The study's other rank correlations, with intervals over models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, weightedtau

from sweeps.validity.association import FloatArray, correlation

Statistic = Callable[[FloatArray, FloatArray], FloatArray]
"""(draws, M) and (draws, M) -> (draws,)."""


def resampled(
    statistic: Statistic, x: npt.ArrayLike, y: npt.ArrayLike, *, seed: int = 0, draws: int = 2_000
) -> tuple[float, float, float]:
    """Any other statistic, and its percentile interval."""
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    models = len(first)
    value = float(statistic(first[None], second[None])[0])
    chosen = np.random.default_rng([seed, models]).integers(models, size=(draws, models))
    return value, *np.nanpercentile(statistic(first[chosen], second[chosen]), [2.5, 97.5]).tolist()


def spearman(x: FloatArray, y: FloatArray) -> FloatArray:
    """Spearman's ρ along the last axis."""
    first, second = (rankdata(side, axis=-1) for side in (x, y))
    return correlation(first, second)


def weighted_kendall(x: FloatArray, y: FloatArray) -> FloatArray:
    """τ with hyperbolic weights along the last axis: exchanges among the first ranks count more
    (Vigna 2015, arXiv 1404.3325), the mean of ranking by either side. (draws, M) -> (draws,).
    """
    return np.array([weightedtau(*pair).statistic for pair in zip(x, y, strict=True)])
