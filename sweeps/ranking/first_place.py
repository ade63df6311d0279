"""How likely each model is first: posterior draws of shrunken means.

The model means are shrunken towards their common mean by empirical Bayes (Efron and Morris,
1975, J. Am. Stat. Assoc. 70): variance within models pooled over them, variance between models
by the method of moments. Without shrinkage the luckiest model of many would look certain.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trace_core.alpha import AlphaChoice, PairSweep, entropy_alpha, std_alpha

FloatArray = npt.NDArray[np.float64]

_DRAWS = 20_000
# Of more than 2,000 models fewer: a probability is then known to less than a hundredth.
_FEWEST_DRAWS, _MOST_DRAWN = 2_000, 40_000_000
_DRAWS_AT_ONCE = 2_000
_VALUES_AT_ONCE = 2_000_000
# Refitting α by Kendall's τ costs O(M² log M) a draw, where a formula costs O(M).
_PAIRS_REFITTED = 500_000
_FEWEST_REFITS, _MOST_REFITS = 50, 1_000


def probability_first(
    groups: Sequence[FloatArray], choice: AlphaChoice, goodness: FloatArray, seed: int
) -> FloatArray:
    """The probability that each model is first at the common α.

    An α taken from the pool is taken anew from every draw. A refit by Kendall's τ holds the
    metric as observed, and has 50 to 1,000 draws, fewer for more models; all else has 20,000, of
    more than 2,000 models fewer.

    Args:
        groups: M ≥ 2 arrays of shape (replicates, 2): what α weighs, and what 1 − α weighs;
            more replicates than models in all.
        choice: the common α.
        goodness: shape (M,), the metric that α was fitted to, higher is better.
        seed: of the draws.

    Returns:
        Shape (M,), sum 1.
    """
    rng = np.random.default_rng(seed)
    if choice.depends_on_pool:
        posterior = ShrunkenMeans(groups)
    else:
        weights = np.array([[choice.alpha], [1 - choice.alpha]])
        posterior = ShrunkenMeans([group @ weights for group in groups])
    count = min(_DRAWS, max(_FEWEST_DRAWS, _MOST_DRAWN // len(groups)))
    if choice.source == "cross_validated":
        affordable = _PAIRS_REFITTED // len(groups) ** 2
        count = min(max(affordable, _FEWEST_REFITS), _MOST_REFITS)
    total = np.zeros(len(groups))
    at_once = min(_DRAWS_AT_ONCE, max(1, _VALUES_AT_ONCE // len(groups)))
    for begin in range(0, count, at_once):
        size = min(at_once, count - begin)
        drawn = posterior.draws(size, rng)
        total += size * share_of_first(_weighed(drawn, choice, goodness))
    return total / count


def _weighed(drawn: FloatArray, choice: AlphaChoice, goodness: FloatArray) -> FloatArray:
    """The scores of each draw, shape (draws, M), from its components, shape (draws, M, d)."""
    if not choice.depends_on_pool:
        return drawn[..., 0]
    first, second = drawn[..., 0], drawn[..., 1]
    if choice.source == "std":
        alphas = std_alpha(first, second)
    elif choice.source == "entropy":
        alphas = entropy_alpha(first, second)
    else:
        fits = (PairSweep(s, e, goodness).fit() for s, e in zip(first, second, strict=True))
        alphas = np.array([float(fit.alpha) for fit in fits])
    scores: FloatArray = alphas[:, None] * first + (1 - alphas[:, None]) * second
    return scores


class ShrunkenMeans:
    """Posterior of M models' mean vectors, given replicates of d components.

    Normal within and between; the estimated variances and the common mean are taken as known.
    """

    def __init__(self, groups: Sequence[FloatArray]) -> None:
        """Estimate the variances.

        Args:
            groups: M ≥ 2 arrays of shape (replicates ≥ 1, d), with more values than models in
                all.
        """
        sizes = np.array([len(group) for group in groups], dtype=np.float64)
        means = np.stack([group.mean(axis=0) for group in groups])
        residuals = np.concatenate([g - m for g, m in zip(groups, means, strict=True)])
        models, total = len(groups), float(sizes.sum())
        within = residuals.T @ residuals / (total - models)
        centred = means - sizes @ means / total
        spread = (centred * sizes[:, None]).T @ centred / (models - 1)
        typical = (total - float(sizes @ sizes) / total) / (models - 1)
        between = _positive((spread - within) / typical)
        centre = means.mean(axis=0)

        self._means = np.empty_like(means)
        self._roots = np.empty((models, *within.shape))
        for size in np.unique(sizes):
            weight = between @ np.linalg.pinv(between + within / size)
            members = sizes == size
            self._means[members] = centre + (means[members] - centre) @ weight.T
            self._roots[members] = _root(_positive(between - weight @ between))

    def draws(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Posterior draws, shape (count, M, d)."""
        noise = rng.standard_normal((count, *self._means.shape))
        drawn: FloatArray = self._means + np.einsum("mij,cmj->cmi", self._roots, noise)
        return drawn


def share_of_first(scores: FloatArray) -> FloatArray:
    """How often each model has the highest score.

    Args:
        scores: shape (draws, M).

    Returns:
        Shape (M,), sum 1. Models that tie in a draw share it evenly.
    """
    first = scores == scores.max(axis=1, keepdims=True)
    shares: FloatArray = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def _positive(matrix: FloatArray) -> FloatArray:
    """The nearest symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    nearest: FloatArray = (vectors * np.maximum(values, 0)) @ vectors.T
    return nearest


def _root(matrix: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(matrix)
    root: FloatArray = vectors * np.sqrt(np.maximum(values, 0))
    return root
