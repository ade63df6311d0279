"""Rank intervals at every α of a grid, so that a reader who turns α sees how sure each order is.

The same tests as `rank_intervals` makes at one α. A training's score is a line in α, and so is each
sum of a permutation: its sum of squares is a parabola, of which three coefficients give the
permutation test at every α, for the price of three.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeps.ranking.rank_intervals import (
    CHUNK_VALUES,
    PERMUTATIONS,
    ROUNDING,
    RankIntervals,
    intervals_given,
)

FloatArray = npt.NDArray[np.float64]

GRID = tuple(index / 100 for index in range(101))
MOST_MODELS = 300
"""Models of a pool; each pair is compared at each α, and of larger pools that takes too long."""


@dataclass(frozen=True)
class _Parabola:
    """a·α² + b·α + c, of one thing or of many: three arrays of one shape."""

    a: FloatArray
    b: FloatArray
    c: FloatArray

    def at(self, alpha: float) -> FloatArray:
        value: FloatArray = (self.a * alpha + self.b) * alpha + self.c
        return value


def intervals_over_alpha(
    parts: Sequence[FloatArray], seed: int, alphas: Sequence[float] = GRID
) -> list[RankIntervals]:
    """The rank intervals of every α.

    Args:
        parts: of each model, (replicates, 2): what α and what 1 − α weighs; finite.
        seed: of the permutations; the same as `rank_intervals`'.
        alphas: A values in [0, 1].

    Returns:
        A intervals, those that `rank_intervals` gives of the scores at each α. Nothing for more
        than `MOST_MODELS` models. O(A · M² + permutations · values).
    """
    if len(parts) > MOST_MODELS:
        return []
    comparable = len(parts) > 1 and min(len(each) for each in parts) > 1
    p_values = _omnibus(parts, seed, alphas) if comparable else [None] * len(alphas)
    weights = [np.array([alpha, 1 - alpha]) for alpha in alphas]
    return [
        intervals_given([part @ weight for part in parts], p_value)
        for weight, p_value in zip(weights, p_values, strict=True)
    ]


def _omnibus(parts: Sequence[FloatArray], seed: int, alphas: Sequence[float]) -> list[float | None]:
    """The omnibus permutation test of `rank_intervals` at every α."""
    values = np.concatenate(list(parts))
    centred = values - values.mean(axis=0)
    sizes = np.array([len(part) for part in parts])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def between(first: FloatArray, second: FloatArray) -> _Parabola:
        """Sums of squares between groups, of rows of values."""
        slope = np.add.reduceat(first - second, starts, axis=1)
        level = np.add.reduceat(second, starts, axis=1)
        return _Parabola(
            (slope * slope / sizes).sum(axis=1),
            2 * (slope * level / sizes).sum(axis=1),
            (level * level / sizes).sum(axis=1),
        )

    columns = centred.T
    observed = between(columns[:1], columns[1:])
    totals = [float(np.square(centred @ [alpha, 1 - alpha]).sum()) for alpha in alphas]
    rng = np.random.default_rng(seed)
    extreme = np.zeros(len(alphas), dtype=np.int64)
    left = PERMUTATIONS
    while left:
        rows = min(left, max(1, CHUNK_VALUES // len(values)))
        places = rng.permuted(np.tile(np.arange(len(values)), (rows, 1)), axis=1)
        found = between(columns[0][places], columns[1][places])
        for index, alpha in enumerate(alphas):
            least = observed.at(alpha)[0] - ROUNDING * totals[index]
            extreme[index] += int(np.count_nonzero(found.at(alpha) >= least))
        left -= rows
    largest = [float(np.abs(values @ [alpha, 1 - alpha]).max()) for alpha in alphas]
    flat = [
        total <= (ROUNDING * most) ** 2 * len(values)
        for total, most in zip(totals, largest, strict=True)
    ]
    return [
        1.0 if even else (int(times) + 1) / (PERMUTATIONS + 1)
        for even, times in zip(flat, extreme, strict=True)
    ]
