"""Kinds of explainability index: how concentrated the importance is (design §4.4).

All but `article` are in [0, 1], higher is more concentrated, and NaN where undefined (no importance
at all, or fewer than two active elements). Four rest on sums and are exact. `gini` and `top_mass`
need the order of the elements: exact for fewer than `EXACT_BELOW` of them, from a histogram, with
an error bound, for more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from trace_core.histogram import Pooled
from trace_core.statistics import FloatArray, Statistic, divide, total

EXACT_BELOW = 4096
"""Active elements of a node (a tensor, a layer, the model) from which the histogram is used."""
ROUNDING = 2.0**-22
"""What the rounding of the histogram's sums to float32 can add to an error bound (four times
2^-24).
"""


def hoyer(n: FloatArray, c: FloatArray, sq_c: FloatArray, c_log_c: FloatArray) -> FloatArray:
    """(√N − Σc/√Σc²)/(√N − 1) (Hoyer 2004)."""
    return divide(np.sqrt(n) - divide(c, np.sqrt(sq_c)), np.sqrt(n) - 1)


def effective_sparsity(
    n: FloatArray, c: FloatArray, sq_c: FloatArray, c_log_c: FloatArray
) -> FloatArray:
    """1 − (Σc)²/(N Σc²): the share of parameters beyond the effective number of them."""
    return np.where(n > 1, 1 - divide(divide(c, sq_c) * c, n), np.nan)


def entropy(n: FloatArray, c: FloatArray, sq_c: FloatArray, c_log_c: FloatArray) -> FloatArray:
    """1 − H/ln N, H the entropy of c/Σc. It falls with N: never compare models of different size by
    it.
    """
    return 1 - divide(
        np.log(np.where(c > 0, c, np.nan)) - divide(c_log_c, c), np.log(np.maximum(n, 1))
    )


def article(n: FloatArray, c: FloatArray, sq_c: FloatArray, c_log_c: FloatArray) -> FloatArray:
    """1/N: the mean of the normalised importances, whatever they are (design §3.2)."""
    return divide(1.0, n)


FROM_SUMS: Mapping[str, Callable[[FloatArray, FloatArray, FloatArray, FloatArray], FloatArray]] = (
    MappingProxyType(
        {kind.__name__: kind for kind in (hoyer, effective_sparsity, entropy, article)}
    )
)


def from_sums(kind: str, statistics: FloatArray) -> FloatArray:
    """One of the `FROM_SUMS` kinds for statistics of shape (observations, tensors, columns):
    (observations,).
    """
    sums = (
        total(statistics, s)
        for s in (Statistic.COUNT, Statistic.C, Statistic.SQ_C, Statistic.C_LOG_C)
    )
    with np.errstate(all="ignore"):
        # Rounding may carry an index of equal importances just below 0.
        return np.clip(FROM_SUMS[kind](*sums), 0.0, 1.0)


def top_count(n: int) -> int:
    """Size of the top 1% of n elements, rounded up."""
    return -(-n // 100)


def exact(values: FloatArray) -> tuple[float, float]:
    """`gini` and `top_mass` of the values ≥ 0 themselves, shape (n,).

    Gini is Σ(2i − n − 1)c₍ᵢ₎/(nΣc) over the values in rising order: the mean absolute difference of
    two of them, drawn with replacement, over twice their mean (Hurley & Rickard, arXiv 0811.4706).
    """
    n, mass = len(values), float(values.sum())
    if n < 2 or not mass > 0 or not math.isfinite(mass):
        return math.nan, math.nan
    ordered = np.sort(values)
    weights = np.arange(1 - n, n, 2, dtype=np.float64)
    return float(weights @ ordered) / (n * mass), float(ordered[n - top_count(n) :].sum()) / mass


def node_members(layer_of: Sequence[int], block_of: Sequence[int]) -> list[list[int]]:
    """Tensors of each of the T + L + B + 1 nodes, given the layer and the block of each tensor: the
    tensors, the layers, the blocks, the whole.
    """
    count = len(layer_of)
    members: list[list[int]] = [[tensor] for tensor in range(count)]
    for part_of in (layer_of, block_of):
        first = len(members)
        members += [[] for _ in range(max(part_of) + 1)]
        for tensor, part in enumerate(part_of):
            members[first + part].append(tensor)
    return [*members, list(range(count))]


def exact_nodes(
    values: Mapping[int, FloatArray], counts: FloatArray, members: list[list[int]]
) -> FloatArray:
    """`exact` of every node with fewer than `EXACT_BELOW` active elements, NaN for the others:
    (nodes, 2).

    ``values`` holds the importances of each small active tensor, ``counts`` the active elements of
    every tensor.
    """
    nodes = np.full((len(members), 2), np.nan)
    for node, inside in enumerate(members):
        active = [tensor for tensor in inside if counts[tensor] > 0]
        if active and counts[active].sum() < EXACT_BELOW:
            nodes[node] = exact(np.concatenate([values[tensor] for tensor in active]))
    return nodes


def gini_from_histogram(pooled: Pooled) -> tuple[FloatArray, FloatArray]:
    """Gini index and its error bound, each of shape (H,); the true value lies within value ± bound.

    The bins don't overlap, so G is the Gini index of the bins' means plus Σ p_b s_b G_b, p_b and
    s_b the shares of elements and of importance, G_b the index within a bin. With mean m in a bin
    [l, u], G_b lies between 0 and W = (u − m)(m − l)/(m(u − l)), that of a two-point distribution
    at the edges; a uniform one at the bin's middle has two thirds of W, which is taken. W ≤ (√b −
    1)/(√b + 1) in a bin of ratio b.
    """
    n, mass = pooled.counts.sum(axis=1, keepdims=True), pooled.sums.sum(axis=1, keepdims=True)
    shares, masses = divide(pooled.counts, n), divide(pooled.sums, mass)
    means = divide(pooled.sums, pooled.counts)
    order = 2 * np.cumsum(shares, axis=1) - shares - 1
    with np.errstate(all="ignore"):
        # Written so that the limit of an infinite upper edge, 1 − l/m, comes out of it.
        reach = np.where(
            np.isinf(pooled.upper), 1.0, (pooled.upper - means) / (pooled.upper - pooled.lower)
        )
        spread = np.clip(reach * (1 - pooled.lower / means), 0.0, 1.0)
    # A lone element has no spread, nor have zeros.
    spread = np.where((pooled.counts > 1) & (means > 0), spread, 0.0)
    within = (shares * masses * spread).sum(axis=1)
    between = (order * masses).sum(axis=1)
    return np.clip(between + within * (2 / 3), 0.0, 1.0), within * (2 / 3) + ROUNDING


def top_mass_from_histogram(pooled: Pooled) -> tuple[FloatArray, FloatArray]:
    """Share of the top 1% and its error bound, each of shape (H,); the true value lies within value
    ± bound.

    Only the bin that the boundary falls into is uncertain: its k largest of n elements, of sum S,
    hold at least kS/n and at most the lesser of k·upper and S − (n − k)·lower, of which the middle
    is taken.
    """
    wanted = -(-pooled.counts.sum(axis=1) // 100)
    above = np.cumsum(pooled.counts[:, ::-1], axis=1)[:, ::-1] - pooled.counts
    taken = np.clip(wanted[:, None] - above, 0.0, pooled.counts)
    left = pooled.counts - taken
    least = divide(taken * pooled.sums, pooled.counts)
    with np.errstate(all="ignore"):
        by_upper = np.where(taken > 0, taken * pooled.upper, 0.0)
        most = np.minimum(by_upper, pooled.sums - left * pooled.lower)
    most = np.where(left > 0, np.maximum(most, least), least)
    mass = pooled.sums.sum(axis=1)
    low, high = (
        divide(np.where(pooled.counts > 0, s, 0.0).sum(axis=1), mass) for s in (least, most)
    )
    return (low + high) / 2, (high - low) / 2 + ROUNDING


FROM_ORDER: Mapping[str, Callable[[Pooled], tuple[FloatArray, FloatArray]]] = MappingProxyType(
    {"gini": gini_from_histogram, "top_mass": top_mass_from_histogram}
)
"""The kinds that need the order of the elements, in the order of `exact`."""

EXPLAINABILITIES = ("gini", "hoyer", "effective_sparsity", "top_mass", "entropy", "article")
