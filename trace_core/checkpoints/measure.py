"""The one pass over all checkpoints of a series, side by side and piece by piece."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from torch import Tensor

from trace_core.checkpoints.opened import Checkpoint, CheckpointError
from trace_core.checkpoints.series import Series, open_series
from trace_core.collect import collect
from trace_core.concentration import EXACT_BELOW, exact_nodes, node_members
from trace_core.histogram import BINS, Histogram
from trace_core.importance import IMPORTANCES
from trace_core.kernel import library
from trace_core.kernel.plan import DTYPES, FACTORS, Plan, Workspace
from trace_core.names import block_of, layer_of
from trace_core.observed import Observed
from trace_core.statistics import DISPLACEMENT, Array, FloatArray, Statistic
from trace_core.trace import Trace

IMPORTANCE = "magnitude"
_ROOM = 1 << 23
"""Elements of all checkpoints together that are read at a time."""
_LEAST, _MOST = 1 << 16, 1 << 21
"""Elements of one checkpoint that are."""
_PIECES = 500
"""Tensors, or parts of one, that are."""


@dataclass(frozen=True)
class _Piece:
    """Elements ``start`` to ``stop`` (exclusive) of a tensor."""

    position: int
    start: int
    stop: int


def trace_checkpoints(
    paths: Iterable[str | PathLike[str]] | Series,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """The trace of a series of saved checkpoints: one observation an interval (see
    `trace_core.checkpoints` for how it reads).

    ``paths`` are of two checkpoints or more, or of one folder with several in it; where the steps
    of all are known they are put into their order. ``on_progress`` is told how many of how many
    bytes were read. Time goes with the bytes, which are read once; memory with the numbers of
    tensors and of checkpoints.

    Raises FileNotFoundError, and CheckpointError for what is no checkpoint, is damaged, holds
    anything that would have to be run, or hasn't the same tensors as the first.
    """
    series = paths if isinstance(paths, Series) else open_series([Path(path) for path in paths])
    return _Pass(series, with_end=False).trace(on_progress)


@dataclass(frozen=True)
class Measured:
    """What `measure_series` finds of a series."""

    trace: Trace
    """One observation an interval."""
    end: Trace
    """One observation, of the last checkpoint: nothing moves in it."""


def measure_series(
    series: Series, *, on_progress: Callable[[int, int], None] | None = None
) -> Measured:
    """`trace_checkpoints`, and what the last checkpoint is like, which no interval begins with."""
    whole = _Pass(series, with_end=True).trace(on_progress)
    last = len(series.checkpoints) - 1
    return Measured(whole.rows(0, last), whole.rows(last, last + 1))


class _Pass:
    def __init__(self, series: Series, with_end: bool) -> None:
        first = series.checkpoints[0]
        for other in series.checkpoints[1:]:
            _require_alike(first, other)
        self._series = series
        self._names = names = list(first.tensors)
        self._tensors = [[each.tensors[name] for name in names] for each in series.checkpoints]
        self._sizes = [tensor.numel() for tensor in self._tensors[0]]
        self._rows = len(series.checkpoints) - (not with_end)
        self._statistics = np.zeros((self._rows, len(names), DISPLACEMENT + 1))
        self._bins: list[list[_Bins]] = [[_Bins() for _ in names] for _ in range(self._rows)]
        self._workspace = Workspace()

    def trace(self, on_progress: Callable[[int, int], None] | None) -> Trace:
        total = sum(tensor.nbytes for tensors in self._tensors for tensor in tensors)
        done = 0
        for batch in self._batches():
            parts = [
                [tensors[p.position][p.start : p.stop] for p in batch] for tensors in self._tensors
            ]
            self._add(batch, parts)
            for checkpoint, tensors in zip(self._series.checkpoints, parts, strict=True):
                for tensor in tensors:
                    done += tensor.nbytes
                    checkpoint.let_go(tensor)
            if on_progress is not None:
                on_progress(done, total)
        return self._made()

    def _batches(self) -> Iterator[list[_Piece]]:
        """All elements of all tensors, in batches of about the same size."""
        room = min(max(_ROOM // len(self._tensors), _LEAST), _MOST)
        batch: list[_Piece] = []
        used = 0
        first = self._tensors[0]
        # As they lie in the file, so that it is read from its start to its end.
        for position in sorted(range(len(first)), key=lambda i: first[i].data_ptr()):
            size = self._sizes[position]
            for start in range(0, size, room):
                stop = min(start + room, size)
                if batch and (used + stop - start > room or len(batch) == _PIECES):
                    yield batch
                    batch, used = [], 0
                batch.append(_Piece(position, start, stop))
                used += stop - start
        yield batch

    def _add(self, batch: list[_Piece], parts: list[list[Tensor]]) -> None:
        """Sum up these pieces of every interval, and of the end, after which nothing moves."""
        parts = [
            list(tensors) for tensors in zip(*map(_readable, zip(*parts, strict=True)), strict=True)
        ]
        pairs = itertools.pairwise([*parts, parts[-1]])
        for interval, (before, after) in enumerate(itertools.islice(pairs, self._rows)):
            observed = self._observe(before, after, parts[0])
            rows, importances = observed.statistics[0], observed.importances
            assert importances is not None
            stops = np.cumsum(importances.filled[0])
            for i, piece in enumerate(batch):
                self._statistics[interval, piece.position] += rows[i]
                entries = slice(int(stops[i] - importances.filled[0, i]), int(stops[i]))
                self._bins[interval][piece.position].add(
                    importances.bins[entries],
                    importances.counts[entries],
                    importances.sums[entries],
                )

    def _observe(self, before: list[Tensor], after: list[Tensor], origin: list[Tensor]) -> Observed:
        compiled = library()
        positions = list(range(len(before)))
        if compiled is None:
            importance = IMPORTANCES[IMPORTANCE]
            return collect(positions, before, after, before, [origin], importance, histogram=True)
        dtypes = [tensor.dtype for tensor in before]
        plan = Plan(
            compiled, positions, before, [origin], dtypes, [], self._workspace, precise=True
        )
        plan.enter()
        plan.run(
            [tensor.data_ptr() for tensor in after],
            [0] * len(after),
            FACTORS[IMPORTANCE],
            refresh=False,
            histogram=True,
        )
        return plan.drain()

    def _made(self) -> Trace:
        names, series = self._names, self._series
        layers = tuple(map(layer_of, names))
        rates = np.append(series.learning_rates, 0.0)[: self._rows]
        filled = np.array([[each.filled for each in row] for row in self._bins], np.int64)
        entries = [each.entries() for row in self._bins for each in row]
        bins, counts, sums = (np.concatenate([entry[k] for entry in entries]) for k in range(3))
        return Trace(
            steps=np.array(series.steps[: self._rows], np.int64),
            tensors=tuple(names),
            layers=layers,
            sizes=np.array(self._sizes, np.int64),
            statistics=self._statistics,
            learning_rates=np.repeat(rates[:, None], len(names), axis=1),
            histogram=Histogram(np.arange(self._rows), filled, bins, counts, sums),
            exact=self._exact(layers),
            every=1,
            importance=IMPORTANCE,
            anchors=(series.steps[0],),
        )

    def _exact(self, layers: Sequence[str]) -> FloatArray:
        """Of the small nodes, whose elements are read once more: (intervals, nodes, 2)."""
        own, blocks = list(dict.fromkeys(layers)), list(dict.fromkeys(map(block_of, layers)))
        members = node_members(
            [own.index(layer) for layer in layers],
            [blocks.index(block_of(each)) for each in layers],
        )
        small = [i for i, size in enumerate(self._sizes) if size < EXACT_BELOW]
        found = []
        for checkpoint, tensors in itertools.islice(
            zip(self._series.checkpoints, self._tensors, strict=True), self._rows
        ):
            values = {i: tensors[i].double().abs().numpy() for i in small}
            found.append(exact_nodes(values, self._statistics[0, :, Statistic.COUNT], members))
            for i in small:
                checkpoint.let_go(tensors[i])
        return np.stack(found)


class _Bins:
    """The histogram of one tensor in one interval, of its pieces."""

    def __init__(self) -> None:
        self._bins = np.zeros(0, np.int16)
        self._counts = np.zeros(0, np.int64)
        self._sums = np.zeros(0)

    def add(self, bins: Array, counts: Array, sums: Array) -> None:
        if not len(self._bins):
            self._bins, self._counts, self._sums = (
                bins.copy(),
                counts.copy(),
                sums.astype(np.float64),
            )
            return
        count, mass = np.zeros(BINS, np.int64), np.zeros(BINS)
        for b, n, s in ((self._bins, self._counts, self._sums), (bins, counts, sums)):
            count[b] += n
            mass[b] += s
        self._bins = np.flatnonzero(count).astype(np.int16)
        self._counts, self._sums = count[self._bins], mass[self._bins]

    @property
    def filled(self) -> int:
        return len(self._bins)

    def entries(self) -> tuple[Array, Array, Array]:
        return self._bins, self._counts, self._sums.astype(np.float32)


def _readable(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A piece of every checkpoint, as it is if all are of one type that the pass reads."""
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) == 1 and dtypes <= DTYPES.keys():
        return tensors
    return tuple(tensor.double() for tensor in tensors)


