"""The processes of one command, by descent and never by name alone: Linux's /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process that nothing else is taken for: its number, and when it was started (clock ticks
    since the machine's start).
    """

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it still is there; one that has ended and isn't waited for counts as gone."""
        stat = _stat(self.pid)
        return stat is not None and stat[2] == self.started and stat[0] not in "ZX"

    @property
    def command(self) -> str:
        """Its command line, or what it has put there."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            return ""

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False if it was gone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
                return True
        return False


def process(pid: int) -> Process | None:
    """The process of this number, if there is one."""
    stat = _stat(pid)
    return None if stat is None else Process(pid, stat[2])


def descendants(pids: Iterable[int]) -> list[Process]:
    """All processes that were started from these, by them or by those, in no order."""
    children: dict[int, list[Process]] = {}
    for entry in os.listdir("/proc"):
        stat = _stat(int(entry)) if entry.isdecimal() else None
        if stat is not None:
            children.setdefault(stat[1], []).append(Process(int(entry), stat[2]))
    found: list[Process] = []
    left = list(pids)
    while left:
        for child in children.pop(left.pop(), []):
            found.append(child)
            left.append(child.pid)
    return found


def role(one: Process) -> str:
    """What a process of a sweep is: ``gcs``, ``raylet``, ``worker`` (an actor that trains),
    ``agent`` (one of Ray's two for a node) or nothing of these.
    """
    command = one.command
    program = command.split(" ", 1)[0]
    if program.endswith("/gcs_server"):
        return "gcs"
    if program.endswith("/raylet"):
        return "raylet"
    if program in ("ray::DashboardAgent", "ray::RuntimeEnvAgent"):
        return "agent"
    return "worker" if command.startswith("ray::") and "TuneTraining" in command else ""


def end_all(processes: set[Process]) -> None:
    """Kill what is left of them, stopped ones too."""
    for one in processes:
        one.send(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(one.alive for one in processes) and time.monotonic() < deadline:
        time.sleep(0.05)


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start of a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # Its name stands in brackets, and may hold anything.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])
