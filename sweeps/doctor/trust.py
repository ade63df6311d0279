"""Whether the ledger may be a source of trials: it must fit the records of trainings and the
configuration, for it may be another sweep's, or this one's before it was changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, cast

import pandas as pd

from search_spaces import SpaceError
from sweeps import records
from sweeps.candidate import Candidate
from sweeps.config import SweepConfig
from sweeps.doctor.findings import short
from sweeps.doctor.patient import ENDED, Patient
from sweeps.ledger import ledger_table
from sweeps.records import EARLIER, TrainingRecord
from sweeps.run_directory import DAMAGE, RunDirectory, RunDirectoryError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Doubt:
    """Why no trial is to be taken from a ledger; ``foreign`` where it is known that the ledger is
    another sweep's, and not that ``sweep.yaml`` was changed.
    """

    what: str
    foreign: bool


def ledger_rows(table: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """The rows of a ledger by the numbers of their trials."""
    rows = cast(dict[Any, dict[Any, Any]], table.to_dict("index"))
    return {int(number): row for number, row in rows.items()}


def known_records(run: RunDirectory) -> dict[str, TrainingRecord]:
    """Every record that can be read, by the training's id."""
    found = {}
    for path in sorted((run.path / "traces").glob("*.json")):
        try:
            record = records.load(run, path.stem)
        except RunDirectoryError:
            continue
        if record is not None and record.training_id == path.stem:
            found[path.stem] = record
    return found


def doubt_of(patient: Patient) -> Doubt | None:
    """Why no trial is to be taken from the ledger; None if it can be relied on."""
    ledger, config = patient.ledger, patient.config
    if ledger is None or config is None:
        return None
    try:
        rows = ledger_rows(ledger)
        against = _against_records(rows, known_records(patient.run))
    except DAMAGE as error:
        return Doubt(f"holds what no sweep writes ({short(error)})", foreign=True)
    if against:
        return Doubt(against, foreign=True)
    for number, row in rows.items():
        try:
            wrong = _against_configuration(config, row)
        except (*DAMAGE, SpaceError) as error:
            wrong = short(error)
        if wrong:
            return Doubt(f"doesn't fit sweep.yaml: trial {number}: {wrong}", patient.vouched)
    return None


def borne_out(patient: Patient) -> bool:
    """Whether the study's trials are those of which there are records."""
    kept = known_records(patient.run)
    own = any(record.trial != EARLIER for record in kept.values())
    try:
        table = ledger_table([replace(each, values=None) for each in patient.trials or []], [])
        return own and len(table) > 0 and not _against_records(ledger_rows(table), kept)
    except DAMAGE:
        return False


def _against_records(rows: Mapping[int, Row], kept: Mapping[str, TrainingRecord]) -> str:
    """What in the records contradicts the rows; or that none of these is borne out by any."""
    of_model: dict[str, set[int]] = {}
    for number, row in rows.items():
        of_model.setdefault(row["model_id"], set()).add(number)
    own = [record for record in kept.values() if record.trial != EARLIER]
    for record in own:
        row = rows.get(record.trial, {"state": "", "model_id": ""})
        model = row["model_id"] if row["state"] in ENDED else ""
        # A trial that was asked for again may have got another model: then its own are there too.
        if model and model != record.model_id and not _made(row, kept):
            return (
                f"is of another sweep: trial {record.trial} is of model {model}, and its "
                f"record {record.training_id} of {record.model_id}"
            )
    for number, row in rows.items():
        wrong = _against_row(row, kept, of_model[row["model_id"]])
        if wrong:
            return f"is of another sweep: trial {number}: {wrong}"
    # A row may be older than how its trial ended: its model tells all the same.
    told = {(number, row["model_id"]) for number, row in rows.items()}
    known = any((record.trial, record.model_id) in told for record in own)
    if rows and own and not known and not any(_made(row, kept) for row in rows.values()):
        return "is of another sweep: no record in traces/ is of a trial that it has"
    return ""


def _against_row(row: Row, kept: Mapping[str, TrainingRecord], same_model: set[int]) -> str:
    """What the records of a row's trainings say otherwise."""
    if row["state"] not in ENDED:
        return ""
    ids, made = _ids(row), _made(row, kept)
    for record in made:
        if record.model_id != row["model_id"]:
            return f"its training {record.training_id} is of model {record.model_id}"
        # Those of a model that was tried before are the earlier trial's.
        if record.trial not in same_model | {EARLIER}:
            return f"its training {record.training_id} is of trial {record.trial}"
    if row["state"] != "COMPLETE" or len(made) < len(ids) or not made:
        return ""
    if any(record.state != "COMPLETE" or not record.history for record in made):
        return "it is COMPLETE, and a training of it isn't"
    mean = fmean(record.metrics()[-1] for record in made)
    told = math.nan if row["metric"] is None else float(row["metric"])
    if not math.isnan(told) and not math.isclose(told, mean, rel_tol=1e-9, abs_tol=1e-12):
        return f"its metric is {told:.9g}, and its records say {mean:.9g}"
    return ""


def _made(row: Row, kept: Mapping[str, TrainingRecord]) -> list[TrainingRecord]:
    return [kept[each] for each in _ids(row) if each in kept]


def _ids(row: Row) -> list[str]:
    return [each for each in row["trainings"].split(",") if each]


def _against_configuration(config: SweepConfig, row: Row) -> str:
    """What the configuration says otherwise. Raises SpaceError or one of `DAMAGE` for parameters
    that its space doesn't have.
    """
    columns = {f"value_{name}" for name in config.objective_names()}
    if {name for name in row if name.startswith("value_")} != columns:
        return "it has values of other objectives"
    if not row["model_id"]:
        return ""
    Candidate.from_parameters(config, json.loads(row["parameters"]))
    count = len(_ids(row))
    if row["state"] == "COMPLETE" and count != config.replicates:
        return f"it has {count} trainings, and replicates is {config.replicates}"
    return ""
