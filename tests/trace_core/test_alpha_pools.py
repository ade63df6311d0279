"""α fitted by Kendall's τ-b against exact brute force, on 1,000 random pools of up to 60 models.

The brute force knows no formula of a crossing. It scales a pool to whole numbers and takes the
sign of each pair's difference in score at a rational α = p/q, that of p·ΔS + (q − p)·ΔE. The
difference is affine in α, so over ascending points its sign never turns back, and bisection finds
by such signs alone where it reaches 0 and where it leaves it. At some points of every pool the
signs of all pairs are taken besides.

A point where a pair crosses, and an end of [0, 1], belongs to no open interval: pairs tie there,
and τ-b may be higher than in the best interval. ``pytest -s`` prints how often it is.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from math import lcm, sqrt
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from trace_core.alpha import PairSweep

POOLS_PER_KIND = 200
MOST_MODELS = 60
GRID = [Fraction(k, 10_000) for k in range(10_001)]
KINDS = {"eighths": 8, "64ths": 64, "2^-20": 2**20, "floats": 0, "mixed": 8}


def column(kind: str, models: int, rng: np.random.Generator) -> np.ndarray:
    """Values in [0, 1]: on the kind's grid, any floats, or some of either."""
    steps, floats = KINDS[kind], rng.random(models)
    if not steps:
        return floats
    on_grid = rng.integers(0, steps + 1, models) / steps
    return np.where(rng.random(models) < 0.5, on_grid, floats) if kind == "mixed" else on_grid


