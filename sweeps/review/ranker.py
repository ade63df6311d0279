"""The page of a sweep that goes on: made when a trial has ended, but not all the time.

Ranking takes a fraction of a second to minutes, by the number of models. It is done by a thread of
its own when somebody asks, and then not again before `RESTING` times as long has passed, so that
people who watch cost a sweep no more than a fortieth of a core.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from sweeps.config import SweepConfig
from sweeps.kept_scores import KeptScores
from sweeps.report import Depth, render
from sweeps.results import rank_run, report_facts
from sweeps.run_directory import RunDirectory
from sweeps.selection import StudyTrial

RESTING = 40
"""How many times as long as the last ranking took none is made."""

PROVISIONAL = Depth(detailed=5, unranked=0, phased=0, searched=False)
"""How much is told of a ranking that changes in a moment."""


@dataclass(frozen=True)
class Made:
    """The page of what had ended when it was made: ``version`` trials. Without a page, ``error``
    says why.
    """

    version: int
    page: str = ""
    error: Exception | None = None


class Ranker:
    """Makes such pages, from several threads one after the other."""

    def __init__(self, run: RunDirectory, config: SweepConfig) -> None:
        self._run = run
        self._config = config
        self._scores: KeptScores | None = None
        self._working = threading.Lock()
        self._rest_until = 0.0
        self.made: Made | None = None
        """The last one, if there is any."""

    def soon(self, trials: list[StudyTrial]) -> None:
        """Have one made of the trials that have ended, unless it is there or it isn't time to."""
        ended = _ended(trials)
        is_new = bool(ended) and (self.made is None or self.made.version != len(ended))
        if is_new and time.monotonic() >= self._rest_until and not self._working.locked():
            threading.Thread(target=self._make_one, args=(ended,), daemon=True).start()

    def now(self, trials: list[StudyTrial]) -> str:
        """The last page, which is made if there is none. Raises what kept it from being made."""
        if self.made is None:
            self._make_one(_ended(trials))
        assert self.made is not None
        if self.made.error is not None:
            raise self.made.error
        return self.made.page

    def _make_one(self, ended: list[StudyTrial]) -> None:
        with self._working:
            if self.made is not None and self.made.version == len(ended):
                return
            begun = time.thread_time()
            try:
                self.made = Made(len(ended), self._page(ended))
            # A thread that dies in silence would leave people looking at an old ranking.
            except Exception as error:
                self.made = Made(len(ended), error=error)
            self._rest_until = time.monotonic() + RESTING * (time.thread_time() - begun)

    def _page(self, ended: list[StudyTrial]) -> str:
        if self._scores is None:
            self._scores = KeptScores(self._run, self._config.ranking)
        results = rank_run(self._run, trials=ended, scores=self._scores)
        return render(report_facts(self._run, results, PROVISIONAL))


def _ended(trials: list[StudyTrial]) -> list[StudyTrial]:
    return [trial for trial in trials if trial.state != "INTERRUPTED"]
