"""What every kind of fuzzing has in common: a kind, how many cases of it are tried, what is
counted, and the bounds of each case: ten seconds, a gibibyte, and a message fit for a person.
"""

from __future__ import annotations

import contextlib
import os
import reprlib
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

SECONDS = 10.0
"""No case takes longer, of this process's own time: what others do on the machine doesn't count."""
HANGING = 60.0
"""Nor longer than this by the clock."""
MEBIBYTES = 1024
"""No case takes more memory, at its peak."""
LONGEST = 20_000
"""Characters of a message, all of its lines together."""

Outcome = Literal["accepted", "refused"]


@dataclass(frozen=True)
class Kind:
    """``check`` says whether a case was accepted or refused as it should be, and raises whatever
    it likes where neither is so. ``share`` of a campaign's cases are of this kind.
    """

    name: str
    cases: SearchStrategy[Any]
    check: Callable[[Any], Outcome]
    share: float
    prepare: Callable[[], object]
    """Makes what its cases are made of, before the first."""


@dataclass
class Tally:
    """What became of the cases of one kind."""

    refused: int = 0
    accepted: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        return self.refused + self.accepted + len(self.failures)


class Exceeded(BaseException):
    """A case took more time than it may."""


def try_kind(kind: Kind, examples: int, number: int, *, at_once: bool) -> Tally:
    """Try so many cases of a kind. ``at_once`` raises the first failure, as small as it can be
    made; otherwise all are counted.
    """
    kind.prepare()
    tally = Tally()
    started = time.monotonic()

    def one(case: Any) -> None:
        begun = time.process_time()
        try:
            with bounded():
                outcome = kind.check(case)
        except BaseException as error:
            if at_once or isinstance(error, KeyboardInterrupt):
                raise
            told = "".join(traceback.format_exception(error, limit=-4, chain=False))
            tally.failures.append(f"{shortened(case)}\n{told}")
        else:
            tally.refused += outcome == "refused"
            tally.accepted += outcome == "accepted"
        finally:
            tally.slowest = max(tally.slowest, time.process_time() - begun)

    phases = [Phase.generate, *([Phase.shrink] if at_once else [])]
    made = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    seed(number)(made(given(kind.cases)(one)))()
    tally.seconds = time.monotonic() - started
    return tally


_REPR = reprlib.Repr()
_REPR.maxlevel = 12
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 40
_REPR.maxstring = _REPR.maxother = 400


def shortened(case: Any) -> str:
    """A case for a person, whatever it holds."""
    try:
        return _REPR.repr(case)
    except Exception as error:
        return f"a case that can't be written out ({type(error).__name__})"


@contextlib.contextmanager
def bounded(seconds: float = SECONDS, mebibytes: int = MEBIBYTES) -> Iterator[None]:
    """Ends what takes or waits too long; raises AssertionError for what took too much memory."""

    def late(*_: object) -> None:
        raise Exceeded(f"more than {seconds:g} s, or {HANGING:g} s by the clock")

    kept = [signal.signal(number, late) for number in (signal.SIGALRM, signal.SIGPROF)]
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    _forget_peak()
    begun = _status("VmRSS")
    # Far above what is asked for, as libraries reserve what they never touch; so that a case that
    # does without bounds ends itself, and not the machine.
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + 4 * mebibytes * 2**20, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, HANGING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, kept[0])
        signal.signal(signal.SIGPROF, kept[1])
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    taken = (_status("VmHWM") - begun) / 2**20
    assert taken <= mebibytes, f"took {taken:.0f} MiB"


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """A figure of this process's memory, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def require_message(error: Exception, *, lines: bool = False, place: object = "") -> None:
    """Raise AssertionError unless an error says something in plain text: on one line, or with
    ``lines`` one for each problem, nothing in it that a terminal would obey, and where it is:
    ``place``, or a key before a colon.
    """
    text = str(error)
    assert text.strip(), f"{type(error).__name__} says nothing"
    assert len(text) <= LONGEST, f"{type(error).__name__} says {len(text)} characters"
    odd = {c for c in text if not c.isprintable() and not (lines and c == "\n")}
    assert not odd, f"{sorted(odd)!r} in {text[:300]!r}"
    assert "Traceback" not in text
    for line in text.splitlines():
        named = str(place) in line if place else ": " in line or line.endswith(":")
        assert named, f"names no place: {line[:300]!r}"


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """All that lies in a folder, with size and time of change."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            found[path] = (status.st_size if name in files else 0, status.st_mtime_ns)
    return found
