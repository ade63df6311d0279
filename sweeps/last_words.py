"""What a worker's process leaves when it dies in the middle of a training.

While a training is made, a file has the end of what it prints. Where a signal such as SIGSEGV ends
the process, Python's faulthandler writes to another which one, and where in the code that was; and
so it does when a training takes longer than it may, and ends the process, even where the code never
lets go of the interpreter's lock. The files are removed when the training ends; the driver reads
those that stay.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeps.redaction import Redaction
from trace_core.durable import make_folder

LOOK_SECONDS = 0.25
"""Between two looks at the memory of a process that has a limit."""

MOST_BYTES = 2**16
"""Of the file, before it begins anew with its end."""

MOST_CALLS = 30
"""Of a stack, in what is read."""

LOG_CHARACTERS = 10_000
"""Of what a training prints, in its record."""

_DEATH = ".death"
_MARK = "tracerank: "
_TOLD = re.compile(rf"^(?:{_MARK}(.*)|Fatal Python error: (.*)|Timeout \(.*)$", re.M)
_STACKS = re.compile(r"\n(?=\S[^\n]*\(most recent)")
_SIGNALS = {
    "Segmentation fault": "SIGSEGV (segmentation fault)",
    "Aborted": "SIGABRT (aborted)",
    "Bus error": "SIGBUS (bus error)",
    "Illegal instruction": "SIGILL (illegal instruction)",
    "Floating point exception": "SIGFPE (floating point exception)",
    "Floating-point exception": "SIGFPE (floating point exception)",
}


@dataclass(frozen=True)
class LastWords:
    """Why a process died, empty if it couldn't tell, and the end of what it had to say."""

    reason: str
    tail: str


def take(path: Path, each_time: float | None = None) -> LastWords | None:
    """What a process that died has left at ``path``, which is removed; None if there is nothing.

    ``each_time`` is how long a training could take.
    """
    death = path.with_suffix(_DEATH)
    try:
        said = path.read_bytes().decode(errors="replace").strip()
        text = death.read_bytes().decode(errors="replace").strip()
    except OSError:
        return None
    for each in (path, death):
        with contextlib.suppress(OSError):
            each.unlink()
    last = next(reversed(list(_TOLD.finditer(text))), None)
    if last is None:
        return LastWords("", said)
    stacks: list[str] = []
    told, fatal = last.groups()
    if told:
        reason = told
    else:
        # The main thread's comes last, its innermost call first.
        stack = _STACKS.split(text[last.end() :])[-1].partition("\n\n")[0]
        stacks = stack.strip().splitlines()[:MOST_CALLS]
        named = f"the worker process died of {_SIGNALS.get(fatal, fatal)}"
        reason = named if fatal else took_too_long(each_time)
    return LastWords(reason, "\n".join([*said.splitlines(), *stacks]))


def took_too_long(each_time: float | None) -> str:
    """What is said of a training that takes longer than it may."""
    return f"took longer than limits.each_time ({each_time or 0:g} s)"


class Tail(io.TextIOBase):
    """The end of what a training prints, which may be without end, and without secrets. ``keep``
    is given what is printed, and that end.
    """

    def __init__(self, keep: Callable[[str, str], None] = lambda text, tail: None) -> None:
        self._told = ""
        self._redaction = Redaction()
        self._keep = keep

    @property
    def text(self) -> str:
        """That end."""
        return (self._told + self._redaction.held)[-LOG_CHARACTERS:]

    def write(self, text: str) -> int:
        """Add what was printed."""
        # Before anything is cut: of half a secret nothing tells that it is one.
        told = self._redaction.of(text)
        self._told = (self._told + told)[-LOG_CHARACTERS:]
        self._keep(told[-LOG_CHARACTERS:], self._told)
        return len(text)


class Witness:
    """Keeps the file of a process while it trains.

    ``memory`` is how many bytes a training may take of the process's own memory, None without a
    limit: beyond them the process ends.
    """

    def __init__(self, memory: int | None = None) -> None:
        self._memory = memory
        self._before: int | None = None
        self._written = 0
        self._path = Path()
        self._file: int | None = None
        self._death: int | None = None
        if memory is not None:
            threading.Thread(target=self._look_after, daemon=True, name="memory-limit").start()

    def begin(self, path: Path) -> None:
        """From now on a training is made, and ``path`` is its file. What can't be written isn't:
        that ends no training.
        """
        self._path, self._written = path, 0
        with contextlib.suppress(OSError):
            make_folder(path.parent)
            flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_TRUNC
            # What a training prints may hold what isn't for others.
            self._file = os.open(path, flags, 0o600)
            self._death = os.open(path.with_suffix(_DEATH), flags, 0o600)
            faulthandler.enable(self._death, all_threads=False)
        self._before = _own_memory()

    def end(self) -> None:
        """The training has ended, and with it what could be told of it."""
        self._before = None
        if self._file is None and self._death is None:
            return
        with contextlib.suppress(AttributeError, OSError, ValueError):
            # The process may have no stderr.
            faulthandler.enable(sys.__stderr__)  # type: ignore[arg-type]
        for file, path in (
            (self._file, self._path),
            (self._death, self._path.with_suffix(_DEATH)),
        ):
            with contextlib.suppress(OSError):
                if file is not None:
                    os.close(file)
                path.unlink(missing_ok=True)
        self._file = self._death = None

    @contextlib.contextmanager
    def at_most(self, seconds: float | None) -> Iterator[None]:
        """Ends the process if it takes longer than so many seconds, where there is a limit."""
        if seconds is None:
            yield
            return
        to = self._death if self._death is not None else sys.__stderr__
        faulthandler.dump_traceback_later(seconds, exit=True, file=to)  # type: ignore[arg-type]
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def keep(self, text: str, tail: str) -> None:
        """Note what was printed, as `Tail` tells it; ``tail`` is the end of all of it. The file
        stays where nobody is left to read it, so nothing may be in it that a record wouldn't hold.
        """
        if self._file is None or not text:
            return
        with contextlib.suppress(OSError):
            if self._written > MOST_BYTES:
                os.ftruncate(self._file, 0)
                text, self._written = tail, 0
            self._written += os.write(self._file, text.encode(errors="backslashreplace"))

    def _look_after(self) -> None:
        assert self._memory is not None
        while True:
            time.sleep(LOOK_SECONDS)
            before = self._before
            taken = 0 if before is None else _own_memory() - before
            if taken > self._memory:
                text = (
                    f"{_MARK}held {shown_bytes(taken)} of memory, more than limits.each_memory "
                    f"({shown_bytes(self._memory)})\n"
                )
                with contextlib.suppress(OSError):
                    os.write(2 if self._death is None else self._death, text.encode())
                os._exit(1)


def shown_bytes(count: float) -> str:
    """An amount of memory as a message has it."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def _own_memory() -> int:
    """Bytes of memory that this process alone holds, 0 where the system doesn't tell."""
    try:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