def _require_alike(first: Checkpoint, other: Checkpoint) -> None:
    """Raise CheckpointError unless both have the same tensors of the same shapes."""
    ours, theirs = first.shapes, other.shapes
    missing, new = [n for n in ours if n not in theirs], [n for n in theirs if n not in ours]
    if missing or new:
        prefix = _prefix(missing, new)
        if prefix is not None:
            raise CheckpointError(
                f"{other.path}: its tensors are named otherwise than in {first.path}: {new[0]!r} "
                f"is {missing[0]!r} there ({prefix}); save both from the same module"
            )
        told = [
            f"{what} {names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            for what, names in (("lacks", missing), ("has besides", new))
            if names
        ]
        raise CheckpointError(
            f"{other.path}: is of another model than {first.path}: it {' and '.join(told)}"
        )
    for name, shape in ours.items():
        if theirs[name] != shape:
            raise CheckpointError(
                f"{other.path}: {name!r} has shape {theirs[name]}; in {first.path} it has {shape}"
            )


def _prefix(missing: Sequence[str], new: Sequence[str]) -> str | None:
    """What stands before all names on one side only, in words."""
    if len(missing) != len(new):
        return None
    for short, long, side in ((missing, new, "more"), (new, missing, "less")):
        extra = len(long[0]) - len(short[0])
        prefix = min(long)[: max(extra, 0)]
        if extra > 0 and sorted(prefix + name for name in short) == sorted(long):
            return f"{prefix!r} {side} before each"
    return None
