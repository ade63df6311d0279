"""Lists of single parameters: those that moved most between anchors, and the most important there.

Which parameters these are doesn't add up, unlike the statistics, so short lists are kept at anchors
(design §4.1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trace_core.statistics import Array, FloatArray, IntArray

KINDS = ("moved", "important")
LENGTH = 10
"""Parameters in a list."""


class TopElement(NamedTuple):
    """One parameter of a list."""

    start: int
    """First step of the span; for ``important`` the step itself."""
    stop: int
    """Step after the last of the span."""
    tensor: str
    element: int
    """Position in the flattened tensor."""
    value: float
    """Distance moved in the span, |θ' − θ|; or share of the importance of the whole, c/Σc."""


class TopLists(NamedTuple):
    """Lists as arrays, R parameters in all."""

    places: IntArray
    """(R, 5): kind (of `KINDS`), start, stop, tensor, index."""
    values: FloatArray
    """(R,)"""

    @classmethod
    def none(cls) -> TopLists:
        """Return no lists."""
        return cls(np.zeros((0, 5), np.int64), np.zeros(0))

    def with_list(
        self, kind: str, start: int, stop: int, found: list[tuple[float, int, int]]
    ) -> TopLists:
        """Add the greatest of (value, tensor, index)."""
        found = foremost(found)
        places = [(KINDS.index(kind), start, stop, tensor, index) for value, tensor, index in found]
        return TopLists(
            np.concatenate([self.places, np.array(places, np.int64).reshape(-1, 5)]),
            np.concatenate([self.values, [value for value, *_ in found]]),
        )

    def of_tensors(self, chosen: list[int]) -> TopLists:
        """Keep the parameters of some tensors, which are numbered anew."""
        number = {tensor: i for i, tensor in enumerate(chosen)}
        kept = np.isin(self.places[:, 3], chosen)
        places = self.places[kept]
        places[:, 3] = [number[tensor] for tensor in places[:, 3].tolist()]
        return TopLists(places, self.values[kept])

    def named(self, kind: str, tensors: tuple[str, ...]) -> list[TopElement]:
        """Return the lists of one kind, one after the other, each from its greatest value."""
        rows = zip(self.places.tolist(), self.values.tolist(), strict=True)
        return [
            TopElement(start, stop, tensors[tensor], index, value)
            for (which, start, stop, tensor, index), value in rows
            if KINDS[which] == kind
        ]


def foremost(found: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    """Return as many as a list has of (value, tensor, index), from the greatest value."""
    return sorted(found, key=lambda each: (-each[0], *each[1:]))[:LENGTH]


def greatest(values: Array, tensor: int, start: int) -> list[tuple[float, int, int]]:
    """Return the greatest of flat values ≥ 0 above 0, as (value, tensor, index); the first of the
    values has the index ``start``.
    """
    count = min(LENGTH, len(values))
    best = np.argpartition(values, len(values) - count)[len(values) - count :]
    return [(float(values[i]), tensor, start + int(i)) for i in best if values[i] > 0]
