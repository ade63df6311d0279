"""How sure a rank is: simultaneous differences of means, and whether there are any at all.

Every model is a group of replicates. A permutation test first asks whether the groups differ at
all; only then are pairs compared, all at once at a family-wise 5%, and a model's rank lies
between 1 + the number significantly better and M − the number significantly worse (the rank
interval of simultaneous comparisons; Chatbot Arena's, with differences in place of bounds).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial, prod

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc

from sweeps.ranking.studentized_range import critical_values, interpolated_critical_values

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

LEVEL = 0.05
PERMUTATIONS = 9_999
FEWEST_PERMUTATIONS, MOST_SHUFFLED = 999, 40_000_000
"""Of more than 4,000 trainings so many values are shuffled in all, which takes about a second: at
10,000 models the p-value is known to a half per cent.
"""
CHUNK_VALUES = 2_000_000
BLOCK_VALUES = 200_000
"""Pairs of models that are compared at once: what a processor's cache holds."""
# Differences this small against the values themselves are rounding, not differences.
ROUNDING = 1e-12


@dataclass(frozen=True)
class RankIntervals:
    """Rank bounds of M models, and the facts they rest on.

    ``low`` and ``high`` are ranks, 1 the best, in the order of the groups. ``method`` is
    ``tukey``, ``games-howell``, or ``none`` where nothing could be compared. ``p_value`` is
    that of the omnibus test, None if it could not be made; ``variances_p_value`` that of the
    Brown–Forsythe test, None likewise. ``distinguishable`` says whether the omnibus test found
    differences; without it every interval is [1, M].
    """

    low: IntArray
    high: IntArray
    method: str
    p_value: float | None
    variances_p_value: float | None
    distinguishable: bool


def rank_intervals(groups: Sequence[FloatArray], seed: int) -> RankIntervals:
    """Rank bounds of every group's mean, higher is better.

    Tukey–Kramer's differences, or Games–Howell's where a Brown–Forsythe test rejects equal
    variances at 5%. With fewer than two values in some group there is no spread to judge by,
    and every interval is full.

    Args:
        groups: M vectors of at least one finite value each.
        seed: of the permutations.

    Returns:
        Bounds with ``low ≤ rank of the mean ≤ high``. O(M² + permutations · values).
    """
    comparable = len(groups) > 1 and min(len(group) for group in groups) > 1
    return intervals_given(groups, omnibus_p_value(groups, seed) if comparable else None)


