"""The one pass over θ, θ' and g that yields the statistics of an observation, made of PyTorch's
operations: for any device, and where the compiled pass (`trace_core.kernel`) is missing.

Small tensors are gathered into flat float64 tiles, large ones span several, so that the number of
kernel calls goes with the elements and not with the tensors, and the temporary memory is bounded by
the tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from trace_core.concentration import EXACT_BELOW
from trace_core.histogram import Tally
from trace_core.importance import ElementwiseImportance
from trace_core.observed import Importances, Observed
from trace_core.statistics import DISPLACEMENT, FloatArray, Statistic

TILE = 1 << 17
"""Most elements in a tile."""
_SUMMED = DISPLACEMENT - 1  # all sums but COUNT, which is known without reading an element
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Span:
    """Elements ``start`` to ``stop`` (exclusive) of one flattened tensor."""

    tensor: int
    start: int
    stop: int
    whole: bool

    def of(self, tensor: Tensor) -> Tensor:
        """Return these elements of a tensor, flat."""
        return tensor.reshape(-1) if self.whole else tensor[self.start : self.stop]


@dataclass(frozen=True)
class Tile:
    """Spans on one device, of at most `TILE` elements together and of different tensors."""

    spans: tuple[Span, ...]

    @cached_property
    def tensors(self) -> list[int]:
        """Which tensor each span is of."""
        return [span.tensor for span in self.spans]

    @cached_property
    def lengths(self) -> list[int]:
        """Elements of each span."""
        return [span.stop - span.start for span in self.spans]


@lru_cache(maxsize=16)
def plan_tiles(sizes: tuple[int, ...], devices: tuple[torch.device, ...]) -> tuple[Tile, ...]:
    """Lay out non-empty tensors of these sizes in tiles; one that fits into a tile is never cut."""
    tiles: list[Tile] = []
    for device in dict.fromkeys(devices):
        spans: list[Span] = []
        room = TILE
        for tensor in (i for i, other in enumerate(devices) if other == device):
            size = sizes[tensor]
            for start in range(0, size, TILE):
                length = min(TILE, size - start)
                if length > room:
                    tiles.append(Tile(tuple(spans)))
                    spans, room = [], TILE
                spans.append(Span(tensor, start, start + length, whole=length == size))
                room -= length
        tiles.append(Tile(tuple(spans)))
    return tuple(tiles)


def in_tiles(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield tensors of one shape in flat float64 tiles, small beside any model that is large."""
    flat = [torch.split(tensor.detach().reshape(-1), TILE // 4) for tensor in tensors]
    for tile in zip(*flat, strict=True):
        yield tuple(part.double() for part in tile)


@torch.no_grad()
def collect(
    positions: list[int],
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    gradients: Sequence[Tensor],
    origins: Sequence[Sequence[Tensor]],
    importance: ElementwiseImportance,
    *,
    histogram: bool,
) -> Observed:
    """Read n non-empty tensors, at ``positions`` of the model, before a step, after it, their
    gradients, and where they were at each origin.

    All may be of any floating dtype and device, each tensor's four alike in shape and device.
    Nothing is written to, and no random number drawn.
    """
    sizes = tuple(tensor.numel() for tensor in before)
    # What spans several tiles is flattened once, since that may copy.
    sources = [
        [tensor if tensor.numel() <= TILE else tensor.reshape(-1) for tensor in tensors]
        for tensors in (before, after, gradients, *origins)
    ]
    tally = Tally(len(sizes)) if histogram else None
    small: dict[int, FloatArray] = {}
    sums: list[tuple[list[int], Tensor]] = []
    for tile in plan_tiles(sizes, tuple(tensor.device for tensor in before)):
        theta, updated, gradient, *starts = (
            torch.cat([span.of(source[span.tensor]) for span in tile.spans]).double()
            for source in sources
        )
        terms = _terms(theta, updated, gradient, starts, importance)
        sums.append((tile.tensors, _segment_sums(terms, tile.lengths)))
        if tally is not None:
            values = terms[Statistic.C - 1].cpu().numpy()
            tally.add(values, tile.tensors, tile.lengths)
            parts = np.split(values, np.cumsum(tile.lengths)[:-1])
            # A copy, since a slice would keep the whole tile alive.
            small |= {
                positions[i]: part.copy()
                for i, part in zip(tile.tensors, parts, strict=True)
                if sizes[i] < EXACT_BELOW
            }
    statistics = np.zeros((len(sizes), DISPLACEMENT + len(origins)))
    statistics[:, Statistic.COUNT] = sizes
    for tensors, tile_sums in sums:
        statistics[tensors, Statistic.COUNT + 1 :] += tile_sums.cpu().numpy().T
    importances = None
    if tally is not None:
        filled, bins, counts, bin_sums = tally.sparse()
        importances = Importances(filled[None], bins, counts, bin_sums, small)
    return Observed(positions, statistics[None], importances)


def _terms(
    theta: Tensor,
    updated: Tensor,
    gradient: Tensor,
    origins: Sequence[Tensor],
    importance: ElementwiseImportance,
) -> Tensor:
    """What is to be summed, element by element, for flat float64 tensors of length n: (sums, n)."""
    terms = theta.new_empty(_SUMMED + len(origins), len(theta))
    abs_theta, sq_theta, abs_delta, sq_delta, theta_delta, ratio, zeros, symmetric = terms[
        : Statistic.C - 1
    ]
    c, sq_c, c_log_c, *displacements = terms[Statistic.C - 1 :]
    delta = updated - theta
    torch.abs(theta, out=abs_theta)
    torch.mul(theta, theta, out=sq_theta)
    torch.abs(delta, out=abs_delta)
    torch.mul(delta, delta, out=sq_delta)
    torch.mul(theta, delta, out=theta_delta)
    at_zero = theta == 0
    torch.div(abs_delta, abs_theta, out=ratio).masked_fill_(at_zero, 0.0)
    zeros.copy_(at_zero)
    torch.abs(updated, out=symmetric).add_(abs_theta).clamp_(min=_TINY)
    torch.div(abs_delta, symmetric, out=symmetric)
    c.copy_(importance(theta, gradient))
    torch.mul(c, c, out=sq_c)
    torch.xlogy(c, c, out=c_log_c)
    for displacement, origin in zip(displacements, origins, strict=True):
        torch.sub(updated, origin, out=displacement).square_()
    return terms


def _segment_sums(terms: Tensor, lengths: list[int]) -> Tensor:
    """Sum (q, n) over consecutive segments of these lengths, all above 0: (q, segments)."""
    if terms.device.type == "cpu":
        # One call for all segments; torch has none as quick on a processor.
        starts = list(accumulate(lengths[:-1], initial=0))
        return torch.from_numpy(np.add.reduceat(terms.numpy(), starts, axis=1))
    return torch.stack([part.sum(dim=1) for part in torch.split(terms, lengths, dim=1)], dim=1)
