"""The buffers of the compiled pass for one list of tensors, made once and used step after step."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trace_core.concentration import EXACT_BELOW
from trace_core.histogram import BINS
from trace_core.kernel import level
from trace_core.observed import Importances, Observed
from trace_core.statistics import DISPLACEMENT, Array

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
"""Types that the compiled pass reads, by its own numbers for them."""
CHUNK = 1 << 18
"""Most elements in a chunk: what a thread takes at a time."""
THREADED_FROM = 1 << 19
"""Elements from which the pass uses as many threads as PyTorch does."""
FACTORS = {"uniform": (0, 0), "magnitude": (1, 0), "gradient": (0, 1), "taylor": (1, 1)}
"""Importances that the compiled pass knows: whether θ and g are factors of it."""
_DEPTH = 4

_WORDS = (
    *("tensor_count", "chunk_count", "origins", "level"),
    *("by_theta", "by_gradient", "refresh", "next"),
)
_PASS = ("tensors", "chunks", "pointers", "partial", "rows")
_HISTOGRAM = ("table", "values", "filled", "bins", "counts", "sums")
_COUNTS = ("group_count", "node_count")
_NODES = ("groups", "members", "node_of", "node_size", "work", "items", "spare", "nodes")


class _Job(ctypes.Structure):
    """The twin of ``job_t`` in ``kernel.c``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _WORDS),
        *((name, ctypes.c_void_p) for name in (*_PASS, *_HISTOGRAM)),
        *((name, ctypes.c_int64) for name in _COUNTS),
        *((name, ctypes.c_void_p) for name in _NODES),
    )


