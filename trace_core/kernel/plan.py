"""The compiled pass for one list of tensors, laid out once and run step after step."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Mapping, Sequence
from itertools import compress
from math import prod
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trace_core.concentration import EXACT_BELOW
from trace_core.histogram import BINS
from trace_core.kernel import level, openmp
from trace_core.observed import Importances, Observed
from trace_core.statistics import DISPLACEMENT, Array, FloatArray

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
"""Types that the compiled pass reads, by its own numbers for them."""
CHUNK = 1 << 18
"""Most elements in a chunk, what a thread takes at a time, of a model of up to `CHUNKS` of them."""
CHUNKS = 64
"""Chunks from which they grow rather than become more: each has a histogram of its own."""
THREADED_FROM = 1 << 19
"""Elements from which the pass uses as many threads as PyTorch does."""
FACTORS = {"uniform": (0, 0), "magnitude": (1, 0), "gradient": (0, 1), "taylor": (1, 1)}
"""Importances that the compiled pass knows: whether θ and g are factors of it."""
STAGED = 32
"""Most observations of a small model that are kept in the buffers before they are drained."""
STAGING_BYTES = 1 << 20
"""What the buffers may take, unless a single observation takes more."""
_DEPTH = 4
_dtype, _bytes = attrgetter("dtype"), attrgetter("nbytes")
_CALL = 11
"""Words in front of the addresses: ``call_t``."""

_COUNTS = ("tensor_count", "chunk_count", "origins", "level", "precise")
_PASS = ("call", "tensors", "chunks", "partial")
_HISTOGRAM = ("table", "values")
_NODES = ("groups", "members", "node_of", "node_size", "work", "items", "spare")


class _Job(ctypes.Structure):
    """The twin of ``job_t`` in ``kernel.c``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _COUNTS),
        *((name, ctypes.c_void_p) for name in (*_PASS, *_HISTOGRAM)),
        *((name, ctypes.c_int64) for name in ("group_count", "node_count")),
        *((name, ctypes.c_void_p) for name in _NODES),
    )


class Workspace:
    """Memory that plans take turns in, as large as the largest of them needs."""

    def __init__(self) -> None:
        self._held: dict[str, Array] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
        """Return the array of this name, in which anything may stand: the same memory each time,
        unless it has to grow.
        """
        size = prod(shape)
        held = self._held.get(name)
        if held is None or len(held) < size:
            held = self._held[name] = np.zeros(size, dtype)
        return held[:size].reshape(shape)


