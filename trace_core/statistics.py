"""The sufficient statistics: what is kept of one parameter tensor at one observed step.

With θ the parameters before the step, θ' after it, δ = θ' − θ, and c ≥ 0 the importance, each
statistic is a sum over the elements of a tensor in float64. They add up over tensors, layers and
the ranks of a distributed job, so every change rate and every concentration that rests on sums is a
pure function of them (design §4.1). What does not add up is kept beside them: displacements add up
over tensors but not over steps, and the exact Gini index and top mass of small nodes add up over
nothing.

A tensor that the optimiser doesn't own, or that has no gradient at a step (a frozen one has none),
is *inactive* there: all its sums, its count included, are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

STATISTICS_VERSION = 2
"""Rises when the meaning, order or number of the statistics changes; part of a training's identity.
"""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Array = NDArray[Any]


class Statistic(IntEnum):
    """Column of each sum in the last axis of a statistics array of shape (observations, tensors,
    columns).

    The columns from `DISPLACEMENT` on hold Σ(θ' − θ_anchor)², one per anchor (NaN until its anchor
    was passed).
    """

    COUNT = 0
    """Number of active elements."""
    ABS_THETA = 1
    """Σ|θ|"""
    SQ_THETA = 2
    """Σθ²"""
    ABS_DELTA = 3
    """Σ|δ|"""
    SQ_DELTA = 4
    """Σδ²"""
    THETA_DELTA = 5
    """Σθδ"""
    RATIO = 6
    """Σ|δ|/|θ| over the elements with θ ≠ 0"""
    ZEROS = 7
    """Number of elements with θ = 0"""
    SYMMETRIC = 8
    """Σ|δ|/(|θ| + |θ'|), with 0/0 = 0"""
    C = 9
    """Σc"""
    SQ_C = 10
    """Σc²"""
    C_LOG_C = 11
    """Σ c ln c, with 0 ln 0 = 0"""


DISPLACEMENT = len(Statistic)
"""First column after the sums: the displacement from the first anchor."""


def column_names(anchors: tuple[int, ...]) -> tuple[str, ...]:
    """Names of a statistics array's columns, such as ``abs_theta`` and ``displacement_from_0``."""
    return (
        *(s.name.lower() for s in Statistic),
        *(f"displacement_from_{anchor}" for anchor in anchors),
    )


def divide(numerator: ArrayLike, denominator: ArrayLike) -> FloatArray:
    """Elementwise quotient in float64, NaN where the denominator is 0; never warns."""
    top, bottom = np.broadcast_arrays(
        np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    )
    quotient = np.full(top.shape, np.nan)
    with np.errstate(all="ignore"):
        np.divide(top, bottom, out=quotient, where=bottom != 0)
    return quotient


def first_defined(series: Sequence[FloatArray]) -> FloatArray:
    """Of arrays of one shape, at each place the first value that isn't NaN."""
    found = series[0]
    for other in series[1:]:
        found = np.where(np.isnan(found), other, found)
    return found


def total(statistics: FloatArray, statistic: Statistic) -> FloatArray:
    """Sum of one statistic over the tensors: (observations, tensors, columns) → (observations,)."""
    summed: FloatArray = statistics[:, :, statistic].sum(axis=1)
    return summed
