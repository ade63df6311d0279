"""The audit of a run directory that has ended: nothing lost, nothing doubled, nothing different.

It reads the files by plain Optuna, pandas, NumPy and JSON, and asks the product for one thing
alone: whether it can read its traces. What it compares with is an undisturbed run of the same
configuration.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from trace_core import Trace

STATES = {"COMPLETE": "COMPLETE", "PRUNED": "PRUNED", "FAIL": "FAILED"}
LEFT = (".*", "*.lock", "*.tmp")
KEPT = {"driver.lock", "decision.lock"}
OWN = {"seconds", "runner", "resumed", "trial", "sha256", "together", "apart", "log_tail"}
"""What a record has of the run that made it."""
ALONE = ("traceability", "stability", "change_rate", "explainability", "article_score")
ALONE += ("metric", "metric_best", "metric_test", "replicates", "settings", "init")
"""What a ranking says of a model whatever others there are."""

Note = Callable[[str, str], None]
"""Takes the sort of a failure (lost, doubled, different, other) and its text."""


@dataclass
class Trial:
    number: int
    state: str
    parameters: dict[str, Any]
    values: list[float] | None
    details: dict[str, Any]


@dataclass
class Ended:
    """What there is of a run directory."""

    path: Path
    trials: list[Trial]
    ledger: pd.DataFrame
    ranking: dict[str, Any]
    ranking_bytes: bytes
    records: dict[str, dict[str, Any]]


def read(path: Path) -> Ended:
    """Everything that is audited; raises what reading raises."""
    ranking = (path / "report" / "ranking.json").read_bytes()
    return Ended(
        path,
        study(path),
        pd.read_parquet(path / "trials.parquet"),
        json.loads(ranking),
        ranking,
        {
            file.stem: json.loads(file.read_text())
            for file in sorted((path / "traces").glob("[!.]*.json"))
        },
    )


def study(path: Path) -> list[Trial]:
    """The trials, by Optuna alone."""
    place = path / "study.json"
    storage: optuna.storages.BaseStorage
    if place.exists():
        told = json.loads(place.read_text())
        url = told["storage"].replace("postgresql://", "postgresql+psycopg://")
        storage, name = RDBStorage(url), told["study"]
    else:
        backend = JournalFileBackend(str(path / "study.journal"))
        storage, name = JournalStorage(backend), "tracerank"
    found = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    return [
        Trial(
            each.number,
            STATES.get(each.state.name, each.state.name),
            dict(each.params),
            None if each.values is None else list(each.values),
            dict(each.user_attrs.get("tracerank", {})),
        )
        for each in found
    ]


def audit(
    path: Path,
    sweep: dict[str, Any],
    kept: dict[str, bytes],
    note: Note,
    reference: Ended | None = None,
    expected: Any = None,
    tolerance: float = 0.0,
) -> None:
    """Tell everything that is wrong with a run directory whose sweep has ended.

    ``kept`` are the records that were there when the violence was done. ``expected`` says what
    becomes of the user's models that do harm (`violence.Expected`), which the ``reference`` has
    behave. ``tolerance`` is relative, for figures that another machine began.
    """
    try:
        ended = read(path)
    except Exception as error:
        note("lost", f"can't be read: {type(error).__name__}: {error}")
        return
    _numbers(ended, sweep, note)
    _ledger(ended, note)
    _report(ended, note)
    _trainings(ended, sweep, note)
    _left_over(path, note)
    _kept(ended, kept, note)
    if expected is not None:
        _harmed(ended, expected, note)
    if reference is not None:
        _same(ended, reference, note, broken=expected is not None, tolerance=tolerance)


def _numbers(ended: Ended, sweep: dict[str, Any], note: Note) -> None:
    numbers = [trial.number for trial in ended.trials]
    for number in sorted(set(range(sweep["trials"])) - set(numbers)):
        note("lost", f"trial {number} isn't in the study")
    if len(numbers) > sweep["trials"] or len(set(numbers)) < len(numbers):
        note("doubled", f"the study has the trials {numbers}, not {sweep['trials']}")
    for trial in ended.trials:
        if trial.state not in STATES.values():
            note("lost", f"trial {trial.number} is {trial.state}")
    # Parameters are drawn from ranges of floats: none comes twice by chance.
    told = Counter(json.dumps(trial.parameters, sort_keys=True) for trial in ended.trials)
    for parameters, count in told.items():
        if count > 1:
            note("doubled", f"{count} trials have the parameters {parameters}")


def _ledger(ended: Ended, note: Note) -> None:
    ledger = ended.ledger
    if ledger.index.tolist() != [trial.number for trial in ended.trials]:
        note("different", "the ledger has other trials than the study")
        return
    for trial, (_, row) in zip(ended.trials, ledger.iterrows(), strict=True):
        values = [float(row[name]) for name in ledger.columns if name.startswith("value_")]
        told = trial.values or [math.nan] * len(values)
        same = (
            row["state"] == trial.state
            and row["model_id"] == trial.details.get("model")
            and row["trainings"] == ",".join(trial.details.get("trainings", []))
            and np.array_equal(values, told, equal_nan=True)
        )
        if not same:
            note("different", f"the ledger's trial {trial.number} isn't the study's")


def _report(ended: Ended, note: Note) -> None:
    states = Counter(trial.state for trial in ended.trials)
    told = ended.ranking["trials"]
    for state in (*STATES.values(), "INTERRUPTED"):
        if told[state] != states.get(state, 0):
            note("different", f"the report counts {told[state]} {state}, the study {states[state]}")
    replayed = sum(bool(trial.details.get("replayed")) for trial in ended.trials)
    if (told["replayed"], told["trained"]) != (replayed, len(ended.trials) - replayed):
        note("different", "the report counts other replays than the study")
    named = [one["model_id"] for one in (*ended.ranking["models"], *ended.ranking["excluded"])]
    models = {trial.details.get("model") for trial in ended.trials}
    if sorted(named) != sorted(map(str, models)):
        note("different", "the report's models aren't the study's")
    complete = {trial.details["model"] for trial in ended.trials if trial.state == "COMPLETE"}
    if not {one["model_id"] for one in ended.ranking["models"]} <= complete:
        note("different", "a model is ranked that isn't COMPLETE")
    for name in ("index.html", "report.md", "ranking.csv", "ranking.parquet"):
        if not (ended.path / "report" / name).exists():
            note("other", f"report/{name} is missing")


def _trainings(ended: Ended, sweep: dict[str, Any], note: Note) -> None:
    known: set[str] = set()
    traced: set[str] = set()
    for trial in ended.trials:
        ids = trial.details.get("trainings", [])
        known.update(ids)
        found = [ended.records.get(one) for one in ids]
        if len(ids) != sweep["replicates"]:
            note("lost", f"trial {trial.number} has {len(ids)} trainings")
        if trial.state == "COMPLETE":
            traced.update(ids)
            if any(record is None or record["state"] != "COMPLETE" for record in found):
                note("lost", f"trial {trial.number} is COMPLETE, its trainings are not")
        elif not any(record is not None and record["state"] == trial.state for record in found):
            note("different", f"trial {trial.number} is {trial.state}, none of its trainings is")
    for name, record in ended.records.items():
        if name not in known:
            note("doubled", f"traces/{name}.json is of no trial")
        if record["training_id"] != name:
            note("different", f"traces/{name}.json is of another training")
        if record["state"] == "COMPLETE":
            traced.add(name)
        elif not record["reason"]:
            note("other", f"traces/{name}.json is {record['state']} without a reason")
    there = {file.stem for file in (ended.path / "traces").glob("[!.]*.npz")}
    for name in sorted(there - traced):
        note("doubled", f"traces/{name}.npz is of no training that has ended")
    for name in sorted(traced):
        every = sweep.get("tracer", {}).get("every", 1)
        _trace(ended.path / "traces" / f"{name}.npz", ended.records.get(name), every, note)


def _trace(file: Path, record: dict[str, Any] | None, every: int, note: Note) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                raise ValueError(f"{archive.testzip()} is damaged")
        with np.load(file, allow_pickle=False) as arrays:
            for name in arrays.files:
                arrays[name]
        steps = Trace.load(file).steps
    except Exception as error:
        note("lost", f"traces/{file.name} can't be read: {error}")
        return
    if record is not None and not 0 <= record["steps"] - int(steps[-1]) <= every:
        note("different", f"traces/{file.name} has steps to {steps[-1]}, not {record['steps']}")


def _left_over(path: Path, note: Note) -> None:
    for folder in ("checkpoints", "live"):
        left = sorted((path / folder).glob("*"))
        if left:
            note("other", f"left over: {folder}/{left[0].name}")
    for pattern in LEFT:
        for file in sorted(path.rglob(pattern)):
            if file.name not in KEPT:
                note("other", f"left over: {file.relative_to(path)}")


def _kept(ended: Ended, kept: dict[str, bytes], note: Note) -> None:
    """What had ended before the violence wasn't made again."""
    for name, before in kept.items():
        file = ended.path / "traces" / name
        if json.loads(before)["state"] == "COMPLETE" and (
            not file.exists() or file.read_bytes() != before
        ):
            note("lost", f"traces/{name} had ended before, and was made again")


