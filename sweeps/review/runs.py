"""The runs in a folder, and what a list says of each."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from sweeps import decisions
from sweeps.decisions import DecisionError
from sweeps.review.errors import NotThereError
from sweeps.review.watched import STATES, TROUBLE, Watched, stamp
from sweeps.run_directory import RunDirectory

State = Literal["running", "complete", "interrupted", "unreadable"]


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
        self._alone = (self.folder / "sweep.yaml").is_file()
        self._watched: dict[str, tuple[tuple[int, int], Watched]] = {}
        self._summaries: dict[str, tuple[Any, Summary]] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The names of the runs: of their folders. A name that isn't text is left out."""
        if self._alone:
            return [self.folder.name]
        found = (path.parent.name for path in self.folder.glob("[!.]*/sweep.yaml"))
        return sorted(name for name in found if name.isprintable())

    def watched(self, name: str) -> Watched:
        """The run of that name. Raises NotThereError if there is none."""
        path = self._path(name)
        try:
            if path is None:
                raise FileNotFoundError
            found = (path / "sweep.yaml").stat()
        except (OSError, ValueError):
            raise NotThereError(f"there is no run {name!r} in {self.folder.name}") from None
        # One that was removed and made again, or whose configuration was changed, is another run.
        key = found.st_ino, found.st_mtime_ns
        with self._lock:
            kept = self._watched.get(name)
            if kept is None or kept[0] != key:
                if kept is not None:
                    kept[1].close()
                kept = self._watched[name] = key, Watched(RunDirectory(path))
            return kept[1]

    def _path(self, name: str) -> Path | None:
        """Where a run of that name would be; None for what is no name of a folder in this one."""
        if self._alone:
            return self.folder if name == self.folder.name else None
        is_name = name.isprintable() and "/" not in name and not name.startswith(".")
        return self.folder / name if name and is_name else None

    def summaries(self, words: str = "") -> list[Summary]:
        """Every run that has all the ``words``, those that run first, then the last changed."""
        found = []
        for name in self.names():
            # It may go at any moment.
            with contextlib.suppress(NotThereError):
                found.append(self.summary(name))
        kept = [each for each in found if each.matches(words)]
        kept.sort(key=lambda each: each.changed, reverse=True)
        return sorted(kept, key=lambda each: each.state != "running")

    def summary(self, name: str) -> Summary:
        """What a list says of a run. Raises NotThereError if there is none of that name."""
        watched = self.watched(name)
        try:
            key = watched, _stamps(watched.run), watched.driven
            kept = self._summaries.get(name)
            # A study in a database leaves no trace here when it changes.
            if kept is None or kept[0] != key or not watched.run.journal.exists():
                kept = self._summaries[name] = key, _summarise(name, watched)
            return kept[1]
        # Whatever is wrong with one run, the others are to be seen.
        except (OSError, RecursionError) as error:
            return Summary(name, name, note=_line(error))


def _stamps(run: RunDirectory) -> list[tuple[int, int]]:
    """What changes when something of a summary does."""
    files = (run.configuration, run.journal, run.report / "ranking.json", run.decisions)
    return [stamp(path) for path in files]


def _summarise(name: str, watched: Watched) -> Summary:
    run, notes = watched.run, []
    try:
        given = yaml.safe_load(run.configuration.read_text(encoding="utf-8"))
        configuration = dict(given)
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
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
        decided, reviewer = made.model_id, made.reviewer
    except FileNotFoundError:
        pass
    except DecisionError as error:
        notes.append(_line(error))
    state: State = "complete" if done >= trials else "interrupted"
    return Summary(
        run=name,
        name=str(configuration.get("name", name)),
        task=str(configuration.get("task", "")),
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
        return Leader(
            model_id=str(first["model_id"]),
            architecture=str(first["architecture"]),
            init=str(first["init"]),
            traceability=float(first["traceability"]),
            rank_high=int(first["rank_high"]),
        )
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _changed(run: RunDirectory) -> str:
    times = [mtime for mtime, _ in _stamps(run)]
    return datetime.fromtimestamp(max(times) / 1e9, UTC).isoformat(timespec="seconds")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
