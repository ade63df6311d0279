"""One run directory, read while its sweep may be going on: what is cheap is looked up at most twice
a second, however many ask, and what isn't is kept.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from sweeps.candidate import Candidate
from sweeps.config import SweepConfig
from sweeps.config_messages import ConfigError
from sweeps.live import Live, live_trace, read_live
from sweeps.plain_text import printable
from sweeps.report import ModelTraces, details, render, served
from sweeps.report.details import evaluated
from sweeps.report.facts import score_kinds
from sweeps.report.series import change_rate_curve
from sweeps.results import Results, model_traces, rank_run, report_facts
from sweeps.review.ranker import Ranker
from sweeps.run_config import load_run_config
from sweeps.run_directory import METRIC, RunDirectory, RunDirectoryError
from sweeps.selection import StudyReader, StudyTrial
from trace_core import Trace, TraceError

FRESH = 0.5
"""Seconds for which what was looked up is told again."""

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAILED": "failed"}

TROUBLE = (ConfigError, RunDirectoryError, TraceError, ConnectionError, OSError)
"""What reading a run may raise; all of it says what is wrong, and where."""

T = TypeVar("T")


def tag_of(body: bytes) -> str:
    """An ETag of its own for every content."""
    return f'"{hashlib.sha256(body).hexdigest()[:24]}"'


@dataclass(frozen=True)
class Told:
    """An answer, and the tag by which an asker knows whether it is the one they have."""

    body: bytes
    tag: str

    @classmethod
    def of(cls, content: Mapping[str, Any] | Sequence[Any]) -> Told:
        """The content as JSON."""
        body = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        return cls(body, tag_of(body))


class Looked(Generic[T]):
    """Something that is looked up when it is asked for and `FRESH` seconds have passed."""

    def __init__(self, look: Callable[[], T], lock: threading.RLock) -> None:
        self._look = look
        self._lock = lock
        self._kept: tuple[float, T] | None = None

    @property
    def fresh(self) -> T | None:
        """What is kept, if it is new enough."""
        kept = self._kept
        return kept[1] if kept is not None and time.monotonic() - kept[0] <= FRESH else None

    def __call__(self) -> T:
        """What it is. Raises what looking raises."""
        with self._lock:
            found = self.fresh
            if found is None:
                found = self._look()
                self._kept = time.monotonic(), found
            return found


class Watched:
    """A run directory that is read again and again, from several threads. `runs.Runs` has another
    one once its configuration has changed.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._reader = StudyReader(run)
        self._looking = lock = threading.RLock()
        self.trials: Looked[list[StudyTrial]] = Looked(self._reader.trials, lock)
        """The trials. Raises RunDirectoryError if the study is damaged, ConnectionError if it isn't
        reached.
        """
        self.live: Looked[Told] = Looked(self._look, lock)
        """Counts of trials, the trainings under way with their curves, and which page there is of
        what has ended. Raises what `trials` and `config` do.
        """
        self._driven: Looked[tuple[bool]] = Looked(lambda: (run.driven,), lock)
        self._ranking = threading.Lock()
        self._results: tuple[int, Results] | None = None
        self._page: tuple[int, str] | None = None

    def close(self) -> None:
        """Let go of the study's storage."""
        with self._looking:
            self._reader.close()

    # ---- what there is

    @cached_property
    def config(self) -> SweepConfig:
        """The configuration, as data: whose code it names may not be known here. Raises ConfigError
        if it is damaged.
        """
        return load_run_config(self.run, as_data=True)

    @cached_property
    def _metric(self) -> str:
        """What the metric is called: of a task that is code, the sweep has noted it."""
        noted = self.run.read_environment().get(METRIC)
        return printable(noted) if isinstance(noted, str) else self.config.metric_name

    @cached_property
    def _ranker(self) -> Ranker:
        return Ranker(self.run, self.config)

    @property
    def driven(self) -> bool:
        """Whether a process drives the sweep."""
        return self._driven()[0]

    @property
    def is_reported(self) -> bool:
        """Whether the report is of all that has happened."""
        report = stamp(self.run.report / "index.html")
        return not self.driven and report > stamp(self.run.journal) > (0, 0)

    def counts(self) -> dict[str, int]:
        """Trials by state; those without an end are ``running`` or ``interrupted``."""
        open_ones = "running" if self.driven else "interrupted"
        found = dict.fromkeys([*STATES.values(), "running", "interrupted"], 0)
        for trial in self.trials():
            found[STATES.get(trial.state, open_ones)] += 1
        return found

    # ---- a sweep that is going on

    def _look(self) -> Told:
        driven, trials = self.driven, self.trials()
        if driven:
            self._ranker.soon(trials)
        made = self._ranker.made
        return Told.of(
            {
                "running": driven,
                "trials": self.config.trials,
                "counts": self.counts(),
                "metric": self._metric,
                "under_way": self._under_way() if driven else [],
                "ranking": None if made is None else str(made.version),
                "trouble": str(made.error or "") if made is not None else "",
            }
        )

    def _under_way(self) -> list[dict[str, Any]]:
        rate = score_kinds(self.config.resolved())["change_rate"]
        found = []
        for live, trial in self._going():
            traces = self._live_traces(live)
            found.append(
                {
                    "trial": live.trial,
                    **_model(trial),
                    "seeds": live.seeds,
                    "step": live.step,
                    "total_steps": live.total_steps,
                    "seconds": round(live.seconds, 2),
                    "told": round(live.told, 2),
                    "metric": evaluated(live.histories, "metric"),
                    "train_loss": evaluated(live.histories, "train_loss"),
                    "change_rate": change_rate_curve(traces, rate) if traces else None,
                }
            )
        return found

    def _going(self) -> Iterator[tuple[Live, StudyTrial]]:
        """What workers tell of trainings that the study holds to be under way."""
        going = {trial.number: trial for trial in self.trials() if trial.state == "INTERRUPTED"}
        for live in read_live(self.run):
            trial = going.get(live.trial)
            # A worker that was killed says no more that its training has ended elsewhere.
            if trial is not None and not self.run.record(live.training_ids[0]).exists():
                yield live, trial

    def _live_traces(self, live: Live) -> list[Trace]:
        found = [live_trace(self.run, one) for one in live.training_ids]
        return [trace for trace in found if trace is not None and len(trace.steps)]

    # ---- its ranking and its page

    def results(self) -> Results:
        """The ranking of what has ended, made anew when another trial has.

        Raises RunDirectoryError, ConfigError or TraceError if it can't be made.
        """
        ended = sum(trial.state != "INTERRUPTED" for trial in self.trials())
        with self._ranking:
            if self._results is None or self._results[0] != ended:
                self._results = ended, rank_run(self.run)
            return self._results[1]

    def page(self, place: str) -> tuple[str, str]:
        """The page of the run and its content policy: the report's, or one made here while the
        sweep goes on or where the report isn't of this version and of all that has happened.

        Raises RunDirectoryError, ConfigError or TraceError if it can't be made.
        """
        if self.driven:
            text = self._ranker.now(self.trials())
            made = self._ranker.made
            return _served(text, place, "" if made is None else str(made.version))
        if self.is_reported:
            try:
                text = (self.run.report / "index.html").read_text(encoding="utf-8")
            except (FileNotFoundError, UnicodeDecodeError):
                text = ""
            found = served(text, place)
            if found is not None:
                return found
        return _served(self._whole_page(), place)

    def _whole_page(self) -> str:
        results = self.results()
        with self._ranking:
            if self._page is None or self._page[0] != id(results):
                self._page = id(results), render(report_facts(self.run, results))
            return self._page[1]

    # ---- one model

    def details(self, model_id: str) -> dict[str, Any] | None:
        """One model in depth (see `sweeps.report.details`), finished or under way; None for a model
        of which nothing is stored.

        Raises RunDirectoryError, ConfigError or TraceError where that is damaged.
        """
        kinds = score_kinds(self.config.resolved())
        traces = self._traces(model_id)
        if traces is None:
            return None
        return details(traces, kinds)

    def _traces(self, model_id: str) -> ModelTraces | None:
        for trial in self.trials():
            if trial.state == "COMPLETE" and trial.details["model"] == model_id:
                return model_traces(self.run, self.config, trial)
        for live, trial in self._going():
            if trial.details.get("model") == model_id and (traces := self._live_traces(live)):
                candidate = Candidate.from_dict(trial.details["candidate"])
                configuration = self.config.winner(candidate).dump()
                return ModelTraces(traces, live.histories, configuration)
        return None


def stamp(path: Path) -> tuple[int, int]:
    """Time of the last change of a file, in nanoseconds, and its size; zeros if it isn't there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _served(page: str, place: str, ranking: str = "") -> tuple[str, str]:
    found = served(page, place, ranking)
    assert found is not None, "a page that was just made is of this version"
    return found


def _model(trial: StudyTrial) -> dict[str, Any]:
    """The model of a trial under way; without an id where a driver has not noted it."""
    if trial.details:
        candidate = Candidate.from_dict(trial.details["candidate"])
        return {
            "model_id": trial.details["model"],
            "architecture": candidate.family,
            "init": candidate.init,
            "settings": candidate.described(),
        }
    settings = dict(trial.parameters)
    known = {name: settings.pop(name, "") for name in ("architecture", "init")}
    return {"model_id": "", **known, "settings": settings}