def intervals_given(groups: Sequence[FloatArray], p_value: float | None) -> RankIntervals:
    """`rank_intervals` from the omnibus test's p, None where nothing can be compared."""
    models = len(groups)
    low, high = np.ones(models, dtype=np.int64), np.full(models, models, dtype=np.int64)
    if p_value is None:
        return RankIntervals(low, high, "none", None, None, distinguishable=False)
    variances = brown_forsythe_p_value(groups)
    unequal = variances is not None and variances <= LEVEL
    method = "games-howell" if unequal else "tukey"
    distinguishable = p_value <= LEVEL
    if distinguishable and not unequal and len({len(group) for group in groups}) == 1:
        greater_ones, lesser_ones = _beside_even(groups)
        low += greater_ones
        high -= lesser_ones
    elif distinguishable:
        greater = _games_howell(groups) if unequal else _tukey_kramer(groups)
        step = max(1, BLOCK_VALUES // models)
        for begin in range(0, models, step):
            better = greater(slice(begin, begin + step))
            low += better.sum(axis=0)
            high[begin : begin + step] -= better.sum(axis=1)
    return RankIntervals(low, high, method, p_value, variances, distinguishable)


def omnibus_p_value(
    groups: Sequence[FloatArray], seed: int, permutations: int | None = None
) -> float:
    """Permutation test of a one-way layout: can the groups be told apart?

    The F statistic under random reassignment of all values to groups of the same sizes;
    p = (b + 1)/(n + 1) with b of n permutations at least as extreme (Phipson and Smyth, 2010,
    Stat. Appl. Genet. Mol. Biol. 9). F rises with the sum of squares between groups, as the
    total doesn't change, so that sum is what is compared.

    Args:
        groups: at least two vectors.
        seed: of the permutations.
        permutations: n; by default 9,999, of very many values fewer, but 999 at least.

    Returns:
        In (0, 1].
    """
    values = np.concatenate(list(groups))
    if permutations is None:
        affordable = max(FEWEST_PERMUTATIONS, MOST_SHUFFLED // len(values))
        permutations = min(PERMUTATIONS, affordable)
    centred = values - values.mean()
    sizes = np.array([len(group) for group in groups])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    are_pairs = bool((sizes == 2).all())
    total = float(centred @ centred)
    if total <= (ROUNDING * float(np.abs(values).max())) ** 2 * len(values):
        return 1.0

    def between(rows: FloatArray) -> FloatArray:
        # Of pairs the same sums, in a quarter of the time.
        even, odd = rows[:, ::2], rows[:, 1::2]
        sums = even + odd if are_pairs else np.add.reduceat(rows, starts, axis=1)
        squares: FloatArray = (sums**2 / sizes).sum(axis=1)
        return squares

    observed = float(between(centred[None])[0])
    rng = np.random.default_rng(seed)
    extreme, left = 0, permutations
    while left:
        rows = min(left, max(1, CHUNK_VALUES // len(values)))
        shuffled = rng.permuted(np.tile(centred, (rows, 1)), axis=1)
        extreme += int(np.count_nonzero(between(shuffled) >= observed - ROUNDING * total))
        left -= rows
    return (extreme + 1) / (permutations + 1)


def smallest_p_value(sizes: Sequence[int]) -> float:
    """The smallest p that the exact permutation test can reach with groups of these sizes.

    Relabelling groups of one size leaves F as it is, so that each partition of the values
    counts once for every such relabelling.
    """
    arrangements = factorial(sum(sizes)) // prod(factorial(size) for size in sizes)
    alike = prod(factorial(sizes.count(size)) for size in set(sizes))
    return alike / arrangements


def brown_forsythe_p_value(groups: Sequence[FloatArray]) -> float | None:
    """Test of equal variances: an analysis of variance of |x − median of the group|.

    Brown and Forsythe, 1974, J. Am. Stat. Assoc. 69, without the distance that is 0 by
    construction in every group of odd size (Hines and Hines, 2000, Biometrics 56). With it, three
    replicates never reject: simulated, five models of which one spreads tenfold, 2% against 37%
    (and 4% where all spread alike), while Tukey's family-wise error was 18%, Games–Howell's 7%.

    Returns:
        In [0, 1]; None with fewer than three values in some group, where the two distances from
        the median are equal by construction and the test would always reject.
    """
    if min(len(group) for group in groups) < 3:
        return None
    distances = [np.sort(np.abs(group - np.median(group)))[len(group) % 2 :] for group in groups]
    means, sizes, pooled = _moments(distances)
    grand = float(means @ sizes / sizes.sum())
    between = float(sizes @ (means - grand) ** 2) / (len(groups) - 1)
    scale = max(float(np.abs(group).max()) for group in groups)
    if between <= (ROUNDING * scale) ** 2:
        return 1.0
    if pooled <= (ROUNDING * scale) ** 2:
        return 0.0
    return float(fdtrc(len(groups) - 1, sizes.sum() - len(groups), between / pooled))


def tukey_kramer(groups: Sequence[FloatArray]) -> BoolArray:
    """Which mean is significantly greater than which, one variance for all.

    Tukey (1953) with Kramer's (1956, Biometrics 12) unequal sizes: a difference is significant
    if it exceeds q·sqrt(s²/2 · (1/nᵢ + 1/nⱼ)), q the 95% quantile of the studentized range of M
    means on N − M degrees of freedom.

    Returns:
        Shape (M, M), true at [i, j] where i is significantly greater than j.
    """
    return _tukey_kramer(groups)(slice(None))


def _tukey_kramer(groups: Sequence[FloatArray]) -> Callable[[slice], BoolArray]:
    """`tukey_kramer`, as a function that gives some of its rows."""
    means, sizes, pooled = _moments(groups)
    critical = critical_values(len(groups), sizes.sum() - len(groups), 1 - LEVEL)

    def greater(rows: slice) -> BoolArray:
        error = np.sqrt(pooled / 2 * np.add.outer(1 / sizes[rows], 1 / sizes))
        return _exceeds(means, rows, critical * error)

    return greater


def _beside_even(groups: Sequence[FloatArray]) -> tuple[IntArray, IntArray]:
    """How many means `tukey_kramer` finds greater than each, and how many less, of groups of one
    size, for which one difference is the least. O(M log M).
    """
    means, sizes, pooled = _moments(groups)
    critical = critical_values(len(groups), sizes.sum() - len(groups), 1 - LEVEL)
    least = critical * np.sqrt(pooled / 2 * (1 / sizes[0] + 1 / sizes[0]))
    least = max(float(least), ROUNDING * float(np.abs(means).max()))
    return _exceeded(-means, least), _exceeded(means, least)


def _exceeded(means: FloatArray, least: float) -> IntArray:
    """How many means each one exceeds by more than ``least``: found by halving, as a difference of
    floats never rises where what is taken away does.
    """
    rising = np.sort(means)
    low, high = np.zeros(len(means), dtype=np.int64), np.full(len(means), len(means))
    while (searched := low < high).any():
        middle = (low + high) // 2
        exceeds = searched & (means - rising[np.minimum(middle, len(means) - 1)] > least)
        low, high = np.where(exceeds, middle + 1, low), np.where(exceeds, high, middle)
    return low


def games_howell(groups: Sequence[FloatArray]) -> BoolArray:
    """Which mean is significantly greater than which, each group with a variance of its own.

    Games and Howell, 1976, J. Educ. Stat. 1: as Tukey–Kramer with the pair's own variances and
    Welch's degrees of freedom.

    Returns:
        Shape (M, M), true at [i, j] where i is significantly greater than j.
    """
    return _games_howell(groups)(slice(None))


def _games_howell(groups: Sequence[FloatArray]) -> Callable[[slice], BoolArray]:
    """`games_howell`, as a function that gives some of its rows."""
    means, sizes, _ = _moments(groups)
    squares = np.array([group.var(ddof=1) for group in groups]) / sizes
    spread = squares**2 / (sizes - 1)

    def greater(rows: slice) -> BoolArray:
        error = np.add.outer(squares[rows], squares)
        divisor = np.add.outer(spread[rows], spread)
        flat = divisor == 0
        # Two groups without any spread need no critical value; any ν will do for them.
        freedom = np.where(flat, sizes.sum(), error**2 / np.where(flat, 1.0, divisor))
        critical = interpolated_critical_values(len(groups), freedom, 1 - LEVEL)
        return _exceeds(means, rows, critical * np.sqrt(error / 2))

    return greater


def _moments(groups: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray, float]:
    """Means, sizes, and the pooled variance."""
    means = np.array([group.mean() for group in groups])
    sizes = np.array([len(group) for group in groups], dtype=np.float64)
    squares = sum(
        float(((group - mean) ** 2).sum()) for group, mean in zip(groups, means, strict=True)
    )
    return means, sizes, squares / (float(sizes.sum()) - len(groups))


def _exceeds(means: FloatArray, rows: slice, least: FloatArray) -> BoolArray:
    floor = ROUNDING * float(np.abs(means).max())
    exceeds: BoolArray = np.subtract.outer(means[rows], means) > np.maximum(least, floor)
    return exceeds
