"""Critical values of the studentized range, for many degrees of freedom at once.

``Q = (max − min of k standard normals) / sqrt(χ²_ν / ν)``. The distribution of the range is
tabulated once per k and then averaged over the χ factor, so that a grid of ν costs hardly more
than one value. Agrees with ``scipy.stats.studentized_range`` to 1e-5 relative.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.special import chdtri, ndtr

FloatArray = npt.NDArray[np.float64]

_LARGEST_RANGE = 20.0
_TAIL = 1e-13
_NODES = 400
_HALVINGS = 60
_INTERPOLATED = 65


@lru_cache(maxsize=8)
def _range_distribution(groups: int) -> CubicSpline:
    """P(range of k standard normals ≤ w) as a spline over w in [0, 20]."""
    nodes, weights = np.polynomial.legendre.leggauss(240)
    nodes, weights = 9 * nodes, 9 * weights
    widths = np.linspace(0, _LARGEST_RANGE, 801)
    below = ndtr(nodes) - ndtr(nodes - widths[:, None])
    density = np.exp(-(nodes**2) / 2) / np.sqrt(2 * np.pi)
    return CubicSpline(widths, groups * (below ** (groups - 1) * density) @ weights)


def critical_values(groups: int, freedom: npt.ArrayLike, level: float = 0.95) -> FloatArray:
    """The ``level`` quantile of the studentized range.

    Args:
        groups: k ≥ 2, the number of means compared.
        freedom: degrees of freedom ν ≥ 1, any shape; infinite ones count as 1e6.
        level: in (0, 1).

    Returns:
        The shape of ``freedom``. O(shape · nodes · halvings), some 2 ms a value.
    """
    spline = _range_distribution(groups)
    nu = np.minimum(np.atleast_1d(np.asarray(freedom, dtype=np.float64)), 1e6)
    # Over the logarithm of the χ factor the density is smooth and decays at both ends, where
    # the trapezoid rule converges faster than any power of the step.
    ends = [np.log(chdtri(nu, tail) / nu) / 2 for tail in (1 - _TAIL, _TAIL)]
    steps = np.linspace(0, 1, _NODES)
    logs = ends[0][:, None] + (ends[1] - ends[0])[:, None] * steps
    exponent = nu[:, None] * (logs - np.exp(2 * logs) / 2)
    weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    factor = np.exp(logs)

    low, high = np.zeros(len(nu)), np.full(len(nu), 1e4)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reached = spline(np.minimum(middle[:, None] * factor, _LARGEST_RANGE))
        above = (reached * weights).sum(axis=1) > level
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    values: FloatArray = ((low + high) / 2).reshape(np.shape(freedom))
    return values


def interpolated_critical_values(
    groups: int, freedom: npt.ArrayLike, level: float = 0.95
) -> FloatArray:
    """:func:`critical_values` for very many ν: a spline of their logarithm over 1/ν.

    Off by less than 1e-4 relative for ν ≥ 1. The spline is kept, so that other ν of as many groups
    cost nothing more.
    """
    nu = np.clip(np.asarray(freedom, dtype=np.float64), 1.0, 1e6)
    values: FloatArray = np.exp(_critical_spline(groups, level)(1 / nu))
    return values


@lru_cache(maxsize=8)
def _critical_spline(groups: int, level: float) -> CubicSpline:
    grid = 1e-6 + (1 - 1e-6) * np.linspace(0, 1, _INTERPOLATED)
    return CubicSpline(grid, np.log(critical_values(groups, 1 / grid, level)))
