"""What Linux tells of processes from outside: their memory, threads, descriptors and children."""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""What reading of a process raises that has ended meanwhile."""

_ROLES = (
    ("GCS", re.compile(r"^\S*gcs_server")),
    ("raylet", re.compile(r"^\S*raylet/raylet")),
    ("worker", re.compile(r"^ray::.*TuneTraining")),
    ("idle worker", re.compile(r"^ray::IDLE|default_worker\.py")),
    ("agents", re.compile(r"^ray::\w*Agent|dashboard/agent|runtime_env/agent")),
    ("log monitor", re.compile("log_monitor")),
    ("dashboard", re.compile("dashboard/dashboard")),
    ("autoscaler", re.compile("autoscaler/.*monitor")),
)
"""What a process of a sweep is, by its command line; the first that is found."""


@dataclass(frozen=True)
class Process:
    """A process at a moment: KiB resident (``rss``), with its share of what others map too
    (``pss``), what nobody else maps just now (``uss``), and what is of no file, which others don't
    change as they come and go (``anonymous``); threads, open descriptors and children.
    """

    pid: int
    role: str
    rss: int
    pss: int
    uss: int
    anonymous: int
    threads: int
    descriptors: int
    children: int


def processes(root: int) -> list[Process]:
    """The process ``root`` and all that descend from it, or are in the session that it leads."""
    below = defaultdict(list)
    session = []
    for pid in map(int, filter(str.isdecimal, os.listdir(PROC))):
        with contextlib.suppress(*GONE):
            parent, of = _fields(pid)[1], _fields(pid)[3]
            below[int(parent)].append(pid)
            if int(of) == root:
                session.append(pid)
    found: dict[int, None] = {}
    left = [root, *session]
    while left:
        pid = left.pop()
        if pid not in found:
            found[pid] = None
            left += below[pid]
    looked = (_look(pid, "driver" if pid == root else None, len(below[pid])) for pid in found)
    return sorted((each for each in looked if each), key=lambda each: each.pid)


def _fields(pid: int) -> list[str]:
    """The fields of ``stat`` from the state on: state, parent, group, session and so on."""
    return (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()


def _look(pid: int, role: str | None, children: int) -> Process | None:
    place = PROC / str(pid)
    try:
        memory = dict(_kibibytes(place / "smaps_rollup"))
        if "Rss" not in memory:
            return None
        return Process(
            pid,
            role or _role(place),
            memory["Rss"],
            memory["Pss"],
            memory["Private_Clean"] + memory["Private_Dirty"],
            memory["Anonymous"],
            len(os.listdir(place / "task")),
            len(os.listdir(place / "fd")),
            children,
        )
    except GONE:
        return None


def _kibibytes(path: Path) -> Iterator[tuple[str, int]]:
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            yield name, int(rest.split()[0])


def _role(place: Path) -> str:
    command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return next((role for role, found in _ROLES if found.search(command)), "other")


def object_store(raylet: int) -> int:
    """Bytes of /dev/shm that the object store of this raylet takes. Its file has no name any more;
    who holds it open still sees it.
    """
    sizes: dict[int, int] = {}
    with contextlib.suppress(*GONE):
        for descriptor in (PROC / str(raylet) / "fd").iterdir():
            with contextlib.suppress(*GONE):
                if os.readlink(descriptor).startswith("/dev/shm/"):
                    found = os.stat(descriptor)
                    sizes[found.st_ino] = 512 * found.st_blocks
    return sum(sizes.values())


def disk(folder: Path) -> tuple[int, int]:
    """Bytes that the files below a folder take of the disk, and how many files there are."""
    size = count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(*GONE):
                size += 512 * os.lstat(os.path.join(place, name)).st_blocks
                count += 1
    return size, count
