"""What an audit of a run directory finds, and how it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["problem", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is found.

    Attributes:
        severity: a ``problem`` is to be mended; a ``note`` is to be known.
        where: the file, in the run directory.
        what: what is wrong with it.
        means: what follows from it.
        remains: what can still be had.
        todo: what to do.
        cure: what ``--repair`` does; it returns what it has done, in words. None where nothing can
            be done, or nothing needs to be.
    """

    severity: Severity
    where: str
    what: str
    means: str = ""
    remains: str = ""
    todo: str = ""
    cure: Callable[[], str] | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        told = {name: getattr(self, name) for name in ("severity", "where", "what")}
        told |= {name: getattr(self, name) for name in ("means", "remains", "todo")}
        return told | {"repairable": self.cure is not None}

    def lines(self) -> list[str]:
        """For people: the finding, and what is known of it, a line each."""
        parts = (("means", self.means), ("still there", self.remains), ("do", self.todo))
        first = f"{self.severity}: {self.where}: {self.what}"
        return [first, *(f"  {name}: {text}" for name, text in parts if text)]


@dataclass(frozen=True)
class Repair:
    """What was done about a finding."""

    where: str
    done: str

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"where": self.where, "done": self.done}


@dataclass
class Audit:
    """The findings in a run directory, in the order of what depends on what.

    ``state`` is what a sweep may be: running, interrupted or complete; unknown where its study
    can't be read. ``checked`` counts what was read, by kind.
    """

    state: Literal["running", "interrupted", "complete", "unknown"] = "unknown"
    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)

    @property
    def problems(self) -> list[Finding]:
        """Those that are to be mended."""
        return [each for each in self.findings if each.severity == "problem"]

    def problem(self, where: str, what: str, **more: Any) -> None:
        """Add one that is to be mended."""
        self.findings.append(Finding("problem", where, what, **more))

    def note(self, where: str, what: str, **more: Any) -> None:
        """Add one that is to be known."""
        self.findings.append(Finding("note", where, what, **more))

    def count(self, kind: str, number: int = 1) -> None:
        """Something was read."""
        self.checked[kind] = self.checked.get(kind, 0) + number


def short(error: BaseException) -> str:
    """An error in a line that isn't long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
