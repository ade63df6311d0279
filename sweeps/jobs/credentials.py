"""The token that a cluster is shown, found or made where Ray's own tools look for it."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.jobs.errors import JobError
from trace_core.durable import make_folder

_MOST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Token:
    """A token, which is shown nowhere, and where it came from."""

    value: str = field(repr=False)
    source: str


def find_token(
    given: Path | None, environment: Mapping[str, str], home: Path, note: Callable[[str], None]
) -> Token | None:
    """The token in the file given, else in Ray's order: ``RAY_AUTH_TOKEN``, the file that
    ``RAY_AUTH_TOKEN_PATH`` names, ``~/.ray/auth_token``; None if there is none.

    A file that others can read is made ours alone, and ``note`` told. Raises JobError for a file
    that can't be read, is not ours, or holds no token.
    """
    if given is not None:
        return _read(given, f"--token-file {given}", note)
    text = environment.get("RAY_AUTH_TOKEN", "").strip()
    if text:
        return Token(_checked(text, "RAY_AUTH_TOKEN"), "RAY_AUTH_TOKEN")
    named = environment.get("RAY_AUTH_TOKEN_PATH", "").strip()
    if named:
        return _read(Path(named).expanduser(), f"RAY_AUTH_TOKEN_PATH {named}", note)
    usual = home / ".ray" / "auth_token"
    return _read(usual, str(usual), note) if usual.exists() else None


def ensure_token(environment: Mapping[str, str], home: Path, note: Callable[[str], None]) -> Token:
    """The token that `find_token` finds; where there is none, one is made in its file, for us
    alone. Ray would make it for everybody to read.

    Raises JobError as `find_token` does, and if none can be made.
    """
    named = environment.get("RAY_AUTH_TOKEN_PATH", "").strip()
    path = Path(named).expanduser() if named else home / ".ray" / "auth_token"
    if path.exists() or environment.get("RAY_AUTH_TOKEN", "").strip():
        found = find_token(None, environment, home, note)
        assert found is not None
        return found
    token = secrets.token_hex(32)
    try:
        make_folder(path.parent.parent)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token)
    except FileExistsError:  # somebody has just made one
        return _read(path, str(path), note)
    except OSError as error:
        raise JobError(f"{path}: no token can be made: {error.strerror}") from None
    note(f"made a token in {path}, for you alone")
    return Token(token, str(path))


def _read(path: Path, source: str, note: Callable[[str], None]) -> Token:
    try:
        # Not to wait for a pipe that nobody writes to.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise JobError(f"{source}: is not a file; give one that holds the token")
            _keep_from_others(descriptor, status, source, note)
            data = os.read(descriptor, _MOST_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = error.strerror or str(error)
        raise JobError(f"{source}: the token can't be read: {reason}") from None
    if len(data) > _MOST_BYTES:
        raise JobError(f"{source}: is too large to be a token")
    return Token(_checked(data.decode(errors="replace").strip(), source), source)


def _keep_from_others(
    descriptor: int, status: os.stat_result, source: str, note: Callable[[str], None]
) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if not mode & 0o077:
        return
    other = f"{source}: others can read this token (mode {mode:04o})"
    if status.st_uid != os.geteuid():
        raise JobError(
            f"{other}, and the file is not yours to change: give a copy that only you can read, "
            "or put the token into RAY_AUTH_TOKEN"
        )
    try:
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise JobError(
            f"{other}, and that can't be changed ({error.strerror}): give a copy that only you can "
            "read, or put the token into RAY_AUTH_TOKEN"
        ) from None
    note(f"{other}; it is yours alone now (mode 0600)")


def _checked(text: str, source: str) -> str:
    if not text:
        raise JobError(f"{source}: is empty; it must hold the cluster's token")
    if not all("!" <= character <= "~" for character in text):
        raise JobError(f"{source}: holds something else than a token (one word of plain letters)")
    return text
