"""Change points of series that drift and are noisy: where their level jumps.

A series x is a level μ plus noise, xₜ = μₜ + εₜ, and the level drifts as a random walk, μₜ = μₜ₋₁ +
ωₜ, but at a change point it starts anew. With variances σₜ² of ε and qₜ of ω, a segment costs

    C(a, b) = min over μ of Σ (xₜ − μₜ)²/σₜ² over a ≤ t < b, plus Σ (μₜ − μₜ₋₁)²/qₜ over a < t < b,

and the change points minimise the sum of the segments' costs plus a penalty for each change: the
model of Romano, Rigaill, Runge & Fearnhead (JASA 2022, arXiv 2005.01379) without its autoregressive
part, in the segments' form that PELT (Killick, Fearnhead & Eckley, JASA 2012) asks for. The drift
is the trend, fitted anew in each segment; the penalty is that of a jump which neither drift nor
noise accounts for.

Trainings drift fast at first and slowly later, and are noisier at some times than at others, so
the two variances are those of the *preceding* quarter of the series (robust, and never under half
of what they are in all of it). A jump is thus measured against what the series did before it, and
the transient at the start of a training is no row of changes.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from trace_core.statistics import BoolArray, FloatArray, IntArray

BLOCKS = 100
"""Blocks of observations, each of which is reduced to its median: the resolution in time."""
LEAST = 24
"""Blocks with a value under which a series tells nothing."""
SHORTEST = 0.05
"""Share of the series that a segment has at the least."""
PRECEDING = 25
"""Known blocks before a block from which its variances are estimated."""
FEWEST = 8
"""Known blocks that an estimate rests on at the least."""
FLOOR = 0.5
"""Share of the variances in all of the series under which local ones don't fall."""
RESOLUTION = 1e-6
"""Standard deviation that every block has: what rounding does to a constant series."""
LOWER_SQUARES = 0.3685
"""Mean of the lower three quarters of the squares of standard normal values."""
PENALTIES = (8.0, 10.0)
"""Penalty of a change with one series, and with two.

The least whole number at which plain trainings have at most 2/3 of a false alarm each. Those of two
independent draws of trainings (mlp, gru, transformer on four tasks; four optimisers; constant,
cosine and warm-up + cosine schedules; 200 to 2,000 steps), the second by
benchmarks/phase_penalty.py, had:

    penalty                             6     7     8     9    10    11    12
    log(r/η) alone, 175 trainings    0.99  0.68  0.53  0.40  0.32  0.26  0.21
    log(r/η) alone, 140 trainings    0.91  0.60  0.50  0.40  0.29  0.22  0.18
    with the Gini index, 175         1.96  1.45  1.07  0.82  0.62  0.51  0.37
    with the Gini index, 140         1.99  1.39  0.96  0.77  0.59  0.43  0.33

With one series 7 or 8 comes of it, of which the safer is taken. On 280 trainings of other seeds,
200 of them of other architectures or tasks: 0.73 false alarms in a plain one, 134 of 140 planted
changes found.
"""


def change_points(series: FloatArray) -> IntArray:
    """Return the observations at which a new segment begins, rising, without the first.

    series: (S, O), one or two series of O observations; what is not finite is not known and tells
    nothing. There are no change points where no series has `LEAST` blocks with a known value.

    They are exact to a block, `BLOCKS` of which make the series, and lie at least `SHORTEST` of it
    apart. Takes O(S·O log(O/BLOCKS)) time for the blocks and O(S·BLOCKS²) for the rest.
    """
    size, telling, costs = block_costs(series)
    return size * split(costs, PENALTIES[telling - 1]) if telling else np.zeros(0, np.int64)


def block_costs(series: FloatArray) -> tuple[int, int, FloatArray]:
    """Return the observations in a block, how many of the series tell something, and what each
    segment of the m blocks costs in these: (m + 1, m + 1).
    """
    observations = series.shape[1]
    size = max(1, math.ceil(observations / BLOCKS))
    medians = [_block_medians(values, size) for values in series]
    telling = [values for values in medians if np.isfinite(values).sum() >= LEAST]
    blocks = math.ceil(observations / size)
    costs = sum((_series_costs(values) for values in telling), np.zeros((blocks + 1, blocks + 1)))
    return size, len(telling), costs