def random_pool(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Stability, explainability and metric, shape (3, M). Some models stand twice; the metric
    follows a score, chance or something between, and may have few values.
    """
    models = int(rng.integers(2, MOST_MODELS + 1))
    S, E, chance = (column(kind, models, rng) for _ in range(3))
    copies, originals = rng.integers(0, models, (2, models // 10))
    S[copies], E[copies] = S[originals], E[originals]
    alpha, noise = rng.choice([0.0, 0.3, 0.5, 1.0]), rng.choice([0.0, 0.3, 1.0])
    metric = (1 - noise) * (alpha * S + (1 - alpha) * E) + noise * chance
    levels = rng.choice([0, 2, 10])
    return np.stack([S, E, np.round(metric * levels) if levels else metric])


@dataclass(frozen=True)
class Tally:
    """At each of n points: C − D, and the number of pairs untied in score."""

    balance: np.ndarray
    untied: np.ndarray

    def better_than(self, balance: int, untied: int) -> np.ndarray:
        """Where τ-b is higher: x/√u > b/√d is x·|x|·d > b·|b|·u, in int64 as 1770³ < 2⁶³.

        The metric's factor of the denominator is the same everywhere and cancels.
        """
        x = self.balance
        return x * abs(x) * untied > balance * abs(balance) * self.untied


class Pairs:
    """All pairs of a pool in whole numbers: differences in S and in E, sign of that in the metric.

    A pair's models stand in the order in which their difference in score doesn't fall with α.
    """

    def __init__(self, pool: np.ndarray) -> None:
        ratios = [float(value).as_integer_ratio() for value in pool[:2].ravel()]
        factor = lcm(*(denominator for _, denominator in ratios))
        whole = np.array([n * (factor // d) for n, d in ratios], object).reshape(2, -1)
        i, j = np.triu_indices(pool.shape[1], 1)
        dS, dE = whole[:, i] - whole[:, j]
        turn = np.where(dS >= dE, 1, -1)
        self.dS, self.dE = dS * turn, dE * turn
        self.metric = np.sign(pool[2, i] - pool[2, j]).astype(int) * turn
        self.distinct = int(np.count_nonzero((dS != 0) | (dE != 0)))

    def difference(self, p: Any, q: Any) -> np.ndarray:
        """The difference in score of each pair at its α = p/q, times q and the pool's factor."""
        return p * self.dS + (q - p) * self.dE

    def turns(self, points: list[Fraction]) -> list[np.ndarray]:
        """Of the ascending points, how many lie where each pair's difference is < 0, and is ≤ 0."""
        p = np.array([point.numerator for point in points], object)
        q = np.array([point.denominator for point in points], object)
        found = []
        for holds in (np.less, np.less_equal):
            low, high = np.zeros(len(self.dS), int), np.full(len(self.dS), len(points))
            while (open_ := low < high).any():
                middle = np.minimum((low + high) // 2, len(points) - 1)
                before = holds(self.difference(p[middle], q[middle]), 0).astype(bool)
                low = np.where(open_ & before, middle + 1, low)
                high = np.where(open_ & ~before, middle, high)
            found.append(low)
        return found

    def tally(self, points: list[Fraction], rng: np.random.Generator) -> Tally:
        """C − D and untied pairs at the ascending points; checked on three of them in full."""
        balance, tied = np.zeros((2, len(points) + 1), int)
        balance[0] = -self.metric.sum()
        for turn, sign in zip(self.turns(points), (1, -1), strict=True):
            np.add.at(balance, turn, self.metric)
            np.add.at(tied, turn, sign)
        found = Tally(balance.cumsum()[:-1], len(self.dS) - tied.cumsum()[:-1])
        for k in rng.integers(0, len(points), 3):
            sign = np.sign(self.difference(points[k].numerator, points[k].denominator)).astype(int)
            assert (sign @ self.metric, np.count_nonzero(sign)) == (
                found.balance[k],
                found.untied[k],
            )
        return found


def check_every_interval(sweep: PairSweep, pairs: Pairs, rng: np.random.Generator) -> Tally:
    """Points and intervals, best and ties, against brute force; the tally at points and midpoints
    by turns.
    """
    middles = [(a + b) / 2 for a, b in pairwise(sweep.points)]
    points = [*chain(*zip(sweep.points, middles, strict=False)), sweep.points[-1]]
    reach, leave = pairs.turns(points)
    turns_at_a_point = (reach < leave) | (reach == 0) | (reach == len(points))
    assert turns_at_a_point.all(), "a crossing is missing"
    tally = pairs.tally(points, rng)
    inside = tally.balance[1::2]
    assert (tally.untied[1::2] == pairs.distinct).all()
    assert (tally.untied[2:-1:2] < pairs.distinct).all(), "no pair crosses at some crossing"
    assert (2 * tally.balance[2:-1:2] == inside[:-1] + inside[1:]).all()
    assert (sweep.balances() == inside).all()

    spans = [
        (b - a, -a)
        for (a, b), balance in zip(pairwise(sweep.points), inside, strict=True)
        if balance == inside.max()
    ]
    width, start = max(spans)
    fit = sweep.fit()
    assert (fit.start, fit.stop, fit.alpha) == (-start, width - start, width / 2 - start)
    return tally


def check_tau(sweep: PairSweep, pool: np.ndarray) -> None:
    """τ-b as a float against scipy's, which is given the places of exact scores."""
    fit = sweep.fit()
    scores = [fit.alpha * Fraction(s) + (1 - fit.alpha) * Fraction(e) for s, e in pool[:2].T]
    place = {score: k for k, score in enumerate(sorted(set(scores)))}
    tau = kendalltau([place[score] for score in scores], pool[2]).statistic
    assert np.isnan(tau) if fit.tau is None else fit.tau == pytest.approx(tau, abs=1e-12)


def check_a_refit(sweep: PairSweep, pool: np.ndarray, rng: np.random.Generator) -> None:
    """Leaving a pair out against a sweep of the others, which is itself held to brute force."""
    if sweep.models > 3:
        i, j = (int(model) for model in rng.choice(sweep.models, 2, replace=False))
        rest = PairSweep(*np.delete(pool, [i, j], axis=1))
        assert sweep.best(without=(i, j)) == rest.best()


class Outside:
    """What points outside every open interval, where pairs tie, make of τ-b."""

    def __init__(self) -> None:
        self.points = self.pools = 0
        self.gains: list[float] = []

    def add(self, tally: Tally, at: slice, best: int, pairs: Pairs) -> None:
        here = Tally(tally.balance[at], tally.untied[at])
        better = here.better_than(best, pairs.distinct)
        scale = sqrt(np.count_nonzero(pairs.metric) or 1)
        gains = here.balance[better] / np.sqrt(here.untied[better]) - best / sqrt(pairs.distinct)
        self.points += int(np.count_nonzero(here.untied < pairs.distinct))
        self.pools += int(better.any())
        self.gains += (gains / scale).tolist()

    def __str__(self) -> str:
        most = max(self.gains, default=0.0)
        return (
            f"{self.points}, {len(self.gains)} with a higher τ-b than the best interval "
            f"(in {self.pools} pools, by {most:.3f} at most)"
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_best_interval_is_that_of_brute_force(kind: str) -> None:
    rng = np.random.default_rng([20260101, list(KINDS).index(kind)])
    crossings, ends, on_grid = Outside(), Outside(), Outside()
    for _ in range(POOLS_PER_KIND):
        pool = random_pool(kind, rng)
        sweep, pairs = PairSweep(*pool), Pairs(pool)
        tally = check_every_interval(sweep, pairs, rng)
        best = int(tally.balance[1::2].max())
        check_tau(sweep, pool)
        check_a_refit(sweep, pool, rng)

        grid = pairs.tally(GRID, rng)
        inside = grid.untied == pairs.distinct
        assert not grid.better_than(best, pairs.distinct)[inside].any()
        # At a crossing only the denominator can help; at an end C − D can be higher too.
        assert (grid.balance[1:-1] <= best).all()

        crossings.add(tally, slice(2, -1, 2), best, pairs)
        on_grid.add(grid, slice(1, -1), best, pairs)
        ends.add(tally, slice(0, None, len(tally.balance) - 1), best, pairs)
    print(f"\n{kind}, {POOLS_PER_KIND} pools: crossings: {crossings}")
    print(f"  crossings that the grid hits: {on_grid}")
    print(f"  ends of [0, 1] where pairs tie: {ends}")
