"""What one pass over the parameters finds, whichever pass it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

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

    def of_models(
        self, parts: Sequence[slice], model: IntArray, tensors: int
    ) -> Iterator[Importances]:
        """Yield the importance of each of several models (see `Observed.of_models`), given which of
        the n tensors are its, and the (n,) models they are of.
        """
        observations = len(self.filled)
        owner = np.repeat(np.tile(model, observations), self.filled.ravel())
        nodes = None
        if self.nodes is not None:
            nodes = self.nodes.reshape(observations, len(parts), -1, 2)
        for r, part in enumerate(parts):
            mine = owner == r
            yield Importances(
                self.filled[:, part],
                self.bins[mine],
                self.counts[mine],
                self.sums[mine],
                {i % tensors: values for i, values in self.small.items() if i // tensors == r},
                None if nodes is None else nodes[:, r],
            )


@dataclass(slots=True)
class Observed:
    """Statistics of the n tensors that one optimiser moved at K steps, and their importance."""

    positions: list[int]
    """Which of the model's tensors they are, rising."""
    statistics: FloatArray
    """(K, n, columns), as `Statistic` orders them, then one displacement per anchor."""
    importances: Importances | None
    """None where no histogram is taken."""

    def of_models(self, models: int, tensors: int) -> list[Observed]:
        """Return what was observed of each of several models of T ``tensors``, given that position
        r·T + t stands for tensor t of model r.
        """
        model, own = np.divmod(np.array(self.positions, np.int64), tensors)
        edges = np.searchsorted(model, np.arange(models + 1)).tolist()
        parts = [slice(start, stop) for start, stop in pairwise(edges)]
        importances: list[Importances | None] = [None] * models
        if self.importances is not None:
            importances = [*self.importances.of_models(parts, model, tensors)]
        return [
            Observed(own[part].tolist(), self.statistics[:, part], importance)
            for part, importance in zip(parts, importances, strict=True)
        ]
