"""Which study of a database is a sweep's, where the file that says so is lost."""

from __future__ import annotations

from typing import Any

from sweeps.config_selection import JOURNAL
from sweeps.doctor.ledger import same
from sweeps.doctor.patient import Patient
from sweeps.selection import studies_in_database
from sweeps.selection.place import keep_place

LOST_PLACE = {
    "means": "which study of the database is this sweep's isn't known",
    "remains": "the ledger, every training's record and trace, and the study itself",
}
"""What is told of such a file."""


def find_study(patient: Patient) -> str:
    """Look in the database for the one study whose trainings are those of this run directory."""
    run, config = patient.run, patient.config
    if config is None or config.storage == JOURNAL:
        return ""
    found = []
    for place, trials in studies_in_database(run, config):
        ids = {one for trial in trials for one in trial.details.get("trainings", [])}
        times = {trial.number: trial.started for trial in trials}
        if ids and ids & set(patient.records) and _began(patient, times):
            found.append(place)
    if len(found) != 1:
        return ""
    done = f"{patient.aside(run.study)}; " if run.study.exists() else ""
    keep_place(run, found[0])
    return f"{done}its study was found in the database: {found[0].study}"


def _began(patient: Patient, times: dict[int, Any]) -> bool:
    """Whether trials began when the ledger says, as far as there is one."""
    if patient.ledger is None:
        return True
    kept = patient.ledger["started"]
    return all(number in times and same(times[number], moment) for number, moment in kept.items())
