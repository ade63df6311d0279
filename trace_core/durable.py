"""Durable writes: after a crash a file is there whole, or as it was before.

And private ones: whatever the umask, nobody but its owner may write to what is made here; what else
the umask forbids is forbidden too. The modes are given to the system, which applies the umask, as
no thread can ask for it without changing it for all of them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

FILE_MODE = 0o644
FOLDER_MODE = 0o755


def write_atomically(path: Path, data: bytes | memoryview, *, durably: bool = True) -> None:
    """Replace ``path`` by ``data``: whoever reads it sees all of the old bytes or all of the new,
    and if ``durably`` after a crash of the machine too.

    Raises OSError, which names ``path``, if it can't be written; the temporary file is removed.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durably:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            # The system tells it of a name alone, not of an open file.
            error.filename = str(path)
        raise
    if not durably:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises OSError, FileExistsError if something else is there.
    """
    try:
        path.mkdir(FOLDER_MODE, exist_ok=True)
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(FOLDER_MODE, exist_ok=True)


def owners(path: str, flags: int) -> int:
    """An opener for `open`: a file that is made is its owner's to write."""
    return os.open(path, flags, FILE_MODE)


def keep_from_others() -> None:
    """Have the umask forbid others to write what this process makes, by whichever library. For a
    program at its start: a umask is the whole process's.
    """
    os.umask(os.umask(0o022) | 0o022)
