"""Writes all that a sweep, a report, a review and a job leave behind: ``python writing.py FOLDER``.

A process of its own, for its umask.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from inprocess import conductor, make_all, prepared

from search_spaces.cache import cached
from search_spaces.tasks.splits import Part, Splits
from sweeps import decisions
from sweeps.candidate import Training
from sweeps.jobs.credentials import ensure_token
from sweeps.jobs.store import Store
from sweeps.live import Teller
from sweeps.loggers.marker import Marker
from sweeps.results import report_run
from sweeps.training import TrainingRun


def splits() -> Splits:
    part = Part(np.zeros((2, 3), np.float32), np.zeros(2, np.int64))
    return Splits(part, part, part)


def sweep(path: Path, **changes: object) -> None:
    run, config = prepared(path, trials=3, **changes)
    with run.driving():
        conducting = conductor(run, config)
        conducting.adopt()
        for _ in range(2):
            work = conducting.next("a")
            assert work is not None
            make_all(run, work, "a")
            conducting.ended("a")
        work = conducting.next("a")
        assert work is not None
        text, training_id = work.trainings[0].to_json(), work.ids[0]
        under_way = TrainingRun(Training.from_json(text), run.checkpoint(training_id))
        under_way.advance(0.0)
        under_way.save()
        teller = Teller(run)
        teller._next = teller._next_trace = 0.0
        teller.tell(work.trial, {training_id: text}, under_way)
        conducting.study.flush()
    Marker(run.logged("tensorboard")).begin(0)
    results = report_run(run)
    model = results.ranking.frame.iloc[0]["model_id"]
    decisions.decide(run, model, "Ada", "so")


def write(folder: Path) -> None:
    sweep(folder / "deep" / "er" / "run")
    sweep(folder / "elsewhere", storage=f"sqlite:///{folder / 'study.db'}")
    os.environ["TRACERANK_CACHE"] = str(folder / "caches" / "tracerank")
    cached("key", splits)
    ensure_token({}, folder / "home", lambda text: None)
    Store(folder / "stored").write("job/traces/a.json", b"{}")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
