"""α fitted to performance by Kendall's τ-b, and the leave-pair-out evidence for it.

Between two neighbouring crossings of score lines no pair of models changes its order, so τ-b
against a metric is constant there. Inside an open interval a pair is tied in score only if its
two lines are identical, for every α alike: the denominator of τ-b,
``sqrt((n₀ − n₁)(n₀ − n₂))``, is one number over all open intervals, and the best interval is the
one of the largest *integer* C − D (concordant less discordant pairs). No float is compared.

No α inside an open interval is better than the best interval, but the crossings and the ends 0 and
1 lie in none. A crossing may be better: C − D is there the mean of its two neighbours', but the t
pairs that cross are tied in score, and τ-b grows by up to sqrt((n₀ − n₁) / (n₀ − n₁ − t)), as where
they are tied in the metric too. At an end C − D itself may be higher. Neither is a candidate
(design §4.6): an α that is good only by the ties it makes says nothing of those on either side.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from trace_core.alpha_lines import IntArray, columns, crossings, vector

MINIMUM_MODELS = 20
# Well above the rounding of a difference of two floats in [0, 1], far below any width that counts.
_WIDTH_ROUNDING = 1e-15


@dataclass(frozen=True)
class Fit:
    """The open interval of α that agrees best with a metric.

    ``alpha`` is its midpoint; ``tau`` is τ-b there, in [−1, 1], None where a side is constant.
    """

    alpha: Fraction
    start: Fraction
    stop: Fraction
    tau: float | None


@dataclass(frozen=True)
class Evidence:
    """How well a fitted α orders two models it hasn't seen, on the test metric.

    ``concordance`` in [−1, 1] is the mean over ``pairs`` pairs; 0 is what chance yields.
    ``low`` and ``high`` bound it at 95%.
    """

    concordance: float
    low: float
    high: float
    pairs: int


class PairSweep:
    """Concordance of all pairs with a metric, on every open interval of α.

    Holds the sum over pairs, and over the pairs of each model, so that leaving models out is a
    subtraction. Memory O(M·K) and building O(M² log M + M·K) for M models and K intervals,
    K ≤ 1 + M(M − 1)/2.
    """

    def __init__(
        self, stability: npt.ArrayLike, explainability: npt.ArrayLike, metric: npt.ArrayLike
    ) -> None:
        """Sweep the pool's crossings once.

        Args:
            stability: shape (M,).
            explainability: shape (M,).
            metric: shape (M,), higher is better.

        Raises:
            TraceError: for unequal lengths, or values that are not finite.
        """
        first, second = columns(stability, explainability)
        target = vector(metric, "the metric that α is fitted to", len(first))
        found = crossings(first, second)
        inner = list(dict.fromkeys(each.alpha for each in found))
        self.models = len(first)
        self.points = [Fraction(0), *inner, Fraction(1)]
        self._floats = np.array([float(point) for point in self.points])
        intervals = len(self.points) - 1

        by_stability = np.sign(np.subtract.outer(first, first)).astype(np.int64)
        by_explainability = np.sign(np.subtract.outer(second, second)).astype(np.int64)
        self.order = np.where(by_explainability == 0, by_stability, by_explainability)
        self.target = np.sign(np.subtract.outer(target, target)).astype(np.int64)
        self.agreement = self.order * self.target

        position = {alpha: index for index, alpha in enumerate(inner, start=1)}
        left = np.array([each.first for each in found], dtype=np.int64)
        right = np.array([each.second for each in found], dtype=np.int64)
        at = np.array([position[each.alpha] for each in found], dtype=np.int64)
        self.swap = np.full((self.models, self.models), intervals, dtype=np.int64)
        self.swap[left, right] = self.swap[right, left] = at

        change = -2 * self.agreement[left, right]
        steps = np.zeros((self.models, intervals), dtype=np.int64)
        self._swaps = np.zeros((self.models, intervals), dtype=np.int64)
        for member in (left, right):
            np.add.at(steps, (member, at), change)
            np.add.at(self._swaps, (member, at), 1)
        steps[:, 0] += self.agreement.sum(axis=1)
        self._per_model = steps.cumsum(axis=1)
        # Each pair stands in the sums of both its models.
        self._total = self._per_model.sum(axis=0) // 2
        self._all_swaps = self._swaps.sum(axis=0) // 2

    def balances(self) -> IntArray:
        """C − D on every open interval between neighbouring ``points``, in order: shape (K,)."""
        balances: IntArray = self._total.copy()
        return balances

    def _without(self, pair: tuple[int, int] | None) -> tuple[IntArray, IntArray]:
        """C − D on every interval, and the swaps at its left end, among the models kept."""
        if pair is None:
            return self._total, self._all_swaps.copy()
        i, j = pair
        agree = self._total - self._per_model[i] - self._per_model[j]
        swaps = self._all_swaps - self._swaps[i] - self._swaps[j]
        swap = self.swap[i, j]
        agree[:swap] += self.agreement[i, j]
        agree[swap:] -= self.agreement[i, j]
        if swap < len(swaps):
            swaps[swap] += 1
        return agree, swaps

    def best(self, without: tuple[int, int] | None = None) -> tuple[Fraction, Fraction, int]:
        """The open interval of the largest τ-b: the widest, and of equal widths the lowest.

        Every swap bounds an interval, that of a pair tied in the metric too. O(K).

        Args:
            without: a pair of models to leave out, with the crossings that are theirs alone.

        Returns:
            Start, stop, and C − D there.
        """
        agree, swaps = self._without(without)
        swaps[0] = 1
        starts = np.flatnonzero(swaps)
        values = agree[starts]
        chosen = np.flatnonzero(values == values.max())
        stops = np.append(starts[1:], len(swaps))
        width = self._floats[stops[chosen]] - self._floats[starts[chosen]]
        near = chosen[width >= width.max() - _WIDTH_ROUNDING]
        spans = [(self.points[starts[k]], self.points[stops[k]]) for k in near]
        start, stop = max(spans, key=lambda span: (span[1] - span[0], -span[0]))
        return start, stop, int(values[chosen[0]])

    def fit(self) -> Fit:
        """The α of the whole pool; see :meth:`best`."""
        start, stop, balance = self.best()
        upper = np.triu_indices(self.models, 1)
        untied_scores = int(np.count_nonzero(self.order[upper]))
        untied_metric = int(np.count_nonzero(self.target[upper]))
        product = untied_scores * untied_metric
        return Fit(
            (start + stop) / 2, start, stop, balance / math.sqrt(product) if product else None
        )

    def order_at(self, alpha: Fraction, i: int, j: int) -> int:
        """The sign of model i's score less model j's at α, exactly."""
        swap = self.swap[i, j]
        before = int(self.order[i, j])
        if swap == len(self.points) - 1 or alpha < self.points[swap]:
            return before
        return 0 if alpha == self.points[swap] else -before


def leave_pair_out(sweep: PairSweep, test: npt.ArrayLike) -> Evidence | None:
    """The evidence for a fitted α: fit it without a pair, ask how it orders that pair.

    The estimate is the mean concordance of the left-out pairs with the test metric: +1 for the
    same order, −1 for the opposite, 0 for equal scores. Pairs equal in the test metric have no
    order to find and are left out. Pairs that share a model are dependent, so the interval
    comes from the delete-one-model jackknife of a statistic over pairs (Arvesen, 1969, Ann.
    Math. Statist. 40; Snijders and Borgatti, 1999, Connections 22), with Student's t on M − 1
    degrees of freedom. It holds the pairs' outcomes and doesn't fit again without the model:
    simulated on pools of 20 to 60 whose scores said nothing of performance, it lay above 0 in 2
    to 5% of them.

    It is evidence that the score at a fitted α orders models as the test metric does, and none
    that another α would do worse: where both components follow performance, every α passes.

    Args:
        sweep: the pool, M models, and the validation metric that α is fitted to.
        test: shape (M,), the test metric, higher is better.

    Returns:
        None if the test metric is the same for (almost) all models, so that some model's
        removal leaves no pair. O(M²·K).

    Raises:
        TraceError: for another length than M, or values that are not finite.
    """
    values = vector(test, "the test metric", sweep.models)
    outcome = np.zeros((sweep.models, sweep.models))
    counted = np.not_equal.outer(values, values)
    for i, j in zip(*np.nonzero(np.triu(counted)), strict=True):
        start, stop, _ = sweep.best(without=(int(i), int(j)))
        sign = sweep.order_at((start + stop) / 2, int(i), int(j))
        outcome[i, j] = outcome[j, i] = sign * np.sign(values[i] - values[j])
    pairs = int(np.count_nonzero(counted)) // 2
    pairs_kept = pairs - np.count_nonzero(counted, axis=1)
    if sweep.models < 3 or not pairs_kept.all():
        return None
    total = outcome.sum() / 2
    estimate = float(total / pairs)
    without = (total - outcome.sum(axis=1)) / pairs_kept
    spread = float(np.sum((without - without.mean()) ** 2))
    error = math.sqrt((sweep.models - 1) / sweep.models * spread)
    half = _student_quantile(0.975, sweep.models - 1) * error
    return Evidence(estimate, max(-1.0, estimate - half), min(1.0, estimate + half), pairs)


def _student_quantile(probability: float, freedom: int) -> float:
    """Student's t quantile by the Cornish–Fisher series (Abramowitz and Stegun, 26.7.5).

    Off by less than 1e-4 from 15 degrees of freedom up at 97.5%: this module does without scipy.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))
