"""Run directories to be damaged, made once: finished, interrupted, and with its study in a
database; and what is read of one, by every reader there is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from inprocess import conductor, make_all, prepared

from sweeps import decisions, records
from sweeps.config import SweepConfig, load_config
from sweeps.group import Group
from sweeps.kept_scores import KeptScores
from sweeps.ledger import ledger_table, read_ledger, write_ledger
from sweeps.results import report_run
from sweeps.run_directory import RunDirectory
from sweeps.selection import read_trials
from trace_core import Trace
from trace_core.storage import to_arrays

KINDS = {
    "sweep.yaml": "sweep.yaml",
    "environment.json": "environment.json",
    "study.journal": "study.journal",
    "study.json": "study.json",
    "earlier.json": "earlier.json",
    "trials.parquet": "trials.parquet",
    "scores.npz": "scores.npz",
    "record": "traces/*.json",
    "trace": "traces/*.npz",
    "checkpoint": "checkpoints/*.pt",
    "decision.json": "decision.json",
    "ranking.json": "report/ranking.json",
    "ranking.csv": "report/ranking.csv",
    "ranking.parquet": "report/ranking.parquet",
    "report.md": "report/report.md",
    "index.html": "report/index.html",
    "winner.yaml": "report/winner.yaml",
}
"""The kinds of files of a run directory, and where they are."""

TRIALS = 5


@dataclass(frozen=True)
class Patient:
    """A run directory to be copied and damaged, what all readers read of it, and the ranking with
    which its sweep ends.
    """

    name: str
    path: Path
    read: dict[str, Any]
    ranking: dict[str, Any]

    def files(self, kind: str) -> list[Path]:
        """Those of a kind, in the run directory."""
        return [path.relative_to(self.path) for path in sorted(self.path.glob(KINDS[kind]))]


def make_patients(folder: Path) -> list[Patient]:
    """Make them; takes some seconds."""
    earlier, config = prepared(folder / "earlier", trials=2, replicates=1)
    _end(earlier, config)
    common = {"trials": TRIALS, "warm_start": [str(earlier.path)]}
    made = [
        _finished(folder / "finished", **common),
        _interrupted(folder / "interrupted", **common),
        _finished(folder / "stored", storage=f"sqlite:///{folder}/studies.db", **common),
    ]
    patients = []
    for run in made:
        final = RunDirectory(folder / f"{run.path.name}-ended")
        copy(run.path, final.path)
        if not run.study.exists():
            resume(final)
        patients.append(
            Patient(run.path.name, run.path, read_all(run), ranking_of(final)),
        )
    # Of the interrupted one, too, another's of each kind.
    _finished(folder / "other", trials=4, sampler={"name": "random", "seed": 9})
    return patients


def copy(source: Path, target: Path) -> None:
    """Copy a run directory: hundreds of copies of a few hundred KB."""
    for path in sorted(source.rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir(parents=True, exist_ok=True)
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())


def _end(run: RunDirectory, config: SweepConfig) -> None:
    conducting = conductor(run, config)
    conducting.adopt()
    while (work := conducting.next("runner")) is not None:
        make_all(run, work, "runner")
        conducting.ended("runner")
    conducting.study.flush()
    report_run(run)


def _decide(run: RunDirectory) -> None:
    ranking = decisions.read_ranking(run)
    row = (ranking["models"] or ranking["excluded"])[0]
    if ranking["models"]:
        decisions.decide(run, row["model_id"], "Ada", "it is the steadiest")


def _finished(path: Path, **changes: Any) -> RunDirectory:
    run, config = prepared(path, **changes)
    _end(run, config)
    _decide(run)
    return run


def _interrupted(path: Path, **changes: Any) -> RunDirectory:
    """Reported after three trials, and killed while the trainings of another are under way, of
    which there is a checkpoint.
    """
    run, config = prepared(path, **changes)
    conducting = conductor(run, config)
    conducting.adopt()
    while conducting.progress.done < 3:
        work = conducting.next("runner")
        assert work is not None
        make_all(run, work, "runner")
        conducting.ended("runner")
    conducting.study.flush()
    report_run(run)
    _decide(run)
    work = conducting.next("lost")
    assert work is not None
    texts = [training.to_json() for training in work.trainings]
    group = Group(run.path, texts, work.ids, work.trial, "lost")
    while not list((run.path / "checkpoints").glob("*.pt")):
        # The first slice may only find that they can't be trained as one.
        assert not group.advance(0.0)
        group.save()
    write_ledger(run, ledger_table(read_trials(run), config.objective_names()))
    return run


def resume(run: RunDirectory) -> None:
    """What `tracerank resume` does, without Ray."""
    config = load_config(run.configuration)
    with run.driving():
        run.sweep_out()
        conducting = conductor(run, config)
        run.keep_configuration(config.resolved())
        told = [trial for trial in conducting.study.trials() if trial.state != "INTERRUPTED"]
        seen = [
            (trial.details["model"], trial.details["metric"])
            for trial in told
            if trial.state == "COMPLETE"
        ]
        for model_id, metric in seen:
            conducting.objectives._note(model_id, metric)
        conducting.progress.done = len(told)
        conducting.adopt()
        for trial in told:
            if trial.state == "COMPLETE":
                conducting.restore(trial)
        while (work := conducting.next("runner")) is not None:
            make_all(run, work, "runner")
            conducting.ended("runner")
        conducting.study.flush()
        KeptScores(run, config.ranking)
        report_run(run)


def ranking_of(run: RunDirectory) -> dict[str, Any]:
    """What the report says of the models."""
    said = json.loads((run.report / "ranking.json").read_bytes())
    return {name: said[name] for name in ("alpha", "alpha_source", "models", "excluded")}


def read_all(run: RunDirectory) -> dict[str, Any]:
    """What each reader reads of a run directory, for `same`; of what it can't read, the error."""
    found: dict[str, Any] = {}

    @contextlib.contextmanager
    def reading(name: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError) as error:
            found[name] = error

    with reading("configuration"):
        found["configuration"] = load_config(run.configuration).resolved()
    with reading("environment"):
        found["environment"] = run.read_environment()
    with reading("points"):
        found["points"] = run.read_points()
    with reading("trials"):
        found["trials"] = [asdict(trial) for trial in read_trials(run)]
    with reading("ledger"):
        found["ledger"] = read_ledger(run)
    with reading("decisions"):
        found["decisions"] = [asdict(each) for each in decisions.decisions(run)]
    with reading("report"):
        found["report"] = {
            path.name: path.read_bytes() for path in sorted(run.report.glob("[!.]*"))
        }
    for path in sorted((run.path / "traces").glob("*.json")):
        with reading(f"record {path.stem}"):
            record = records.load(run, path.stem)
            assert record is not None
            found[f"record {path.stem}"] = asdict(record)
    for path in sorted((run.path / "traces").glob("*.npz")):
        with reading(f"trace {path.stem}"):
            found[f"trace {path.stem}"] = to_arrays(Trace.load(path))
    for path in sorted((run.path / "checkpoints").glob("*")):
        found[f"checkpoint {path.name}"] = path.read_bytes()
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two things that were read are equal; an error is equal to nothing."""
    if isinstance(one, Exception) or isinstance(other, Exception):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, pd.DataFrame):
        return one.equals(other)
    return bool(one == other)