def _block_medians(values: FloatArray, size: int) -> FloatArray:
    """Median of what is finite among each ``size`` values, NaN where nothing is."""
    blocks = math.ceil(len(values) / size)
    padded = np.full(blocks * size, np.nan)
    padded[: len(values)] = np.where(np.isfinite(values), values, np.nan)
    rising = np.sort(padded.reshape(blocks, size), axis=1)
    known = np.isfinite(rising).sum(axis=1)
    rows = np.arange(blocks)
    # Where none is known the last is taken, a NaN.
    medians: FloatArray = (
        rising[rows, (known - 1) // 2] + rising[rows, known // 2 - (known == 0)]
    ) / 2
    return medians


def _series_costs(values: FloatArray) -> FloatArray:
    """Cost of each segment of one series of blocks. Those that are not known cost nothing and are
    passed over: the level drifts from one known block to the next.
    """
    known: BoolArray = np.isfinite(values)
    place = np.concatenate([[0], np.cumsum(known)])
    costs = segment_costs(values[known], *variances(values[known]))
    first, last = np.meshgrid(place, place, indexing="ij")
    return costs[np.minimum(first, last), last]


def segment_costs(values: FloatArray, noise: FloatArray, drift: FloatArray) -> FloatArray:
    """Return C(a, b) of each segment a ≤ t < b at [a, b]: (m + 1, m + 1), 0 where b ≤ a.

    values, noise, drift: (m,) series, variance σ² > 0 of its noise, variance q ≥ 0 of the drift
    from the block before. C is the sum of squares of the standardised innovations of a Kalman
    filter that starts at a with a level of which nothing is known. Each block is a step of all the
    filters that have started by then.
    """
    m = len(values)
    costs = np.zeros((m + 1, m + 1))
    level, variance, cost = np.zeros((3, m))
    for t in range(m):
        level[t], variance[t] = values[t], noise[t]
        before = variance[:t] + drift[t]
        spread = before + noise[t]
        innovation = values[t] - level[:t]
        cost[:t] += innovation**2 / spread
        level[:t] += before / spread * innovation
        variance[:t] = before * noise[t] / spread
        costs[: t + 1, t + 1] = cost[: t + 1]
    return costs


def variances(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variances of the noise and of the drift at each of m ≥ `LEAST` blocks, from those before it:
    two of shape (m,).
    """
    local = np.empty((2, len(values)))
    for t in range(len(values)):
        stop = max(t, FEWEST)
        local[:, t] = _noise_and_drift(values[max(0, stop - PRECEDING) : stop])
    local = np.maximum(local, FLOOR * _noise_and_drift(values)[:, None])
    return local[0] + RESOLUTION**2 + 1e-6 * np.var(values), local[1]


def _noise_and_drift(values: FloatArray) -> FloatArray:
    """σ² and q of a level that drifts, from the mean of (xₜ₊ₖ − xₜ)², 2σ² + kq, at k = 1 and 4."""
    near, far = (_mean_of_squares(values[lag:] - values[:-lag]) for lag in (1, 4))
    drift = max(0.0, (far - near) / 3)
    return np.array([(near - drift) / 2, drift] if near > drift else [0.0, near])


def _mean_of_squares(differences: FloatArray) -> float:
    """Mean of the squares, from the lower three quarters of them, so that a jump doesn't enter."""
    squares = np.sort(np.square(differences))
    return float(squares[: math.ceil(0.75 * len(squares))].mean()) / LOWER_SQUARES


def split(costs: FloatArray, penalty: float) -> IntArray:
    """Return the blocks at which a new segment begins: those that minimise the costs, of shape
    (m + 1, m + 1), plus ``penalty`` for each.
    """
    import ruptures

    m = len(costs) - 1
    shortest = max(2, math.ceil(SHORTEST * m))
    search = ruptures.Pelt(custom_cost=_table()(), min_size=shortest, jump=1)
    ends: list[int] = search.fit_predict(costs[:-1], penalty)
    return np.array(ends[:-1], np.int64)


@cache
def _table() -> Any:
    """Return the class of a cost that was computed beforehand; made late, as ruptures takes a
    second to load.
    """
    from ruptures.base import BaseCost

    class Table(BaseCost):  # type: ignore[misc]
        model = "table"
        min_size = 1

        def fit(self, signal: FloatArray) -> Table:
            self.signal = signal
            return self

        def error(self, start: int, end: int) -> float:
            return float(self.signal[start, end])

    return Table
