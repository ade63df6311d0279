"""Kinds of change rate: how far a step moved the parameters, for their size (design §4.2).

Each kind maps statistics of shape (observations, tensors, columns) to one value ≥ 0 per
observation, NaN where it is undefined (nothing active, or every θ is 0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from trace_core.errors import require_known
from trace_core.statistics import FloatArray, IntArray, Statistic, divide, total


def elementwise(statistics: FloatArray) -> FloatArray:
    """Mean of |δ|/|θ| over the elements with θ ≠ 0: the article's printed formula (S1).

    It has no finite expectation when θ has density at 0, so that seeds scatter widely (design
    §3.3).
    """
    nonzero = total(statistics, Statistic.COUNT) - total(statistics, Statistic.ZEROS)
    return divide(total(statistics, Statistic.RATIO), nonzero)


def tensor_l1(statistics: FloatArray) -> FloatArray:
    """Mean of Σ|δ|/Σ|θ| over the tensors with Σ|θ| ≠ 0: what the article's code computes (S2)."""
    sizes = statistics[:, :, Statistic.ABS_THETA]
    usable = sizes != 0
    rates = divide(statistics[:, :, Statistic.ABS_DELTA], sizes)
    return divide(np.sum(rates, axis=1, where=usable), usable.sum(axis=1))


def global_l1(statistics: FloatArray) -> FloatArray:
    """Σ|δ|/Σ|θ| over all elements."""
    return divide(total(statistics, Statistic.ABS_DELTA), total(statistics, Statistic.ABS_THETA))


def rms(statistics: FloatArray) -> FloatArray:
    """‖δ‖/‖θ‖ over all elements; the root is taken last, of the summed squares."""
    return np.sqrt(
        divide(total(statistics, Statistic.SQ_DELTA), total(statistics, Statistic.SQ_THETA))
    )


def symmetric(statistics: FloatArray) -> FloatArray:
    """Mean of |δ|/(|θ| + |θ'|), 0/0 = 0, over all elements: in [0, 1] and safe at θ = 0."""
    return divide(total(statistics, Statistic.SYMMETRIC), total(statistics, Statistic.COUNT))


CHANGE_RATES: Mapping[str, Callable[[FloatArray], FloatArray]] = MappingProxyType(
    {kind.__name__: kind for kind in (elementwise, tensor_l1, global_l1, rms, symmetric)}
)


def left_out(kind: str, statistics: FloatArray) -> IntArray:
    """Return how much each observation left out of a kind: elements with θ = 0 (`elementwise`), or
    active tensors with Σ|θ| = 0 (`tensor_l1`); the other kinds leave nothing out. Shape
    (observations,).

    Raises TraceError for an unknown kind.
    """
    require_known(kind, CHANGE_RATES, "change rate")
    if kind == "elementwise":
        return total(statistics, Statistic.ZEROS).astype(np.int64)
    if kind == "tensor_l1":
        active = statistics[:, :, Statistic.COUNT] > 0
        skipped: IntArray = (active & (statistics[:, :, Statistic.ABS_THETA] == 0)).sum(axis=1)
        return skipped
    return np.zeros(len(statistics), np.int64)
