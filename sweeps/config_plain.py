"""What a configuration can't hold whatever it says: more than a file of it may have, and what no
file can write down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search_spaces.errors import shown

LARGEST_FILE = 512 * 1024
"""Bytes of a configuration's file; reading as many takes seconds."""
MOST_VALUES = 50_000
"""Values in it, as commas and lines tell: what takes the time."""
_LARGEST = LARGEST_FILE // 2
"""Characters of its keys and values, so that what is written of them can be read again."""
_DEEPEST = 20
_MOST_KEYS = 1000


def plain_problems(data: Mapping[Any, Any]) -> list[str]:
    """What is wrong with the values of a configuration before any key is looked at, with the key
    path of each. Takes time with what is looked at, which ends at the first that is too large:
    a few lines of YAML can stand for billions of values.
    """
    size = 0
    found: list[str] = []
    for path, value, depth in _walk(data):
        place = ".".join(path)
        if depth > _DEEPEST:
            return [f"{_key(place)}: too deeply nested; must be at most {_DEEPEST} levels"]
        if isinstance(value, Mapping) and len(value) > _MOST_KEYS:
            return [f"{_key(place)}: has {len(value)} keys; must be at most {_MOST_KEYS}"]
        size += _size(value) + (_size(path[-1]) if path else 0)
        if size > _LARGEST:
            return [
                f"{_key(path[0])}: up to here the configuration has more than {_LARGEST:,} "
                "characters; must be at most as many"
            ]
        texts = (value, path[-1]) if path else (value,)
        if any(isinstance(text, str) and not _is_text(text) for text in texts):
            found.append(f"{_key(place)}: got {shown(value)}; must be text that UTF-8 can write")
    return found


def _walk(data: Mapping[Any, Any]) -> Iterator[tuple[tuple[str, ...], Any, int]]:
    """Every value, the first first, with its key path."""
    left: list[tuple[tuple[str, ...], Any]] = [((), data)]
    while left:
        path, value = left.pop()
        yield path, value, len(path)
        inner: list[tuple[Any, Any]] = []
        if isinstance(value, Mapping):
            inner = list(value.items())
        elif isinstance(value, list | tuple):
            # What a longer list holds is too large already, however little each value is.
            inner = list(enumerate(value[:_LARGEST]))
        left += [((*path, _name(key)), each) for key, each in reversed(inner)]


def _name(key: Any) -> str:
    return key if isinstance(key, str) else shown(key)


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value) + 2
    # A number is told in few characters, but for a whole one of many digits.
    return min(value.bit_length() // 3, _LARGEST + 1) + 2 if isinstance(value, int) else 4


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key(place: str) -> str:
    return place if len(place) <= 100 else f"{place[:100]}…"
