"""The runs in a folder, and what a list says of each."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from search_spaces import task_name
from sweeps import decisions, yaml_text
from sweeps.config_plain import LARGEST_FILE
from sweeps.decisions import DecisionError
from sweeps.plain_text import printable
from sweeps.review.errors import MissingError
from sweeps.review.watched import STATES, TROUBLE, Watched, stamp
from sweeps.run_directory import DAMAGE, RunDirectory, RunDirectoryError

_LAST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""The last time that a date can tell; a file may say that it is of a later one."""

State = Literal["running", "complete", "interrupted", "unreadable"]

Entries = tuple[tuple[int, int], ...]


def _entries(run: RunDirectory) -> Entries:
    """What changes when an entry comes or goes where the server reads."""
    found = []
    for folder in (run.path, run.report, run.trace("any").parent, run.live):
        try:
            status = folder.stat()
        except OSError:
            found.append((0, 0))
        else:
            found.append((status.st_ino, status.st_mtime_ns))
    return tuple(found)


@dataclass(frozen=True)
class Leader:
    """The first model of a ranking."""

    model_id: str
    architecture: str
    init: str
    traceability: float
    rank_high: int


@dataclass(frozen=True)
class Summary:
    """A run in a line: ``done`` of ``trials``, ``failed`` of them, and of the report, if there is
    one, how many are ``ranked`` and the ``leader``. ``decided`` is the model last chosen, and
    ``stands`` whether its ranking still does. ``note`` says what can't be read, ``changed`` when
    the sweep last wrote (ISO 8601, UTC).
    """

    run: str
    name: str
    task: str = ""
    state: State = "unreadable"
    trials: int = 0
    done: int = 0
    failed: int = 0
    ranked: int = 0
    leader: Leader | None = None
    decided: str = ""
    reviewer: str = ""
    stands: bool | None = None
    changed: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The summary as plain data."""
        return asdict(self)

    def matches(self, words: str) -> bool:
        """Whether every word is in what the list shows of the run."""
        leader = self.leader
        shown = [self.run, self.name, self.task, self.state, self.decided, self.reviewer, self.note]
        if leader is not None:
            shown += [leader.model_id, leader.architecture, leader.init]
        text = " ".join(shown).lower()
        return all(word in text for word in words.lower().split())


class Runs:
    """The run directories in a folder, or the one that the folder is.

    Raises FileNotFoundError if there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder of run directories")
        self.folder = folder.resolve()
        self.name = printable(self.folder.name)
        self._watched: dict[str, tuple[Any, Watched]] = {}
        self._summaries: dict[str, tuple[Any, Summary]] = {}
        self._plain: dict[str, Entries] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The names of the runs: of their folders. A name that isn't text (UTF-8) is left out."""
        if self._is_run:
            return [self.name]
        found = (path.parent.name for path in self.folder.glob("[!.]*/sweep.yaml"))
        return sorted(name for name in found if name.isprintable())

    def watched(self, name: str) -> Watched:
        """The run of that name. Raises MissingError if there is none, and RunDirectoryError if it
        holds what is no file, or leads elsewhere.
        """
        path = self._path(name)
        if path is None:
            raise MissingError(f"there is no run {name!r} in {self.name}")
        run = RunDirectory(path)
        self._require_plain(name, run)
        # Another sweep may have been put in the place of one that was looked at, or another
        # configuration.
        key = _begun(run), stamp(run.configuration)
        with self._lock:
            kept = self._watched.get(name)
            if kept is None or kept[0] != key:
                if kept is not None:
                    kept[1].close()
                kept = self._watched[name] = key, Watched(run)
            return kept[1]

    def _require_plain(self, name: str, run: RunDirectory) -> None:
        """Looks again when something has come or gone in it."""
        now = _entries(run)
        if self._plain.get(name) != now:
            run.require_plain()
            self._plain[name] = now

    @property
    def _is_run(self) -> bool:
        return (self.folder / "sweep.yaml").is_file()

    def _path(self, name: str) -> Path | None:
        """Where the run of that name is, if there is one; asked for each run of a list."""
        if self._is_run:
            return self.folder if name == self.name else None
        if "/" in name or name.startswith(".") or not name.isprintable():
            return None
        try:
            found = (self.folder / name / "sweep.yaml").is_file()
        except OSError:
            return None
        return self.folder / name if found else None

    def summaries(self, words: str = "") -> list[Summary]:
        """Every run that has all the ``words``, those that run first, then the last changed."""
        found = []
        for name in self.names():
            # A run may be moved away at any moment.
            with contextlib.suppress(MissingError):
                found.append(self.summary(name))
        kept = [each for each in found if each.matches(words)]
        kept.sort(key=lambda each: each.changed, reverse=True)
        return sorted(kept, key=lambda each: each.state != "running")

    def summary(self, name: str) -> Summary:
        """What a list says of a run. Raises MissingError if there is none of that name."""
        try:
            watched = self.watched(name)
        except RunDirectoryError as error:
            return Summary(name, name, note=_line(error))
        try:
            key = watched, _stamps(watched.run), watched.driven
            kept = self._summaries.get(name)
            # A study in a database leaves no trace here when it changes.
            if kept is None or kept[0] != key or not watched.run.journal.exists():
                kept = self._summaries[name] = key, _summarise(name, watched)
            return kept[1]
        # Whatever a run directory holds, it hides no other.
        except Exception as error:
            return Summary(name, name, changed=_changed(watched.run), note=_line(error))


