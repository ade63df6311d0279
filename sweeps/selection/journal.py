"""The study's journal: a file of lines, each with a checksum of itself and of all before it.

Optuna's journal holds one JSON object a line, and leaves alone a key that it doesn't know. Ours
ends with ``"checksum"``: the hash of the checksum before it and of the line without its own. So a
bit that flipped, a line that is gone, and two that changed places are found, and plain Optuna can
still read the file. A line without a checksum was written by an earlier version or another tool: it
is accepted, and hashed whole, so that one from which it was taken is found by the next line's.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileSymlinkLock

_KEY = b',"checksum":"'
_DIGITS = 16
_TAIL = len(_KEY) + _DIGITS + len(b'"}\n')
_START = b""


class ChainError(ValueError):
    """A journal's line isn't what was written there."""


def _hash(before: bytes, line: bytes) -> bytes:
    return blake2b(before + line, digest_size=_DIGITS // 2).hexdigest().encode()


def has_checksum(line: bytes) -> bool:
    """Whether a whole line has a checksum."""
    return line.endswith(b'"}\n') and line[-_TAIL : -_TAIL + len(_KEY)] == _KEY


def chained(before: bytes, logs: Iterable[dict[str, Any]]) -> tuple[bytes, bytes]:
    """Records as the lines that follow the checksum ``before``, and the checksum of the last."""
    lines = []
    for log in logs:
        line = json.dumps(log, separators=(",", ":")).encode().removesuffix(b"}")
        before = _hash(before, line)
        lines += [line, _KEY, before, b'"}\n']
    return b"".join(lines), before


def _followed(before: bytes, line: bytes, number: int) -> bytes:
    """The checksum after a whole line. Raises ChainError if the line's own is another."""
    if not has_checksum(line):
        return _hash(before, line)
    after = _hash(before, line[:-_TAIL])
    if after != line[-_DIGITS - 3 : -3]:
        raise ChainError(f"line {number}, or one before it, is not what was written")
    return after


class ChainedJournal(BaseJournalBackend):
    """A journal to be read, from where it was read last. It may be growing: a last line that isn't
    whole is left for the next time.

    Reading raises ChainError for a line that doesn't fit its checksum, or is no JSON, and where the
    file has become shorter; FileNotFoundError if it is gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.number, self.offset, self.state = 0, 0, _START
        """Of the lines that were read: how many, where they end, and the last checksum."""

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The records from a number on."""
        if log_number_from < self.number:
            self.number, self.offset, self.state = 0, 0, _START
        with self._path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < self.offset:
                raise ChainError(f"it has {size} bytes, and had {self.offset}")
            file.seek(self.offset)
            # What is appended meanwhile is for the next time.
            while self.offset < size and (line := file.readline()).endswith(b"\n"):
                state = _followed(self.state, line, self.number + 1)
                try:
                    log = json.loads(line, object_pairs_hook=_shared)
                except ValueError as error:
                    raise ChainError(f"line {self.number + 1}: {error}") from None
                if not isinstance(log, dict):
                    raise ChainError(f"line {self.number + 1} is no record")
                self.number += 1
                self.offset += len(line)
                self.state = state
                if self.number > log_number_from:
                    yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Nothing is written here."""
        raise AssertionError(logs)


class BatchedJournal(BaseJournalBackend):
    """The journal file of a study with one writer; what others append meanwhile it doesn't see.

    Optuna's own flushes every record to the disk, a dozen a trial, which takes longer than some
    trainings. This one keeps them until `flush`, which writes them together.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = JournalFileSymlinkLock(str(path))
        self._read = ChainedJournal(path)
        self._stored: int | None = None
        self._pending: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The records from a number on: those of the file only for the first reader."""
        if self._stored is None:
            self._path.touch()
            kept = list(self._read.read_logs(0))
            self._stored = len(kept)
            return kept[log_number_from:]
        return self._pending[max(0, log_number_from - self._stored) :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Take records down, as they will be read from the file."""
        self._pending += json.loads(json.dumps(logs), object_pairs_hook=_shared)

    def flush(self) -> None:
        """Write what was taken down, durably.

        Raises OSError if it can't be: then the file is what it was, and the next call writes it.
        Raises ChainError if the file isn't what it was.
        """
        if not self._pending:
            return
        with self._locked(), self._path.open("r+b", buffering=0) as file:
            self._skip(file.fileno())
            data, state = chained(self._read.state, self._pending)
            try:
                _write(file.fileno(), data, self._read.offset)
            except OSError as error:
                if error.errno is not None:
                    error.filename = str(self._path)
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), self._read.offset)
                raise
        written = self._read
        written.number += len(self._pending)
        written.offset, written.state = written.offset + len(data), state
        self._stored = (self._stored or 0) + len(self._pending)
        self._pending = []

    def _skip(self, file: int) -> None:
        """Go behind what other tools appended; what one of them, or we ourselves on a full disk,
        left of a line is removed.
        """
        size = os.fstat(file).st_size
        if size == self._read.offset:
            return
        if not self._written_in_part(file, size):
            for _ in self._read.read_logs(self._read.number):
                pass
        os.ftruncate(file, self._read.offset)

    def _written_in_part(self, file: int, size: int) -> bool:
        """Whether what follows is the beginning of what is to be written now: a full disk broke off
        the last attempt, and it couldn't be taken back.
        """
        found = os.pread(file, max(0, size - self._read.offset), self._read.offset)
        return bool(found) and chained(self._read.state, self._pending)[0].startswith(found)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock that Optuna's own writers respect."""
        self._lock.acquire()
        try:
            yield
        finally:
            # One that was held for long may have been taken away.
            with contextlib.suppress(RuntimeError):
                self._lock.release()


@dataclass(frozen=True)
class Examined:
    """A journal: of its lines those before the first bad one, how many bytes these are, how many of
    them have no checksum, and what is wrong behind them (empty if nothing is); ``torn`` is whether
    only a last line that isn't whole is.
    """

    lines: int
    size: int
    unchecked: int
    trouble: str
    torn: bool


def examine_journal(path: Path) -> Examined:
    """Read a journal to its first bad line. Raises OSError if it can't be read."""
    data = path.read_bytes()
    journal = ChainedJournal(path)
    trouble = ""
    try:
        for _ in journal.read_logs(0):
            pass
    except ChainError as error:
        trouble = str(error)
    good = data[: journal.offset].splitlines(keepends=True)
    torn = not trouble and journal.offset < len(data)
    unchecked = sum(not has_checksum(line) for line in good)
    return Examined(journal.number, journal.offset, unchecked, trouble, torn)


def _write(file: int, data: bytes, offset: int) -> None:
    os.lseek(file, offset, os.SEEK_SET)
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
    os.fsync(file)


def _shared(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping whose texts are held once, however many records have the same."""
    return {
        sys.intern(key): sys.intern(value) if isinstance(value, str) else value
        for key, value in pairs
    }
