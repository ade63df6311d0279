"""What can go wrong between a client and a cluster, told in one message each."""

from __future__ import annotations

from collections.abc import Iterable


class JobError(ValueError):
    """What was asked for can't be done: a bad argument, or an id that is something else."""


class JobNotFoundError(FileNotFoundError):
    """The cluster, or the storage, knows no such job."""


class UnreachableError(ConnectionError):
    """Nothing answers at the address, or not as a cluster does, or not in time."""


class RefusedError(ConnectionError):
    """The cluster doesn't let us in, or is one that we can't work with."""


def size(count: int) -> str:
    """Bytes in words: 512 B, 12.3 KiB, 4.0 MiB."""
    number, unit = float(count), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, bigger
    return f"{count} B" if unit == "B" else f"{number:.1f} {unit}"


def some(things: Iterable[str], most: int = 5) -> str:
    """The first few, and how many more there are."""
    listed = list(things)
    more = f", and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
