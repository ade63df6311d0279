"""Quarter-octave histogram of the importance: count and sum per bin, additive (design §4.1).

A bin reaches from 2^(k/4) up to 2^((k+1)/4). Below the first lies an underflow bin, (0, 2^-96),
above the last an overflow bin, [2^32, ∞), and zeros have a bin of their own: 515 bins, of which a
tensor fills about a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from trace_core.statistics import Array, BoolArray, FloatArray, IntArray

LOWEST_OCTAVE, HIGHEST_OCTAVE = -96, 32
QUARTERS = 4 * (HIGHEST_OCTAVE - LOWEST_OCTAVE)
BINS = QUARTERS + 3
ZERO, UNDERFLOW, OVERFLOW = 0, 1, BINS - 1
_QUARTERS = 2.0 ** (np.arange(4) / 4)
_EDGES = np.ldexp(np.resize(_QUARTERS, QUARTERS + 1), np.arange(QUARTERS + 1) // 4 + LOWEST_OCTAVE)
LOWER: FloatArray = np.concatenate([[0.0, 0.0], _EDGES])
"""Lower edge of each bin (inclusive but for the underflow bin)."""
UPPER: FloatArray = np.concatenate([[0.0], _EDGES, [np.inf]])
"""Upper edge of each bin (exclusive but for the zero bin)."""

_MANTISSA_BITS = 52
_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)
_QUARTER_MANTISSAS = _QUARTERS[1:].view(np.int64) & ((1 << _MANTISSA_BITS) - 1)
_FIRST_CODE = 4 * (1023 + LOWEST_OCTAVE)


def bin_of(values: FloatArray) -> IntArray:
    """Bin of each value ≥ 0; a NaN goes to the overflow bin, whose sum then shows it. Same shape as
    ``values``.
    """
    # Comparing bits is exact at the edges and the same on every platform, as a logarithm is not.
    bits = values.view(np.int64) & _MAGNITUDE
    code = (bits >> _MANTISSA_BITS) * 4
    mantissa = bits & ((1 << _MANTISSA_BITS) - 1)
    for threshold in _QUARTER_MANTISSAS:
        code += mantissa >= threshold
    bins = np.clip(code - (_FIRST_CODE - UNDERFLOW - 1), UNDERFLOW, OVERFLOW)
    bins[bits == 0] = ZERO
    return cast(IntArray, bins)


class Tally:
    """Dense counts and sums of one observation while it is collected, tile by tile."""

    def __init__(self, tensors: int) -> None:
        self._counts = np.zeros((tensors, BINS), np.int64)
        self._sums = np.zeros((tensors, BINS))

    def add(self, values: FloatArray, tensors: list[int], lengths: list[int]) -> None:
        """Count ``values``, laid out as ``lengths`` elements of each of ``tensors`` (no tensor
        named twice).
        """
        cells = bin_of(values) + np.repeat(np.arange(len(tensors)) * BINS, lengths)
        size, shape = len(tensors) * BINS, (len(tensors), BINS)
        self._counts[tensors] += np.bincount(cells, minlength=size).reshape(shape)
        self._sums[tensors] += np.bincount(cells, weights=values, minlength=size).reshape(shape)

    def sparse(self) -> tuple[IntArray, Array, IntArray, Array]:
        """Return the filled bins, tensor after tensor: how many each tensor has, their bins, counts
        and sums.
        """
        rows, bins = np.nonzero(self._counts)
        filled = np.bincount(rows, minlength=len(self._counts))
        with np.errstate(over="ignore"):
            sums = self._sums[rows, bins].astype(np.float32)
        return filled, bins.astype(np.int16), self._counts[rows, bins], sums


@dataclass(frozen=True)
class Pooled:
    """Dense histograms of H observations over the B bins that any of them fills, rising."""

    counts: FloatArray
    """(H, B) number of elements."""
    sums: FloatArray
    """(H, B) sum of the importance."""
    lower: FloatArray
    """(B,) lower edges."""
    upper: FloatArray
    """(B,) upper edges."""


@dataclass(frozen=True)
class Histogram:
    """Sparse histograms of H observations × T tensors: the filled bins only, observation-major."""

    observations: IntArray
    """(H,) which observations of the trace these are."""
    filled: IntArray
    """(H, T) number of filled bins."""
    bins: Array
    """(entries,) int16: bin of each entry."""
    counts: IntArray
    """(entries,) number of elements in it."""
    sums: Array
    """(entries,) float32: sum of their importance, good to 6e-8 of itself."""

    def _keep(self, entries: BoolArray | slice) -> Histogram:
        return replace(
            self, bins=self.bins[entries], counts=self.counts[entries], sums=self.sums[entries]
        )

    def select(self, tensors: list[int]) -> Histogram:
        """Return those of some tensors, given in rising order."""
        chosen = np.zeros(self.filled.shape[1], bool)
        chosen[tensors] = True
        kept = self._keep(np.repeat(np.tile(chosen, len(self.filled)), self.filled.ravel()))
        return replace(kept, filled=self.filled[:, tensors])

    def window(self, start: int, stop: int) -> Histogram:
        """Return those of observations ``start`` up to, not ``stop``, counted from ``start``."""
        first, last = np.searchsorted(self.observations, [start, stop])
        before, within = self.filled[:first].sum(), self.filled[first:last].sum()
        kept = self._keep(slice(before, before + within))
        return replace(
            kept, observations=self.observations[first:last] - start, filled=self.filled[first:last]
        )

    def pooled(self) -> Pooled:
        """Sum over the tensors."""
        present = np.flatnonzero(np.bincount(self.bins, minlength=BINS))
        shape = (len(self.observations), len(present))
        columns = np.zeros(BINS, np.int64)
        columns[present] = np.arange(len(present))
        starts = np.arange(len(self.observations)) * len(present)
        cells = np.repeat(starts, self.filled.sum(axis=1)) + columns[self.bins]

        def dense(weights: Array) -> FloatArray:
            flat = np.bincount(cells, weights=weights, minlength=shape[0] * shape[1])
            return cast(FloatArray, flat.reshape(shape))

        return Pooled(dense(self.counts), dense(self.sums), LOWER[present], UPPER[present])
