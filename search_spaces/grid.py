"""A space of finitely many points, in a fixed order."""

from __future__ import annotations

import math
from typing import Any

from search_spaces.errors import SpaceError, shown
from search_spaces.space import Space


class Grid:
    """Every point of a space, α included.

    Architecture by architecture, and within one optimiser by optimiser; of the other parameters the
    last changes first. ``size`` says how many points there are. Raises SpaceError naming every
    range that is continuous.
    """

    def __init__(self, space: Space) -> None:
        problems = [
            f"space.{'architecture.' if '.' in name else ''}{name}: "
            f"got {shown(dimension.to_yaml())}; a grid needs a list of values or a range with step"
            for name, dimension in space.parameters().items()
            if dimension.size() is None
        ]
        if problems:
            raise SpaceError(*problems)
        self._branches = list(space.branches())
        self._sizes = [
            math.prod(dimension.size() or 1 for dimension in branch.values())
            for branch in self._branches
        ]
        self.size = sum(self._sizes)

    def point(self, index: int) -> dict[str, Any]:
        """The parameters, named as in `Space.draw`, of a point from 0 to ``size`` - 1."""
        if not 0 <= index < self.size:
            raise IndexError(f"got {index}; the grid has {self.size} points")
        position = 0
        while index >= self._sizes[position]:
            index -= self._sizes[position]
            position += 1
        drawn = {}
        for name, dimension in reversed(self._branches[position].items()):
            index, place = divmod(index, dimension.size() or 1)
            drawn[name] = dimension.at(place)
        return dict(reversed(drawn.items()))
