"""The one error that trace_core raises on purpose, and the look-up that raises it for an unknown
name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TypeVar

Found = TypeVar("Found")


class TraceError(ValueError):
    """A model that can't be traced, a file that is no trace, or a question that a trace can't
    answer.
    """


def require_known(name: str, choices: Collection[str], what: str) -> str:
    """Return ``name`` if it is among ``choices``.

    Raises TraceError otherwise, naming ``what`` was asked for, every choice, and the nearest one.
    """
    if name in choices:
        return name
    near = get_close_matches(str(name), choices, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise TraceError(
        f"unknown {what} {name!r}{hint}; there are: {', '.join(map(repr, choices)) or 'none'}"
    )


def look_up(name: str, registry: Mapping[str, Found], what: str) -> Found:
    """Return ``registry[name]``; raises TraceError as `require_known` does."""
    return registry[require_known(name, registry, what)]
