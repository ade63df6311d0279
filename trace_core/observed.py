"""What one pass over the parameters finds, whichever pass it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trace_core.statistics import Array, FloatArray, IntArray


@dataclass(frozen=True)
class Importances:
    """The importance of n tensors at one observation, as the histogram and the exact values of
    small nodes keep it.
    """

    filled: IntArray
    """(n,) number of filled bins of each tensor."""
    bins: Array
    """(entries,) int16, tensor after tensor."""
    counts: IntArray
    """(entries,) number of elements in each."""
    sums: Array
    """(entries,) float32: sum of their importance."""
    small: Mapping[int, FloatArray]
    """Importances of each tensor with fewer than `EXACT_BELOW` elements, by position."""
    nodes: FloatArray | None = None
    """(nodes, 2) `gini` and `top_mass` of the small nodes, where the pass worked them out."""


@dataclass(frozen=True)
class Observed:
    """Statistics of the n tensors that one optimiser moved at one step, and their importance."""

    positions: list[int]
    """Which of the model's tensors they are, rising."""
    statistics: FloatArray
    """(n, columns), as `Statistic` orders them, then one displacement per anchor."""
    importances: Importances | None
    """None where no histogram is taken."""
