"""A linear sketch of a tensor: few numbers, from which distances between two places are known.

Element i gets a random sign and is added to counter i mod w, with w a prime, so that rows and
columns of a matrix spread over all counters. Signs follow from the tensor's position alone, so the
sketch of a difference is the difference of the sketches, and its squared length has the
difference's squared length as its expectation, with a relative standard deviation of about √(2/w)
(Charikar, Chen and Farach-Colton 2002; Alon, Matias and Szegedy 1996). The errors of different
tensors average out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import count

import numpy as np

from trace_core.statistics import Array, FloatArray, IntArray

WHOLE_BELOW = 1024
"""Elements below which a tensor is kept as it is."""
ELEMENTS_PER_COUNTER = 256
_BLOCK = 1 << 15
_SEED = 0x7261_6365


@lru_cache(maxsize=4096)
def width(size: int) -> int:
    """Counters of a tensor of ``size`` elements: all below 1024, otherwise a prime of about
    size/256, from 1031.
    """
    if size < WHOLE_BELOW:
        return size
    least = max(WHOLE_BELOW, size // ELEMENTS_PER_COUNTER)
    return next(n for n in count(least) if all(n % d for d in range(2, int(n**0.5) + 1)))


def sketch(values: Array, position: int) -> FloatArray:
    """Sketch a flat tensor, the model's ``position``-th: (n,) → (width(n),) float64.

    O(n) time; temporary memory is bounded.
    """
    size, counters = len(values), width(len(values))
    if counters == size:
        return values.astype(np.float64)
    draws = np.random.Philox(key=_SEED + position)
    total = np.zeros(counters)
    rows = max(1, _BLOCK // counters)
    for start in range(0, size, rows * counters):
        block = values[start : start + rows * counters]
        words = draws.random_raw(-(-len(block) // 64))
        bits = np.unpackbits(words.view(np.uint8), count=len(block))
        signed = np.where(bits, -block, block).astype(np.float64)
        whole = len(signed) // counters * counters
        total += signed[:whole].reshape(-1, counters).sum(axis=0)
        total[: len(signed) - whole] += signed[whole:]
    return total


class Sketches:
    """Sketches of a model at steps: float32 rows of ``counters`` numbers.

    They are handed out as they lie, without a copy of them; a later row goes to a new place then,
    so that what was handed out stays as it is.
    """

    def __init__(self, counters: int, room: int) -> None:
        self.steps: list[int] = []
        self._rows = np.empty((room, counters), np.float32)
        self._handed_out = False

    def add(self, step: int) -> Array:
        """Return the row for a step, to be filled."""
        taken = len(self.steps)
        if self._handed_out or taken == len(self._rows):
            room, counters = self._rows.shape
            rows = np.empty((max(room, taken + 1), counters), np.float32)
            rows[:taken] = self.rows
            self._rows, self._handed_out = rows, False
        self.steps.append(step)
        row: Array = self._rows[taken]
        return row

    def filled(self, kept: Mapping[int, Array]) -> Sketches:
        """Return others of this size, with these rows by step. Raises ValueError for a row of
        another size.
        """
        room, counters = self._rows.shape
        found = Sketches(counters, room)
        for step, row in kept.items():
            if row.shape != (counters,):
                raise ValueError(f"sketches has one of shape {row.shape}, not ({counters},)")
            found.add(step)[:] = row
        return found

    def keep(self, count: int) -> None:
        """Let go of all but the first ``count``."""
        del self.steps[count:]

    @property
    def rows(self) -> Array:
        """The rows filled so far, in the order of ``steps``."""
        return self._rows[: len(self.steps)]

    def hand_out(self) -> tuple[IntArray, Array]:
        """Return the steps and their rows, which no later call changes."""
        self._handed_out = True
        return np.array(self.steps, np.int64), self.rows


def squared_distances(first: FloatArray, second: FloatArray, sizes: list[int]) -> FloatArray:
    """Squared distance between two places of each of T tensors, from their sketches, (K,) each:
    (T,).
    """
    squares = (second.astype(np.float64) - first) ** 2
    stops = np.cumsum([width(size) for size in sizes])
    return np.array([part.sum() for part in np.split(squares, stops[:-1])])
