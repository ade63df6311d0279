"""What is stored of a training, and the parts it has: windows of steps, blocks, layers, tensors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from trace_core import sketch
from trace_core.errors import TraceError, require_known, whole_number
from trace_core.histogram import Histogram
from trace_core.names import block_of
from trace_core.statistics import Array, FloatArray, IntArray
from trace_core.top import TopLists


@dataclass(frozen=True, eq=False)
class TraceData:
    """O observations of T parameter tensors: of a model, of a part of it, or of a window of steps.

    A part is of the same kind as the whole, and its arrays are views where they can be. An unknown
    block, layer or tensor raises TraceError with the valid choices.
    """

    steps: IntArray
    """(O,) optimiser step of each observation, from 0, rising."""
    tensors: tuple[str, ...]
    """Names of the T parameter tensors; tied ones stand once."""
    layers: tuple[str, ...]
    """Layer of each tensor: the path of the module that owns it, "" for the model itself."""
    sizes: IntArray
    """(T,) elements of each tensor."""
    statistics: FloatArray
    """(O, T, columns): the columns are those of `Statistic`, then one displacement per anchor."""
    learning_rates: FloatArray
    """(O, T) learning rate of each tensor's group, NaN where the optimiser doesn't own it."""
    histogram: Histogram
    """Importance of each tensor at H of the observations."""
    exact: FloatArray
    """(H, T + L + B + 1, 2) exact `gini` and `top_mass` of the small among the T tensors, L layers,
    B blocks and the whole; NaN where they are not known.
    """
    every: int
    """Optimiser steps from one observation to the next."""
    importance: str
    """Name of the importance estimator."""
    anchors: tuple[int, ...]
    """Steps before which a copy of the parameters was kept."""
    sketch_steps: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    """(P,) steps before which the parameters were sketched, rising; the last may be the end."""
    sketches: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """(P, K) their sketches (`trace_core.sketch`), tensor after tensor."""
    top: TopLists = field(default_factory=TopLists.none)
    """Lists of single parameters, kept at anchors."""

    def __len__(self) -> int:
        """Return the number of observations."""
        return len(self.steps)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The L layers, in the order of their first tensor."""
        return tuple(dict.fromkeys(self.layers))

    @property
    def block_names(self) -> tuple[str, ...]:
        """The B blocks (see `trace_core.names.block_of`), in the order of their first tensor."""
        return tuple(dict.fromkeys(map(block_of, self.layers)))

    # ---- parts of a trace

    def rows(self, start: int, stop: int) -> Self:
        """Observations ``start`` to ``stop`` (exclusive) by position from 0, which may be none."""
        start, stop = whole_number("start", start, 0), whole_number("stop", stop, 0)
        histogram = self.histogram.window(start, stop)
        first = int(np.searchsorted(self.histogram.observations, start))
        return replace(
            self,
            steps=self.steps[start:stop],
            statistics=self.statistics[start:stop],
            learning_rates=self.learning_rates[start:stop],
            histogram=histogram,
            exact=self.exact[first : first + len(histogram.observations)],
        )

    def window(self, start: int, stop: int) -> Self:
        """Return the observations of the optimiser steps from ``start`` up to, not including,
        ``stop``.

        Raises TraceError if there are none.
        """
        start, stop = whole_number("start", start), whole_number("stop", stop)
        first, last = np.searchsorted(self.steps, [start, stop])
        if last <= first:
            seen = (
                f"steps {self.steps[0]} to {self.steps[-1]}, every={self.every}"
                if len(self)
                else "no step"
            )
            raise TraceError(
                f"window({start}, {stop}) is empty: it holds no observed step; the trace has {seen}"
            )
        return self.rows(int(first), int(last))

    def block(self, name: str) -> Self:
        """Return the trace of one block: what `trace_core.names.block_of` gathers."""
        node = self._node(name, self.block_names, "block")
        chosen = [i for i, layer in enumerate(self.layers) if block_of(layer) == name]
        inside = dict.fromkeys(self.layers[i] for i in chosen)
        layers = [len(self.tensors) + self.layer_names.index(layer) for layer in inside]
        first = len(self.tensors) + len(self.layer_names)
        return self._select(chosen, [*layers, first + node, first + node])

    def layer(self, name: str) -> Self:
        """Return the trace of one layer: the path of a module that owns parameters itself."""
        node = len(self.tensors) + self._node(name, self.layer_names, "layer")
        chosen = [i for i, layer in enumerate(self.layers) if layer == name]
        return self._select(chosen, [node] * 3)

    def under(self, module: str) -> Self:
        """Return the trace of all that is under a module, by its path: of a fine-tuned model's
        backbone, say. Where that is no single layer or block, its concentration is told from
        histograms, however small it is.

        Raises TraceError if there is no such module.
        """
        paths = (layer.split(".") for layer in self.layers)
        known = dict.fromkeys(".".join(p[:end]) for p in paths for end in range(1, len(p) + 1))
        require_known(module, tuple(known), "module")
        inside = [i for i, layer in enumerate(self.layers) if f"{layer}.".startswith(f"{module}.")]
        layers = dict.fromkeys(self.layers[i] for i in inside)
        if list(layers) == [module]:
            return self.layer(module)
        if set(layers) == {layer for layer in self.layers if block_of(layer) == module}:
            return self.block(module)
        nodes = [len(self.tensors) + self.layer_names.index(layer) for layer in layers]
        # The exact values of its blocks and of the whole are not among those that are kept.
        unknown = len(set(map(block_of, layers))) + 1
        part = self._select(inside, [*nodes, *[0] * unknown])
        part.exact[:, -unknown:] = np.nan
        return part

    def by_part(self) -> dict[str, Self]:
        """Return the trace of each of the model's own modules, by name, in the order of their first
        tensor: of a fine-tuned model ``backbone`` and ``head``.
        """
        names = dict.fromkeys(layer.partition(".")[0] for layer in self.layers)
        return {name: self.under(name) for name in names}

    def tensor(self, name: str) -> Self:
        """Return the trace of one parameter tensor."""
        index = self._node(name, self.tensors, "tensor")
        return self._select([index], [index] * 3)

    def _node(self, name: str, names: tuple[str, ...], what: str) -> int:
        return names.index(require_known(name, names, what))

    def by_block(self) -> dict[str, Self]:
        """Return the trace of every block, by name."""
        return {name: self.block(name) for name in self.block_names}

    def by_layer(self) -> dict[str, Self]:
        """Return the trace of every layer, by name."""
        return {name: self.layer(name) for name in self.layer_names}

    def _select(self, chosen: list[int], above: list[int]) -> Self:
        """Return the trace of some tensors, given the nodes that are the part's layers, blocks and
        whole.
        """
        return replace(
            self,
            tensors=tuple(self.tensors[i] for i in chosen),
            layers=tuple(self.layers[i] for i in chosen),
            sizes=self.sizes[chosen],
            statistics=self.statistics[:, chosen],
            learning_rates=self.learning_rates[:, chosen],
            histogram=self.histogram.select(chosen),
            exact=self.exact[:, [*chosen, *above]],
            sketches=self._sketch_columns(chosen),
            top=self.top.of_tensors(chosen),
        )

    def _sketch_columns(self, chosen: list[int]) -> Array:
        if not len(self.sketches):
            return self.sketches
        stops = np.cumsum([sketch.width(size) for size in self.sizes.tolist()])
        columns = np.split(self.sketches, stops[:-1], axis=1)
        return np.concatenate([columns[i] for i in chosen], axis=1)