def _begun(run: RunDirectory) -> tuple[int, bytes]:
    """What is written once when a sweep begins, and is another for another sweep; and which file
    holds it, as a copy that is put back may know less.
    """
    with contextlib.suppress(OSError), run.study.open("rb") as file:
        return os.fstat(file.fileno()).st_ino, file.read(1000)
    with contextlib.suppress(OSError), run.journal.open("rb") as file:
        return os.fstat(file.fileno()).st_ino, file.readline(1000)
    return 0, b""


def _stamps(run: RunDirectory) -> list[tuple[int, int]]:
    """What changes when something of a summary does."""
    files = (run.configuration, run.journal, run.report / "ranking.json", run.decisions)
    return [stamp(path) for path in files]


def _summarise(name: str, watched: Watched) -> Summary:
    run, notes = watched.run, []
    try:
        with run.configuration.open("rb") as file:
            # One that is larger is none, and is cut off in the middle.
            text = file.read(LARGEST_FILE).decode()
        configuration = dict(yaml_text.read(text))
    except DAMAGE as error:
        configuration, notes = {}, [f"{run.configuration.name}: {_line(error)}"]
    ranking: dict[str, Any] | None = None
    try:
        ranking = decisions.read_ranking(run)
    except FileNotFoundError:
        pass
    except DecisionError as error:
        notes.append(_line(error))
    counts: dict[str, int] = {}
    try:
        counts = _reported(watched, ranking) or watched.counts()
    except TROUBLE as error:
        notes.append(_line(error))
    target = configuration.get("trials")
    trials = target if isinstance(target, int) else sum(counts.values())
    done = sum(counts.get(state, 0) for state in STATES.values())
    decided, reviewer, stands = "", "", None
    try:
        made, stands = decisions.stands(run)
        decided, reviewer = _text(made.model_id), _text(made.reviewer)
    except FileNotFoundError:
        pass
    except DecisionError as error:
        notes.append(_line(error))
    state: State = "complete" if done >= trials else "interrupted"
    return Summary(
        run=name,
        name=_text(configuration.get("name", name)),
        task=_task(configuration.get("task", "")),
        state="running" if watched.driven else "unreadable" if not counts else state,
        trials=trials,
        done=done,
        failed=counts.get("failed", 0),
        ranked=len(ranking["models"]) if ranking else 0,
        leader=_leader(ranking) if ranking else None,
        decided=decided,
        reviewer=reviewer,
        stands=stands,
        changed=_changed(run),
        note="; ".join(notes),
    )


def _reported(watched: Watched, ranking: dict[str, Any] | None) -> dict[str, int] | None:
    """Trials by state as the report counts them, if nothing has happened since; a study of many
    trials takes seconds to read.
    """
    if ranking is None or not watched.is_reported:
        return None
    counts = ranking.get("trials")
    if not isinstance(counts, dict):
        return None
    found = {name: counts.get(state) for state, name in STATES.items()}
    return {name: n for name, n in found.items() if isinstance(n, int)}


def _leader(ranking: dict[str, Any]) -> Leader | None:
    try:
        first = ranking["models"][0]
        leader = Leader(
            model_id=_text(first["model_id"]),
            architecture=_text(first["architecture"]),
            init=_text(first["init"]),
            traceability=float(first["traceability"]),
            rank_high=int(first["rank_high"]),
        )
    except DAMAGE:
        return None
    # JSON has no infinity; a list with one would be read by no browser.
    return leader if math.isfinite(leader.traceability) else None


def _changed(run: RunDirectory) -> str:
    times = [mtime for mtime, _ in _stamps(run)]
    latest = min(max(times) / 1e9, _LAST)
    return datetime.fromtimestamp(latest, UTC).isoformat(timespec="seconds")


def _task(value: Any) -> str:
    """What the task of a configuration is called."""
    try:
        return _text(task_name(value))
    except DAMAGE:
        return ""


def _text(value: object) -> str:
    """A text of a file as a list shows it; nothing for what can't be one."""
    return _line(value) if isinstance(value, str | int | float) else ""


def _line(value: object) -> str:
    return printable(" ".join(str(value).split())[:500])
