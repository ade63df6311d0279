"""How likely each model is first: posterior draws of shrunken means.

The model means are shrunken towards their common mean by empirical Bayes (Efron and Morris,
1975, J. Am. Stat. Assoc. 70): variance within models pooled over them, variance between models
by the method of moments. Without shrinkage the luckiest model of many would look certain.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


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
