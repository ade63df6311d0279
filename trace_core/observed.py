"""What one pass over the parameters finds, whichever pass it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trace_core.statistics import Array, FloatArray, IntArray


@dataclass(slots=True)
class Importances:
    """The importance of n tensors at H observations, as the histogram and the exact values of
    small nodes keep it.
    """

    filled: IntArray
    """(H, n) number of filled bins of each tensor."""
    bins: Array
    """(entries,) int16, observation after observation, tensor after tensor."""
    counts: IntArray
    """(entries,) number of elements in each."""
    sums: Array
    """(entries,) float32: sum of their importance."""
    small: Mapping[int, FloatArray]
    """Importances of each tensor with fewer than `EXACT_BELOW` elements, by position, at the last
    of the observations.
    """
    nodes: FloatArray | None = None
    """(H, nodes, 2) `gini` and `top_mass` of the small nodes, where the pass worked them out."""


@dataclass(slots=True)
class Observed:
    """Statistics of the n tensors that one optimiser moved at K steps, and their importance."""

    positions: list[int]
    """Which of the model's tensors they are, rising."""
    statistics: FloatArray
    """(K, n, columns), as `Statistic` orders them, then one displacement per anchor."""
    importances: Importances | None
    """None where no histogram is taken."""
