"""JSON files with a seal: the hash of what they say, by which a bit that flipped in a figure is
found.

The seal is the first key, ``sha256``: the SHA-256, in hexadecimal, of the file as it would be
without it. It is of what the file says, not of its bytes: one that is laid out otherwise is laid
out again to be verified. A file without a seal is of an earlier version, and read as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trace_core.durable import write_atomically

SEAL = "sha256"

_OPENED = "{\n"
_HEAD = '{\n "sha256": "%s",\n'


class SealError(ValueError):
    """What a file says is not what was written."""


def seal_of(text: bytes) -> str:
    """The seal of a file that is without it this text."""
    return hashlib.sha256(text).hexdigest()


def sealed(value: Mapping[str, Any]) -> bytes:
    """A mapping, which isn't empty, as strict JSON with its seal. A NaN raises ValueError."""
    # As it will be read: keys that aren't text become text, and may then sort otherwise.
    text = _laid_out(json.loads(json.dumps(value, allow_nan=False)))
    head = _HEAD % seal_of(text)
    return head.encode() + text.removeprefix(_OPENED.encode())


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as `sealed` makes it, durably."""
    write_atomically(path, sealed(value))


def unsealed(data: bytes) -> dict[str, Any]:
    """What a file's bytes say, its seal verified and taken off.

    Raises SealError if it isn't that of the rest, and ValueError for what is no mapping in JSON.
    """
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it holds no mapping")
    if SEAL not in value:
        return value
    seal = value.pop(SEAL)
    # Of ten thousands of records, laying each out again takes far longer than reading them.
    head = (_HEAD % seal).encode()
    as_written = data.startswith(head) and seal_of(_OPENED.encode() + data[len(head) :]) == seal
    if not as_written and seal_of(_laid_out(value)) != seal:
        raise SealError("what it says doesn't fit its checksum")
    return value


def read_sealed(path: Path) -> dict[str, Any]:
    """What a file says. Raises as `unsealed`, and OSError where it can't be read."""
    return unsealed(path.read_bytes())


def _laid_out(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
