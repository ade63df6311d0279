"""A trace while it grows: rows are appended in amortised constant time and never change once
written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trace_core.concentration import exact_nodes, node_members
from trace_core.histogram import Histogram
from trace_core.names import block_of, layer_of
from trace_core.observed import Importances, Observed
from trace_core.stability import first_entering
from trace_core.statistics import DISPLACEMENT, Array, FloatArray, Statistic
from trace_core.trace import Trace


class Rows:
    """An array that grows along its first axis."""

    def __init__(self, rows: Array) -> None:
        self._buffer = rows.copy()
        self._length = len(rows)

    def __len__(self) -> int:
        return self._length

    def extend(self, rows: Any) -> None:
        """Add rows of the array's own shape."""
        stop = self._length + len(rows)
        if stop > len(self._buffer):
            larger = np.empty(
                (max(16, stop, 2 * len(self._buffer)), *self._buffer.shape[1:]), self._buffer.dtype
            )
            larger[: self._length] = self._buffer[: self._length]
            self._buffer = larger
        self._buffer[self._length : stop] = rows
        self._length = stop

    def since(self, start: int) -> Array:
        """Return a read-only view of the rows from ``start``, which stays as it is while the array
        grows.
        """
        view = self._buffer[start : self._length]
        view.flags.writeable = False
        return view


