"""The trace of a model whose parameters are sharded over processes: each traces its own part, and
the parts are merged.

Statistics and histograms are sums over elements, so those of the parts add up (design §4.1). What
needs the order of all elements doesn't: small nodes lose their exact values, and are read from the
histogram, with its bound.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import distributed as dist

from trace_core.errors import TraceError
from trace_core.histogram import BINS, Histogram
from trace_core.statistics import first_defined
from trace_core.storage import read, write
from trace_core.top import TopLists
from trace_core.trace import Trace

_ALIKE = ("tensors", "layers", "every", "importance", "anchors")


def merge(traces: Sequence[Trace]) -> Trace:
    """Return the trace of a model from those of its parts, each of which held some elements of each
    tensor, or none, over the same steps. Sketches and lists of single parameters don't add up, and
    are left out.

    O(entries · log entries) for the histograms. Raises TraceError if the parts are not of the same
    tensors, steps and settings.
    """
    first = traces[0]
    for rank, other in enumerate(traces[1:], start=1):
        _require_alike(first, other, rank)
    return replace(
        first,
        sizes=np.sum([trace.sizes for trace in traces], axis=0),
        statistics=np.sum([trace.statistics for trace in traces], axis=0),
        learning_rates=first_defined([trace.learning_rates for trace in traces]),
        histogram=_merge_histograms([trace.histogram for trace in traces]),
        exact=np.full(first.exact.shape, np.nan),
        sketch_steps=np.zeros(0, np.int64),
        sketches=np.zeros((0, 0), np.float32),
        top=TopLists.none(),
    )


def _require_alike(first: Trace, other: Trace, rank: int) -> None:
    differing = [name for name in _ALIKE if getattr(first, name) != getattr(other, name)]
    if not np.array_equal(first.steps, other.steps):
        differing.append("steps")
    if not np.array_equal(first.histogram.observations, other.histogram.observations):
        differing.append("steps with a histogram")
    if differing:
        raise TraceError(
            f"the trace of part {rank} can't be merged with that of part 0: they differ in "
            f"{', '.join(differing)}; trace every part of one training with the same settings"
        )


def _merge_histograms(histograms: Sequence[Histogram]) -> Histogram:
    shape = histograms[0].filled.shape
    cells = np.concatenate(
        [
            np.repeat(np.arange(part.filled.size), part.filled.ravel()) * BINS + part.bins
            for part in histograms
        ]
    )
    merged, place = np.unique(cells, return_inverse=True)
    counts, sums = (
        np.bincount(
            place,
            np.concatenate([getattr(part, name) for part in histograms]).astype(np.float64),
            minlength=len(merged),
        )
        for name in ("counts", "sums")
    )
    return Histogram(
        observations=histograms[0].observations,
        filled=np.bincount(merged // BINS, minlength=shape[0] * shape[1]).reshape(shape),
        bins=(merged % BINS).astype(np.int16),
        counts=counts.astype(np.int64),
        sums=sums.astype(np.float32),
    )


def gather(trace: Trace, device: torch.device) -> list[Trace]:
    """Return the traces of all processes, in the order of their ranks: a collective call.

    device: where the process group's backend takes tensors from.
    """
    file = io.BytesIO()
    write(trace, file)
    mine = torch.frombuffer(file.getbuffer(), dtype=torch.uint8).to(device)
    lengths = [
        torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())
    ]
    dist.all_gather(lengths, torch.tensor([len(mine)], device=device))
    longest = int(torch.cat(lengths).max())
    padded = torch.zeros(longest, dtype=torch.uint8, device=device)
    padded[: len(mine)] = mine
    received = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(received, padded)
    return [
        read(Trace, io.BytesIO(data[: int(length)].numpy(force=True).tobytes()), f"rank {rank}")
        for rank, (data, length) in enumerate(zip(received, lengths, strict=True))
    ]