def _harmed(ended: Ended, expected: Any, note: Note) -> None:
    harmed = [one for one in ended.trials if _bad(one)]
    if not harmed:
        note("other", "no trial was to be broken")
    for trial in harmed:
        reason = trial.details.get("reason", "")
        if expected.either and trial.state in ("COMPLETE", "FAILED"):
            continue
        if trial.state != expected.state:
            note("different", f"a broken trial is {trial.state}, not {expected.state}: {reason}")
        elif not re.search(expected.says, reason):
            note("other", f"FAILED with a reason that doesn't say it: {reason!r}")


def _bad(trial: Trial) -> bool:
    return any(name.endswith(".bad") and value for name, value in trial.parameters.items())


def _same(ended: Ended, reference: Ended, note: Note, *, broken: bool, tolerance: float) -> None:
    """The same as the undisturbed run; where models were ``broken``, of all the others."""
    if not broken and (
        not _equal(ended.ranking, reference.ranking, tolerance)
        if tolerance
        else ended.ranking_bytes != reference.ranking_bytes
    ):
        note("different", "ranking.json isn't that of an undisturbed run")
    told = {trial.number: trial for trial in ended.trials}
    for before in reference.trials:
        trial = told.get(before.number)
        if trial is None:
            continue
        if (
            trial.parameters != before.parameters
            or trial.details["model"] != before.details["model"]
        ):
            note("different", f"trial {trial.number} has other parameters")
            continue
        if broken and _bad(trial):
            if trial.state == "COMPLETE":
                _same_trial(ended, reference, trial, before, note, tolerance)
            continue
        if trial.state != before.state:
            reason = trial.details.get("reason", "")
            note(
                "different", f"trial {trial.number} is {trial.state}, not {before.state}: {reason}"
            )
            continue
        _same_trial(ended, reference, trial, before, note, tolerance)
    ranked = {one["model_id"]: one for one in reference.ranking["models"]}
    for one in ended.ranking["models"]:
        undisturbed = ranked.get(one["model_id"])
        for name in ALONE if undisturbed is not None else ():
            if not _equal(one[name], undisturbed[name], tolerance):
                note("different", f"{name} of the model {one['model_id']}")


def _same_trial(
    ended: Ended, reference: Ended, trial: Trial, before: Trial, note: Note, tolerance: float
) -> None:
    if not _equal(trial.values, before.values, tolerance):
        note("different", f"trial {trial.number} has other values")
    for name in trial.details["trainings"]:
        one, other = ended.records.get(name), reference.records.get(name)
        if one is None or other is None:
            if other is not None:
                note("lost", f"traces/{name}.json is missing")
            continue
        for key in one.keys() & other.keys() - OWN:
            if not _equal(one[key], other[key], tolerance):
                note("different", f"{key} in traces/{name}.json: {one[key]!r}, not {other[key]!r}")
        files = [each.path / "traces" / f"{name}.npz" for each in (ended, reference)]
        contents = {file.read_bytes() for file in files if file.exists()}
        if one["state"] == "COMPLETE" and not tolerance and len(contents) != 1:
            note("different", f"traces/{name}.npz isn't that of an undisturbed run")


def _equal(one: Any, other: Any, tolerance: float) -> bool:
    """Whether two values of JSON are equal, numbers within the relative tolerance."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _equal(one[key], other[key], tolerance) for key in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            _equal(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, float) and isinstance(other, float) and tolerance:
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=1e-12)
    return bool(one == other)
