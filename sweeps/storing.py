"""What can't be written is no fault of what was to be: a full disk fails no training."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


class UnwrittenError(Exception):
    """A file of the sweep can't be written: the sweep can't go on here before that is mended."""


@contextlib.contextmanager
def storing() -> Iterator[None]:
    """Around what writes the sweep's own files: UnwrittenError in place of OSError."""
    try:
        yield
    except OSError as error:
        raise UnwrittenError(words(error)) from error


def words(error: OSError) -> str:
    """Where it happened, as far as the error tells, and what."""
    # Ray hands on what was raised elsewhere with its traceback for a text, and it as the cause.
    cause = getattr(error, "cause", None)
    if isinstance(cause, OSError):
        return words(cause)
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    lines = (error.strerror or str(error)).strip().splitlines()
    return ": ".join(filter(None, (where, *lines[-1:])))