class Plan:
    """The compiled pass over n non-empty tensors on the CPU.

    ``positions`` says which of the model's tensors they are, ``before`` holds their snapshots,
    ``origins`` what displacements are measured from, ``members`` the tensors of each node
    (`node_members`). Results are views of buffers that the next run overwrites.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        positions: Sequence[int],
        before: Sequence[Tensor],
        origins: Sequence[Sequence[Tensor]],
        gradient_dtypes: Sequence[torch.dtype],
        members: Sequence[Sequence[int]],
    ) -> None:
        self._library = library
        self.positions = list(positions)
        self.gradient_dtypes = list(gradient_dtypes)
        self.origins = len(origins)
        self.strides = [tensor.stride() for tensor in before]
        self._sizes = [tensor.numel() for tensor in before]
        self._members = members
        table, chunks = self._lay_out([tensor.dtype for tensor in before])
        n = len(before)
        self._arrays: dict[str, Array] = {
            "tensors": table,
            "chunks": chunks,
            "pointers": np.zeros((3 + len(origins), n), np.int64),
            "partial": np.zeros((len(chunks), DISPLACEMENT - 1 + len(origins))),
            "rows": np.zeros((n, DISPLACEMENT + len(origins))),
        }
        self._job = _Job(tensor_count=n, chunk_count=len(chunks), origins=len(origins), level=level())
        self._address = ctypes.byref(self._job)
        for row, tensors in ((0, before), *enumerate(origins, start=3)):
            self._arrays["pointers"][row] = [tensor.data_ptr() for tensor in tensors]
        self._pack = struct.Struct(f"{2 * n}q").pack_into
        self._point(_PASS)
        self._table = 0

    def _lay_out(self, dtypes: list[torch.dtype]) -> tuple[Array, Array]:
        """Return the twins of ``tensor_t`` and ``chunk_t``: the tensors cut into chunks."""
        table = np.zeros((len(dtypes), 6), np.int64)
        chunks: list[tuple[int, int, int]] = []
        values = 0
        for i, size in enumerate(self._sizes):
            first = len(chunks)
            chunks += [(i, at, min(at + CHUNK, size)) for at in range(0, size, CHUNK)]
            small = size < EXACT_BELOW
            codes = DTYPES[dtypes[i]], DTYPES[self.gradient_dtypes[i]]
            table[i] = size, *codes, first, len(chunks), values if small else -1
            values += size if small else 0
        return table, np.array(chunks, np.int64)

    def _point(self, names: Sequence[str]) -> None:
        for name in names:
            setattr(self._job, name, self._arrays[name].ctypes.data)

    def run(
        self,
        after: Sequence[int],
        gradients: Sequence[int],
        factors: tuple[int, int],
        *,
        refresh: bool,
        histogram: bool,
    ) -> Observed:
        """Run the pass over the tensors at the addresses ``after``, with gradients at theirs.

        ``factors`` are of `FACTORS`; ``refresh`` makes the snapshots what the tensors are.
        """
        job, arrays = self._job, self._arrays
        self._pack(arrays["pointers"], 8 * len(after), *after, *gradients)
        job.by_theta, job.by_gradient = factors
        job.refresh = refresh
        job.next = 0
        if histogram and not self._table:
            self._prepare_histogram()
        job.table = self._table if histogram else None
        entries = self._execute()
        if not histogram:
            return Observed(self.positions, arrays["rows"], None)
        values = {
            self.positions[i]: arrays["values"][start : start + self._sizes[i]]
            for i, start in self._small
        }
        found = Importances(
            arrays["filled"],
            arrays["bins"][:entries],
            arrays["counts"][:entries],
            arrays["sums"][:entries],
            values,
            arrays["nodes"],
        )
        return Observed(self.positions, arrays["rows"], found)

    def _execute(self) -> int:
        threads = torch.get_num_threads() if sum(self._sizes) >= THREADED_FROM else 1
        if threads == 1:
            return int(self._library.tracerank_observe(self._address))
        helpers = [
            threading.Thread(target=self._library.tracerank_pass, args=(self._address,))
            for _ in range(threads - 1)
        ]
        for helper in helpers:
            helper.start()
        self._library.tracerank_pass(self._address)
        for helper in helpers:
            helper.join()
        return int(self._library.tracerank_finish(self._address))

    def _prepare_histogram(self) -> None:
        entries = sum(min(size, BINS) for size in self._sizes)
        starts = self._arrays["tensors"][:, 5].tolist()
        self._small = [(i, start) for i, start in enumerate(starts) if start >= 0]
        self._arrays |= {
            "table": np.zeros((len(self._arrays["chunks"]), BINS, 2)),
            "values": np.zeros(sum(self._sizes[i] for i, _ in self._small)),
            "filled": np.zeros(len(self._sizes), np.int64),
            "bins": np.zeros(entries, np.int16),
            "counts": np.zeros(entries, np.int64),
            "sums": np.zeros(entries, np.float32),
            **self._nodes(),
        }
        self._point((*_HISTOGRAM, *_NODES))
        self._job.group_count = len(self._arrays["groups"])
        self._job.node_count = len(self._members)
        self._table = self._arrays["table"].ctypes.data

    def _nodes(self) -> dict[str, Array]:
        """Return the small nodes, and the groups that are sorted: the largest of them."""
        index = {position: i for i, position in enumerate(self.positions)}
        inside = [[index[p] for p in members if p in index] for members in self._members]
        sizes = [sum(self._sizes[i] for i in tensors) for tensors in inside]
        node_of = np.full((len(self._sizes), _DEPTH), -1, np.int64)
        depth = [0] * len(self._sizes)
        grouped: set[int] = set()
        groups, members = [], []
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
        largest = max((sum(self._sizes[i] for i in members[a:b]) for a, b in groups), default=0)
        return {
            "groups": np.array(groups, np.int64).reshape(-1, 2),
            "members": np.array(members, np.int64),
            "node_of": node_of,
            "node_size": np.array(sizes, np.int64),
            "work": np.zeros((len(inside), 4)),
            "items": np.zeros((largest, 2), np.int64),
            "spare": np.zeros((largest, 2), np.int64),
            "nodes": np.zeros((len(inside), 2)),
        }
