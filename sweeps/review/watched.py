"""One run directory, read while its sweep may be going on.

Two things are told of a run that is going on. What its trainings have come to (`Watched.live`) is
cheap, and looked up at most twice a second however many ask. The provisional ranking takes a
fraction of a second to minutes, by the number of models: it is made by a thread of its own when a
trial has ended and somebody asks, and then not again before `RESTING` times as long has passed.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.candidate import Candidate
from sweeps.config import SweepConfig, load_config
from sweeps.config_messages import ConfigError
from sweeps.kept_scores import KeptScores
from sweeps.live import Live, live_trace, read_live
from sweeps.report import (
    WHOLE,
    Depth,
    ModelTraces,
    details,
    render,
    served,
)
from sweeps.report.details import evaluated
from sweeps.report.facts import score_kinds
from sweeps.report.series import change_rate_curve
from sweeps.results import model_traces, rank_run, report_facts
from sweeps.run_directory import RunDirectory, RunDirectoryError
from sweeps.selection import StudyReader, StudyTrial
from trace_core import Trace, TraceError

FRESH = 0.5
"""Seconds for which what was looked up is told again."""

RESTING = 40
"""How many times as long as the last provisional ranking took none is made, so that watching costs
a sweep no more than a fortieth of a core.
"""

PROVISIONAL = Depth(detailed=5, phased=0, unranked=0, searched=False)
"""How much is told of a ranking that changes in a moment."""

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAILED": "failed"}


@dataclass(frozen=True)
class Told:
    """An answer, and the tag by which an asker knows whether it is the one they have."""

    body: bytes
    tag: str

    @classmethod
    def of(cls, content: Mapping[str, Any] | Sequence[Any]) -> Told:
        """The content as JSON."""
        body = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        return cls(body, f'"{hashlib.sha256(body).hexdigest()[:24]}"')


@dataclass(frozen=True)
class Provisional:
    """A ranking of what has ended so far; ``version`` counts the trials that had."""

    version: int
    page: str


class Watched:
    """A run directory that is read again and again, from several threads."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._reader = StudyReader(run)
        self._reading = threading.RLock()
        self._ranking = threading.Lock()
        self._trials: tuple[float, list[StudyTrial]] = (float("-inf"), [])
        self._driven: tuple[float, bool] = (float("-inf"), False)
        self._live: tuple[float, Told] | None = None
        self._provisional: Provisional | None = None
        self._rest_until = 0.0
        self._trouble = ""
        self._config: tuple[Any, SweepConfig] | None = None
        self._scores: KeptScores | None = None
        self._made: tuple[int, str] | None = None

    # ---- what there is

    @property
    def config(self) -> SweepConfig:
        """The configuration, read again when its file has changed. Raises ConfigError if it is
        damaged.
        """
        stamp = self.run.configuration.stat()
        key = stamp.st_mtime_ns, stamp.st_size
        if self._config is None or self._config[0] != key:
            self.run.add_import_path()
            self._config = key, load_config(self.run.configuration)
        return self._config[1]

    def trials(self) -> list[StudyTrial]:
        """The trials, looked up at most twice a second.

        Raises RunDirectoryError if the study is damaged, ConnectionError if it isn't reached.
        """
        with self._reading:
            when, trials = self._trials
            if time.monotonic() - when > FRESH:
                trials = self._reader.trials()
                self._trials = time.monotonic(), trials
            return trials

    @property
    def driven(self) -> bool:
        """Whether a process drives the sweep, looked up at most twice a second."""
        with self._reading:
            when, driven = self._driven
            if time.monotonic() - when > FRESH:
                driven = self.run.driven
                self._driven = time.monotonic(), driven
            return driven

    def counts(self) -> dict[str, int]:
        """Trials by state; those without an end are ``running`` or ``interrupted``."""
        open_ones = "running" if self.driven else "interrupted"
        found = dict.fromkeys([*STATES.values(), "running", "interrupted"], 0)
        for trial in self.trials():
            found[STATES.get(trial.state, open_ones)] += 1
        return found

    # ---- a sweep that is going on

    def is_fresh(self) -> bool:
        """Whether `live` has an answer at hand, and needn't look anything up."""
        kept = self._live
        return kept is not None and time.monotonic() - kept[0] <= FRESH

    def live(self) -> Told:
        """Counts of trials, the trainings under way with their curves, and which provisional
        ranking there is.

        Raises what `trials` and `config` do.
        """
        kept = self._live
        if kept is not None and time.monotonic() - kept[0] <= FRESH:
            return kept[1]
        with self._reading:
            counts = self.counts()
            ended = sum(counts[state] for state in STATES.values())
            if self.driven:
                self._rank_soon(ended)
            made = self._provisional
            told = Told.of(
                {
                    "running": self.driven,
                    "trials": self.config.trials,
                    "counts": counts,
                    "metric": self.config.metric_name,
                    "under_way": self._under_way() if self.driven else [],
                    "ranking": None if made is None else made.version,
                    "trouble": self._trouble,
                }
            )
            self._live = time.monotonic(), told
            return told

    def _under_way(self) -> list[dict[str, Any]]:
        config = self.config
        rate = score_kinds(config.resolved())["change_rate"]
        found = []
        for live, candidate in self._going(config):
            traces = self._live_traces(live)
            found.append(
                {
                    "trial": live.trial,
                    "model_id": candidate.model_id,
                    "architecture": candidate.architecture,
                    "init": candidate.init,
                    "settings": candidate.described(),
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

    def _rank_soon(self, ended: int) -> None:
        """Make a provisional ranking in a thread of its own, if it is time to."""
        made = self._provisional
        changed = ended > 0 and (made is None or made.version != ended)
        if changed and time.monotonic() >= self._rest_until and self._ranking.acquire(False):
            threading.Thread(target=self._rank_now, args=(ended,), daemon=True).start()

    def _rank_now(self, ended: int) -> None:
        """Make it; ``_ranking`` is held, and let go of here."""
        try:
            self._rank(ended)
        finally:
            self._ranking.release()

    def _rank(self, ended: int) -> None:
        begun = time.thread_time()
        try:
            trials = [trial for trial in self.trials() if trial.state != "INTERRUPTED"]
            if self._scores is None:
                self._scores = KeptScores(self.run, self.config.ranking)
            results = rank_run(self.run, trials=trials, scores=self._scores)
            page = render(report_facts(self.run, results, PROVISIONAL))
            self._provisional = Provisional(ended, page)
            self._trouble = ""
        # A thread that dies in silence would leave people looking at an old ranking.
        except Exception as error:
            self._trouble = f"the ranking so far can't be made: {error}"
        self._rest_until = time.monotonic() + RESTING * (time.thread_time() - begun)

    def provisional(self) -> Provisional:
        """The ranking of what has ended so far, which is made now if there is none yet.

        Raises RunDirectoryError if it can't be made.
        """
        if self._provisional is None:
            with self._ranking:
                if self._provisional is None:
                    counts = self.counts()
                    self._rank(sum(counts[state] for state in STATES.values()))
        if self._provisional is None:
            raise RunDirectoryError(f"{self.run.path}: {self._trouble}")
        return self._provisional

    # ---- its page

    def page(self, place: str) -> tuple[str, str]:
        """The page of the run and its content policy: the report's, or a provisional one while the
        sweep goes on or where there is no report of this version.

        Raises RunDirectoryError, ConfigError or TraceError if it can't be made.
        """
        if self.driven:
            return _served(self.provisional().page, place)
        try:
            text = (self.run.report / "index.html").read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            text = ""
        return served(text, place) or _served(self._whole_page(), place)

    def _whole_page(self) -> str:
        """The report's page, made anew when another trial has ended."""
        ended = len(self.trials()) - self.counts()["interrupted"]
        with self._ranking:
            if self._made is None or self._made[0] != ended:
                self.run.add_import_path()
                self._made = ended, render(report_facts(self.run, rank_run(self.run), WHOLE))
            return self._made[1]

    # ---- one model

    def details(self, model_id: str) -> dict[str, Any] | None:
        """One model in depth (see `sweeps.report.details`), finished or under way; None for a model
        of which nothing is stored.

        Raises RunDirectoryError, ConfigError or TraceError where that is damaged.
        """
        config = self.config
        kinds = score_kinds(config.resolved())
        traces = self._traces(config, model_id)
        if traces is None:
            return None
        return details(traces, kinds["change_rate"], kinds["explainability"])

    def _traces(self, config: SweepConfig, model_id: str) -> ModelTraces | None:
        for trial in self.trials():
            if trial.state == "COMPLETE" and trial.details["model"] == model_id:
                return model_traces(self.run, config, trial)
        for live, candidate in self._going(config):
            if candidate.model_id == model_id and (traces := self._live_traces(live)):
                configuration = config.winner(candidate).dump()
                return ModelTraces(traces, live.histories, configuration)
        return None

    def _going(self, config: SweepConfig) -> Iterator[tuple[Live, Candidate]]:
        """What workers tell of trainings that the study holds to be under way."""
        going = {trial.number: trial for trial in self.trials() if trial.state == "INTERRUPTED"}
        for live in read_live(self.run):
            trial = going.get(live.trial)
            candidate = None if trial is None else _candidate(config, trial)
            # A worker that was killed says no more that its training has ended elsewhere.
            if candidate is not None and not self.run.record(live.training_ids[0]).exists():
                yield live, candidate

    def _live_traces(self, live: Live) -> list[Trace]:
        found = [live_trace(self.run, one) for one in live.training_ids]
        return [trace for trace in found if trace is not None and len(trace.steps)]


def _served(page: str, place: str) -> tuple[str, str]:
    found = served(page, place)
    assert found is not None, "a page that was just made is of this version"
    return found


def _candidate(config: SweepConfig, trial: StudyTrial) -> Candidate | None:
    """The model of a trial under way; None while its parameters are still drawn."""
    try:
        return Candidate.from_parameters(config, trial.parameters)[0]
    except KeyError:
        return None


TROUBLE = (ConfigError, RunDirectoryError, TraceError, ConnectionError, OSError)
"""What reading a run may raise; all of it says what is wrong, and where."""
