"""A lock: what is installed, each package by its version and the hashes of its files, in the format
that pip reads.

Needs the standard library alone, as it is read before anything is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
"""Versions alone, for people, and for ``pip install -c``."""
LOCK = ROOT / "requirements.lock"
CUDA = ROOT / "requirements-cuda.lock"
"""What PyTorch's build with CUDA, which is the usual one, needs besides."""
CPU = ROOT / "requirements-cpu.lock"
"""PyTorch's build without CUDA, which some indexes offer: preferred where one does."""

_ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_GROUPS = re.compile(r"^\s+# for (.+)$")


@dataclass(frozen=True)
class Entry:
    """One package: ``hashes`` (SHA-256, in hexadecimal) of the files that an index may offer of
    that version, and which of the project's extras need it; ``core`` is the project without any.
    """

    name: str
    version: str
    hashes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name as packaging compares it."""
        return canonical(self.name)

    def text(self) -> str:
        """The entry as a lock has it."""
        lines = [f"{self.name}=={self.version}"]
        lines += [f"    --hash=sha256:{each}" for each in sorted(set(self.hashes))]
        told = f"    # for {', '.join(self.groups)}\n" if self.groups else ""
        return " \\\n".join(lines) + "\n" + told


def canonical(name: str) -> str:
    """A package's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: Path) -> list[Entry]:
    """The entries of a lock, or of a file of requirements that are pinned."""
    found: list[Entry] = []
    for line in path.read_text().splitlines():
        if entry := _ENTRY.match(line):
            found.append(Entry(entry["name"], entry["version"]))
        if not found:
            continue
        hashes, groups = (*found[-1].hashes, *_HASH.findall(line)), found[-1].groups
        if named := _GROUPS.match(line):
            groups = tuple(named[1].split(", "))
        found[-1] = Entry(found[-1].name, found[-1].version, hashes, groups)
    return found


def text_of(entries: Iterable[Entry], heading: str) -> str:
    """A lock's text, its packages by name."""
    ordered = sorted(entries, key=lambda each: each.key)
    return f"# {heading}\n" + "".join(each.text() for each in ordered)
