"""What is left of an association once other properties of the models are accounted for.

Both sides are turned into ranks, and the ranks regressed on natural cubic splines of the
confounders (a learning rate by its logarithm); what is left of the two is correlated. A partial
Kendall's τ would not do: it removes only what is linear in pairwise orders, and leaves an
association where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeps.validity.association import DRAWS, FloatArray, correlation

KNOTS = 5
"""Most knots of a spline, at evenly spaced quantiles: one term less. A small pool has fewer, but
no fewer than `FEWEST_KNOTS`."""

FEWEST_KNOTS = 3
"""A straight line would leave most of what a learning rate does, which is best in the middle: of 27
models that such a rate alone makes alike, 98% would be called informative.
"""

MODELS_A_TERM = 4
"""Fewest models for each term of the regression."""


@dataclass(frozen=True)
class Residual:
    """Correlation in [−1, 1] of what is left of two sides, how often chance alone does as much, and
    the share of the first side's ranks that the confounders explain, in [0, 1].

    NaN where there are too few models for the confounders, or nothing is left that varies.
    """

    value: float
    p_value: float
    explained: float


def residual(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    confounders: Sequence[npt.ArrayLike],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Residual:
    """What is left between x and y, each (M,), given the confounders, each (M,).

    The p-value is of products whose signs are drawn (the wild bootstrap): each model keeps the size
    of its residuals, which is not alike over the confounder's range.
    """
    from scipy.stats import rankdata

    sides = np.stack([rankdata(np.asarray(side, dtype=np.float64)) for side in (x, y)], axis=1)
    columns = [np.asarray(each, dtype=np.float64) for each in confounders]
    basis = _basis(columns, len(sides))
    centred = sides - sides.mean(axis=0)
    left = sides - basis @ (basis.T @ sides)
    total = (centred**2).sum(axis=0)
    models, terms = basis.shape
    if models < MODELS_A_TERM * terms or not (total > 0).all():
        return Residual(float("nan"), float("nan"), float("nan"))
    explained = float(1 - (left[:, 0] ** 2).sum() / total[0])
    if not ((left**2).sum(axis=0) > 1e-9 * total).all():
        return Residual(float("nan"), float("nan"), explained)
    value = float(correlation(left[:, 0], left[:, 1]))
    # Residuals are smaller than errors where a model weighs much in the regression.
    leverage = np.clip((basis**2).sum(axis=1), 0, 1 - 1e-6)
    products = left.prod(axis=1) / (1 - leverage)
    signs = np.random.default_rng([seed, models]).choice([-1.0, 1.0], size=(draws, models))
    found = abs(signs @ products) >= abs(products.sum()) * (1 - 1e-12)
    return Residual(value, (1 + int(found.sum())) / (1 + draws), explained)


def _basis(confounders: list[FloatArray], models: int) -> FloatArray:
    """An orthonormal basis of what the confounders explain: as bent as the models allow."""
    for knots in range(KNOTS, FEWEST_KNOTS - 1, -1):
        basis, triangle = np.linalg.qr(_design(confounders, models, knots))
        # What other columns already hold adds rounding alone.
        basis = basis[:, abs(np.diag(triangle)) > 1e-9 * abs(triangle).max()]
        if MODELS_A_TERM * basis.shape[1] <= models:
            break
    return basis


def _design(confounders: list[FloatArray], models: int, knots: int) -> FloatArray:
    columns = [np.ones((models, 1))]
    for values in confounders:
        distinct = np.unique(values)
        if len(distinct) <= 2:
            # Two values have but one difference; a constant is no confounder.
            columns += [values[:, None]] * (len(distinct) - 1)
        else:
            columns.append(natural_spline(values, min(knots, len(distinct))))
    return np.concatenate(columns, axis=1)


def natural_spline(values: FloatArray, knots: int) -> FloatArray:
    """The basis of a natural cubic spline, less the constant: (M,) -> (M, knots − 1), linear beyond
    the outer knots (Hastie, Tibshirani & Friedman 2009, *The Elements of Statistical Learning*,
    eq. 5.4 and 5.5).
    """
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low)
    places = np.unique(np.quantile(np.unique(scaled), np.linspace(0, 1, knots)))
    last = places[-1]

    def cubic(knot: float) -> FloatArray:
        over = np.clip(scaled - knot, 0, None) ** 3 - np.clip(scaled - last, 0, None) ** 3
        slope: FloatArray = over / (last - knot)
        return slope

    inner = [cubic(knot) - cubic(places[-2]) for knot in places[:-2]]
    return np.stack([scaled, *inner], axis=1)