class _Staging:
    """A buffer that observation after observation is written to."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.address = array.ctypes.data
        self.stride = array.strides[0]


_NO_STAGING = _Staging(np.zeros(0))


class Plan:
    """The compiled pass over n non-empty tensors on the CPU.

    ``positions`` says which of the model's tensors they are, ``before`` holds their snapshots,
    ``origins`` what displacements are measured from, ``members`` the tensors of each node
    (`node_members`). What is observed is staged in the workspace, up to ``room`` observations,
    until it is drained. A plan runs between `enter` and `leave`; of those that share a workspace
    one may be there at a time. With ``precise`` all but the importance is worked out in float64,
    whatever the tensors' types.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        positions: Sequence[int],
        before: Sequence[Tensor],
        origins: Sequence[Sequence[Tensor]],
        gradient_dtypes: Sequence[torch.dtype],
        members: Sequence[Sequence[int]],
        workspace: Workspace,
        *,
        precise: bool = False,
    ) -> None:
        self._library = library
        self._workspace = workspace
        self.positions = list(positions)
        self.gradient_dtypes = list(gradient_dtypes)
        self.origins = len(origins)
        self.strides = [tensor.stride() for tensor in before]
        self._bytes = [tensor.nbytes for tensor in before]
        self._sizes = [tensor.numel() for tensor in before]
        self._elements = sum(self._sizes)
        self._members = members
        table, chunks = self._lay_out([tensor.dtype for tensor in before])
        n, self._columns = len(before), DISPLACEMENT + len(origins)
        self._bins = sum(min(size, BINS) for size in self._sizes)
        observation = 8 * n * self._columns + 14 * self._bins + 16 * len(members)
        few = self._elements < THREADED_FROM
        self.room = min(STAGED, max(1, STAGING_BYTES // observation)) if few else 1
        call = np.zeros(_CALL + (3 + len(origins)) * n, np.int64)
        call[_CALL + 2 * n :] = [t.data_ptr() for tensors in (before, *origins) for t in tensors]
        self._arrays: dict[str, Array] = {"call": call, "tensors": table, "chunks": chunks}
        self._nodes: dict[str, Array] = {}
        self._job = _Job(
            tensor_count=n,
            chunk_count=len(chunks),
            origins=len(origins),
            level=level(),
            precise=precise,
        )
        self._point(self._arrays)
        self._address = ctypes.byref(self._job)
        self._pack = struct.Struct(f"{_CALL + 2 * n}q").pack_into
        self._after: list[int] = []
        self._call = call.data.cast("B")
        self.leave()

    def enter(self) -> None:
        """Take the workspace."""
        n, columns, array = len(self._sizes), self._columns, self._workspace.array
        self._rows = _Staging(array("rows", (self.room, n, columns), np.float64))
        chunks = len(self._arrays["chunks"])
        self._point({"partial": array("partial", (chunks, columns - 1), np.float64)})

    def leave(self) -> None:
        """Let go of the workspace, and of what is staged in it."""
        self._rows = _NO_STAGING
        self._staged: tuple[_Staging, ...] = ()
        self._small: dict[int, FloatArray] = {}
        self._observations = self._histograms = self._entries = 0

    def _lay_out(self, dtypes: list[torch.dtype]) -> tuple[Array, Array]:
        """Return the twins of ``tensor_t`` and ``chunk_t``: the tensors cut into chunks."""
        table = np.zeros((len(dtypes), 6), np.int64)
        chunks: list[tuple[int, int, int]] = []
        values = 0
        chunk = CHUNK
        while self._elements > chunk * CHUNKS:
            chunk *= 2
        for i, size in enumerate(self._sizes):
            first = len(chunks)
            chunks += [(i, at, min(at + chunk, size)) for at in range(0, size, chunk)]
            small = size < EXACT_BELOW
            codes = DTYPES[dtypes[i]], DTYPES[self.gradient_dtypes[i]]
            table[i] = size, *codes, first, len(chunks), values if small else -1
            values += size if small else 0
        return table, np.array(chunks, np.int64)

    def _point(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            setattr(self._job, name, array.ctypes.data)

    def run(
        self,
        after: Sequence[int],
        gradients: Sequence[int],
        factors: tuple[int, int],
        *,
        refresh: bool,
        histogram: bool,
    ) -> None:
        """Observe the tensors at the addresses ``after``, with gradients at theirs, and stage it.

        ``factors`` are of `FACTORS`; ``refresh`` makes the snapshots what the tensors are.
        """
        if histogram and not self._staged:
            self._prepare_histogram()
        rows = self._rows.address + self._observations * self._rows.stride
        places: tuple[int, ...] = (0,) * 5
        if histogram:
            taken, entries = self._histograms, self._entries
            filled, bins, counts, sums, nodes = self._staged
            places = (
                filled.address + taken * filled.stride,
                bins.address + entries * bins.stride,
                counts.address + entries * counts.stride,
                sums.address + entries * sums.stride,
                nodes.address + taken * nodes.stride,
            )
            self._histograms = taken + 1
        self._pack(
            self._call,
            0,
            *(*factors, refresh, 0, histogram, rows, *places, *after, *gradients),
        )
        self._after = list(after)
        self._observations += 1
        self._entries += self._execute()

    def renew(self, tensors: Sequence[Tensor], addresses: Sequence[int]) -> bool:
        """Make the snapshots what the tensors are, if they lie where those of the last run did.

        Only for few elements, which isn't worth PyTorch's threads; returns whether it was done.
        """
        if self._elements >= THREADED_FROM or addresses != self._after:
            return False
        if not self._lies_as_before(tensors):
            return False
        self._library.tracerank_renew(self._address)
        return True

    def fits(self, tensors: Sequence[Tensor], gradients: Sequence[Any]) -> bool:
        """Whether tensors are of the sizes and layouts it was made for, and gradients of all of
        them there, of its types and the same layouts.
        """
        try:
            return (
                list(map(_dtype, gradients)) == self.gradient_dtypes
                and list(map(Tensor.stride, gradients)) == self.strides
                and list(map(Tensor.numel, gradients)) == self._sizes
                and self._lies_as_before(tensors)
            )
        except (AttributeError, RuntimeError):  # None, or sparse
            return False

    def _lies_as_before(self, tensors: Sequence[Tensor]) -> bool:
        """Whether tensors are still of the sizes and layouts it was made for; an assignment to
        ``tensor.data`` may have changed them, and the memory behind them.
        """
        return (
            list(map(_bytes, tensors)) == self._bytes
            and list(map(Tensor.stride, tensors)) == self.strides
        )

    @property
    def staged(self) -> bool:
        """Whether there is anything to drain."""
        return self._observations > 0

    @property
    def full(self) -> bool:
        """Whether the buffers have to be drained before the next run."""
        return self._observations == self.room

    def drain(self) -> Observed:
        """Return what is staged, as views that the next run overwrites."""
        rows = self._rows.array[: self._observations]
        importances = None
        if self._histograms:
            filled, bins, counts, sums, nodes = (part.array for part in self._staged)
            importances = Importances(
                filled[: self._histograms],
                bins[: self._entries],
                counts[: self._entries],
                sums[: self._entries],
                self._small,
                nodes[: self._histograms],
            )
        self._observations = self._histograms = self._entries = 0
        return Observed(self.positions, rows, importances)

    def _execute(self) -> int:
        threads = torch.get_num_threads() if self._elements >= THREADED_FROM else 1
        if threads == 1:
            return int(self._library.tracerank_observe(self._address))
        team = openmp()
        if team is not None:
            work = ctypes.cast(self._library.tracerank_pass, ctypes.c_void_p)
            team.GOMP_parallel(work, self._address, threads, 0)
        else:
            self._pass_by_threads(threads)
        return int(self._library.tracerank_finish(self._address))

    def _pass_by_threads(self, threads: int) -> None:
        helpers = [
            threading.Thread(target=self._library.tracerank_pass, args=(self._address,))
            for _ in range(threads - 1)
        ]
        for helper in helpers:
            helper.start()
        self._library.tracerank_pass(self._address)
        for helper in helpers:
            helper.join()

    def _prepare_histogram(self) -> None:
        """Take what a histogram needs of the workspace."""
        if not self._nodes:
            self._nodes = self._lay_out_nodes()
            self._point(self._nodes)
            self._job.group_count = len(self._nodes["groups"])
            self._job.node_count = len(self._members)
        room, n, nodes = self.room, len(self._sizes), len(self._members)
        array, items = self._workspace.array, (self._most_sorted, 2)
        small = self._arrays["tensors"][:, 5]
        values = array("values", (sum(compress(self._sizes, small >= 0)),), np.float64)
        self._point(
            {
                "table": array("table", (len(self._arrays["chunks"]), BINS, 2), np.float64),
                "values": values,
                "work": array("work", (nodes, 4), np.float64),
                "items": array("items", items, np.int64),
                "spare": array("spare", items, np.int64),
            }
        )
        self._small = {
            position: values[start : start + size]
            for position, start, size in zip(
                self.positions, small.tolist(), self._sizes, strict=True
            )
            if start >= 0
        }
        self._staged = (
            _Staging(array("filled", (room, n), np.int64)),
            _Staging(array("bins", (room * self._bins,), np.int16)),
            _Staging(array("counts", (room * self._bins,), np.int64)),
            _Staging(array("sums", (room * self._bins,), np.float32)),
            _Staging(array("nodes", (room, nodes, 2), np.float64)),
        )

    def _lay_out_nodes(self) -> dict[str, Array]:
        """Return the small nodes, and the groups that are sorted: the largest of them."""
        index = {position: i for i, position in enumerate(self.positions)}
        inside = [[index[p] for p in members if p in index] for members in self._members]
        sizes = [sum(self._sizes[i] for i in tensors) for tensors in inside]
        node_of = np.full((len(self._sizes), _DEPTH), -1, np.int64)
        depth = [0] * len(self._sizes)
        grouped: set[int] = set()
        groups: list[tuple[int, int]] = []
        members: list[int] = []
        # The whole stands last and the tensors first, so that larger nodes come first here.
        for node in reversed(range(len(inside))):
            if not 0 < sizes[node] < EXACT_BELOW:
                continue
            for i in inside[node]:
                node_of[i, depth[i]] = node
                depth[i] += 1
            if not grouped.issuperset(inside[node]):
                groups.append((len(members), len(members) + len(inside[node])))
                members += inside[node]
                grouped.update(inside[node])
        self._most_sorted = max(
            (sum(self._sizes[i] for i in members[a:b]) for a, b in groups), default=0
        )
        return {
            "groups": np.array(groups, np.int64).reshape(-1, 2),
            "members": np.array(members, np.int64),
            "node_of": node_of,
            "node_size": np.array(sizes, np.int64),
        }