class Recording:
    """Appends observations to what starts as ``trace``, and shows all or the last of them as a
    `Trace`.
    """

    def __init__(self, trace: Trace) -> None:
        self._start = trace
        self._shape = trace.statistics.shape[1:]
        layers, blocks = trace.layer_names, trace.block_names
        self.members = node_members(
            [layers.index(layer) for layer in trace.layers],
            [blocks.index(block_of(layer)) for layer in trace.layers],
        )
        """Tensors of each node whose exact concentrations are kept."""
        self._steps = Rows(trace.steps)
        self._statistics = Rows(trace.statistics)
        self._learning_rates = Rows(trace.learning_rates)
        self._exact = Rows(trace.exact)
        histogram = trace.histogram
        self._observations = Rows(histogram.observations)
        self._filled = Rows(histogram.filled)
        self._entries = tuple(
            Rows(entries) for entries in (histogram.bins, histogram.counts, histogram.sums)
        )

    @classmethod
    def empty(
        cls,
        tensors: Sequence[str],
        sizes: Sequence[int],
        every: int,
        importance: str,
        anchors: tuple[int, ...],
    ) -> Recording:
        """Return a recording without observations, of tensors that are named as
        ``model.named_parameters()`` does.
        """
        layers = tuple(map(layer_of, tensors))
        count = len(tensors)
        nodes = count + len(set(layers)) + len(set(map(block_of, layers))) + 1
        entries = np.zeros(0, np.int16), np.zeros(0, np.int64), np.zeros(0, np.float32)
        trace = Trace(
            steps=np.zeros(0, np.int64),
            tensors=tuple(tensors),
            layers=layers,
            sizes=np.array(sizes, np.int64),
            statistics=np.zeros((0, count, DISPLACEMENT + len(anchors))),
            learning_rates=np.zeros((0, count)),
            histogram=Histogram(np.zeros(0, np.int64), np.zeros((0, count), np.int64), *entries),
            exact=np.zeros((0, nodes, 2)),
            every=every,
            importance=importance,
            anchors=anchors,
        )
        return cls(trace)

    def __len__(self) -> int:
        """Return the number of observations."""
        return len(self._steps)

    def extend(
        self,
        steps: Sequence[int],
        learning_rates: Sequence[FloatArray],
        with_histogram: Sequence[bool],
        displacements: Sequence[Mapping[int, list[float]]],
        parts: Sequence[Observed],
    ) -> None:
        """Add K observations: of each its step, the learning rates of all T tensors, whether a
        histogram was taken, and the displacements of tensors that it left alone but that may have
        moved since the one before; and what was read of the tensors that moved, none of them twice.

        There may be several parts, or none, for one observation.
        """
        if len(parts) == 1 and parts[0].statistics.shape[1:] == self._shape:
            rows = parts[0].statistics
        else:
            rows = self._assembled(steps, displacements, parts)
        first = len(self._steps)
        self._steps.extend(steps)
        self._learning_rates.extend(learning_rates)
        self._statistics.extend(rows)
        taken = [row for row, taken in enumerate(with_histogram) if taken]
        if taken:
            self._observations.extend([first + row for row in taken])
            self._extend_importances(parts, rows[taken])

    def _assembled(
        self,
        steps: Sequence[int],
        displacements: Sequence[Mapping[int, list[float]]],
        parts: Sequence[Observed],
    ) -> FloatArray:
        """Return the statistics of all tensors, from those of the ones that moved."""
        rows = np.zeros((len(steps), *self._shape))
        rows[:, :, DISPLACEMENT:] = self._resting_displacements(steps, displacements)
        for part in parts:
            columns = part.statistics.shape[2]
            rows[:, part.positions, :columns] = part.statistics
            rows[:, part.positions, columns:] = np.nan
        return rows

    def _resting_displacements(
        self, steps: Sequence[int], displacements: Sequence[Mapping[int, list[float]]]
    ) -> FloatArray:
        """Displacements of what stands still, (K, T, anchors): those that were measured, else as
        they were, a NaN too, and none from an anchor that is new.
        """
        anchors = np.array(self._start.anchors, np.int64)
        found = np.empty((len(steps), self._shape[0], len(anchors)))
        now = np.full(found.shape[1:], np.nan)
        last = -1
        if len(self):
            now = self._statistics.since(len(self) - 1)[0, :, DISPLACEMENT:].copy()
            last = int(self._steps.since(len(self) - 1)[0])
        for row, step, measured in zip(found, steps, displacements, strict=True):
            now[:, (anchors > last) & (anchors <= step)] = 0.0
            for position, values in measured.items():
                now[position, : len(values)] = values
            row[:], last = now, step
        return found

    def _extend_importances(self, parts: Sequence[Observed], rows: FloatArray) -> None:
        """Add the importance of the observations that have these statistics."""
        found = [(part.positions, part.importances) for part in parts if part.importances]
        if len(found) == 1 and found[0][1].nodes is not None:
            nodes = found[0][1].nodes
        else:
            small = {i: values for _, part in found for i, values in part.small.items()}
            nodes = exact_nodes(small, rows[0, :, Statistic.COUNT], self.members)[None]
        filled = np.zeros(rows.shape[:2], np.int64)
        for positions, importances in found:
            filled[:, positions] = importances.filled
        self._filled.extend(filled)
        self._exact.extend(nodes)
        for kept, new in zip(self._entries, _in_order(found), strict=True):
            kept.extend(new)

    def trace(self) -> Trace:
        """Return all observations so far; later ones don't change it."""
        return self._since(0)

    def since(self, step: int) -> Trace:
        """Return the observations from this step on, behind those that enter their values (see
        `first_entering`): at a cost that doesn't grow with the run.
        """
        start = int(np.searchsorted(self._steps.since(0), step))
        return self._since(first_entering(self._observations.since(0), start))

    def _since(self, first: int) -> Trace:
        from_histogram = int(np.searchsorted(self._observations.since(0), first))
        filled = self._filled.since(from_histogram)
        from_entry = len(self._entries[0]) - int(filled.sum())
        histogram = Histogram(
            self._observations.since(from_histogram) - first,
            filled,
            *(rows.since(from_entry) for rows in self._entries),
        )
        start = self._start
        return Trace(
            steps=self._steps.since(first),
            tensors=start.tensors,
            layers=start.layers,
            sizes=start.sizes,
            statistics=self._statistics.since(first),
            learning_rates=self._learning_rates.since(first),
            histogram=histogram,
            exact=self._exact.since(from_histogram),
            every=start.every,
            importance=start.importance,
            anchors=start.anchors,
        )


def _in_order(found: Sequence[tuple[list[int], Importances]]) -> tuple[Array, Array, Array]:
    """Return the entries (bins, counts, sums) of the parts, in the order of the tensors."""
    if len(found) == 1:
        only = found[0][1]
        return only.bins, only.counts, only.sums
    empty = (np.zeros(0, np.int16), np.zeros(0, np.int64), np.zeros(0, np.float32))
    pieces: list[tuple[int, tuple[Array, Array, Array]]] = []
    for positions, part in found:
        filled = part.filled[0]
        stops = np.cumsum(filled)
        for position, start, stop in zip(positions, stops - filled, stops, strict=True):
            entries = slice(int(start), int(stop))
            pieces.append(
                (position, (part.bins[entries], part.counts[entries], part.sums[entries]))
            )
    pieces.sort(key=lambda piece: piece[0])
    bins, counts, sums = (
        np.concatenate([empty[k], *(piece[1][k] for piece in pieces)]) for k in range(3)
    )
    return bins, counts, sums
