"""A point of a space as a person gives it: some of its parameters, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.dimensions import Choice, Dimension, IntRange
from search_spaces.errors import SpaceError, shown, unknown
from search_spaces.space import Space


def parse_point(space: Space, value: object, where: str) -> dict[str, Any]:
    """The parameters that ``value`` gives, named as in `Space.draw`, in the types of the space.

    What exists only under another's value needs that value beside it, unless the space has no
    other. Raises SpaceError listing every problem; ``where`` is the key path for messages.
    """
    if not isinstance(value, Mapping):
        raise SpaceError(f"{where}: got {shown(value)}; must be a mapping of parameters to values")
    parameters = space.parameters()
    point: dict[str, Any] = {}
    problems = []
    for name, given in value.items():
        if name not in parameters:
            problems.append(unknown(f"{where}.{name}", "parameter", name, parameters))
            continue
        dimension = parameters[name]
        try:
            point[name] = member(dimension, given)
        except SpaceError:
            problems.append(f"{where}.{name}: got {shown(given)}; the space has {dimension}")
    for name in point:
        needed = _condition(name)
        if needed is None:
            continue
        parent, wanted = needed
        only = parameters[parent]
        had = only.at(0) if only.size() == 1 else point.get(parent)
        if had != wanted and parent not in value:
            problems.append(f"{where}.{name}: needs {parent}: {wanted} beside it")
        elif had != wanted and parent in point:
            problems.append(f"{where}.{name}: exists only where {parent} is {wanted}")
    if problems:
        raise SpaceError(*problems)
    return point


def member(dimension: Dimension, value: object) -> Any:
    """The dimension's own value that equals ``value``. Raises SpaceError if it has none."""
    if isinstance(dimension, Choice):
        for one in dimension.values:
            # True equals 1, and is another value.
            if one == value and isinstance(one, bool) == isinstance(value, bool):
                return one
    elif dimension.contains(value):
        return value if isinstance(dimension, IntRange) else float(value)  # type: ignore[arg-type]
    raise SpaceError(f"got {shown(value)}; the space has {dimension}")


def _condition(name: str) -> tuple[str, str] | None:
    """The parameter on which another depends, and the value that it needs."""
    if name == "momentum":
        return "optimizer", "sgd"
    architecture, dot, _ = name.rpartition(".")
    return ("architecture", architecture) if dot else None
