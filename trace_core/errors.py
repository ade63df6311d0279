"""The one error that trace_core raises on purpose, and the checks that raise it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from types import UnionType
from typing import Any, TypeGuard, TypeVar

Found = TypeVar("Found")


class TraceError(ValueError):
    """A model that can't be traced, a file that is no trace, or a question that a trace can't
    answer.
    """


def require_known(name: str, choices: Collection[str], what: str) -> str:
    """Return ``name`` if it is among ``choices``.

    Raises TraceError otherwise, naming ``what`` was asked for, every choice, and the nearest one.
    """
    if isinstance(name, str) and name in choices:
        return name
    near = get_close_matches(str(name), choices, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise TraceError(
        f"unknown {what} {name!r}{hint}; there are: {', '.join(map(repr, choices)) or 'none'}"
    )


def look_up(name: str, registry: Mapping[str, Found], what: str) -> Found:
    """Return ``registry[name]``; raises TraceError as `require_known` does."""
    return registry[require_known(name, registry, what)]


def is_whole(value: object) -> TypeGuard[int]:
    """Whether this is a whole number, numpy's too; a bool is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def whole_number(name: str, value: object, least: int | None = None) -> int:
    """Return ``value`` as an int if it is a whole number from ``least``.

    Raises TraceError otherwise, calling it ``name``.
    """
    if is_whole(value) and (least is None or value >= least):
        return int(value)
    rule = "" if least is None else f" from {least}"
    raise TraceError(f"{name} is {value!r}; it must be a whole number{rule}")


def positive(name: str, value: Any) -> float:
    """Return ``value`` as a float if it is a positive number; raises TraceError otherwise."""
    real = not isinstance(value, bool) and isinstance(value, Real)
    if real and 0 < float(value) < math.inf:
        return float(value)
    raise TraceError(f"{name} is {value!r}; it must be a positive number")


def require_kind(name: str, value: Found, kind: type | UnionType, wanted: str) -> Found:
    """Return ``value`` if it is of a kind; raises TraceError otherwise, calling it ``name`` and
    saying what is wanted.
    """
    if not isinstance(value, kind):
        raise TraceError(f"{name} is a {type(value).__name__}; {wanted}")
    return value
