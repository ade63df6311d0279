"""The audit of all else in a run directory: what writers left, and what isn't the sweep's."""

from __future__ import annotations

import json
import re

from sweeps.doctor.derived import FILES
from sweeps.doctor.patient import ASIDE, Patient
from sweeps.doctor.shapes import FOLDERS, RUN_FILES
from sweeps.doctor.trainings import CHECKPOINT, files_in, is_ours, putting_aside
from sweeps.run_directory import DAMAGE, JOURNAL_LOCK, LOGGERS, SCRATCH_NOTE

_KNOWN = {*FOLDERS, *RUN_FILES, *LOGGERS, ASIDE}
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8,16}")
_LOGGED = re.compile(r"sweep [0-9a-f]{8}|begin [0-9]+|end [0-9]+")


def examine_others(patient: Patient) -> None:
    """Look for files that nobody reads."""
    run, audit = patient.run, patient.audit
    foreign = [path for path in files_in(run.path) if path.name not in _KNOWN]
    foreign += [path for path in files_in(run.path / "traces") if not is_ours(path)]
    folder = run.path / "checkpoints"
    foreign += [path for path in files_in(folder) if not CHECKPOINT.fullmatch(path.name)]
    foreign += [path for path in files_in(run.report) if path.name not in FILES]
    for path in foreign:
        left = _TEMPORARY.fullmatch(path.name) or path.name == SCRATCH_NOTE
        if left or path.name.startswith(JOURNAL_LOCK):
            if not patient.driven:
                audit.note(
                    patient.name(path),
                    "was left by a writer that was killed",
                    means="nothing reads it",
                    todo="the next resume removes it",
                )
        else:
            audit.note(patient.name(path), "isn't the sweep's", means="it is left alone")
    if not patient.driven:
        for path in files_in(run.live):
            audit.note(
                patient.name(path),
                "tells of a training that isn't under way",
                todo="the next resume removes it",
            )
    _logged(patient)
    _job(patient)


def _logged(patient: Patient) -> None:
    for path in files_in(patient.run.path / "logged"):
        if path.suffix != ".txt" or not path.is_file():
            patient.audit.note(patient.name(path), "isn't the sweep's", means="it is left alone")
            continue
        lines = path.read_bytes().decode(errors="replace").splitlines()
        bad = [line for line in lines[:-1] if not _LOGGED.fullmatch(line)]
        named = bool(lines) and lines[0].startswith("sweep ")
        if bad or not named:
            patient.audit.problem(
                patient.name(path),
                "is damaged: it has lines that nobody wrote, or lacks its first",
                means="which trials the logger has isn't known for certain",
                remains="all results, and what the logger has",
                todo=f"{patient.repair} puts it aside; the next resume then logs all trials anew, "
                "as another sweep of the logger's",
                cure=putting_aside(patient, path),
            )


def _job(patient: Patient) -> None:
    path = patient.run.path / "job.json"
    try:
        told = json.loads(path.read_bytes())
        sound = isinstance(told, dict) and {"id", "storage", "journal"} <= set(told)
    except FileNotFoundError:
        return
    except DAMAGE:
        sound = False
    if not sound:
        patient.audit.problem(
            patient.name(path),
            "doesn't say of which job this is a copy, or is damaged",
            means="tracerank fetch can't bring the copy up to date",
            remains="all results",
            todo=f"{patient.repair} puts it aside; to have a newer copy, fetch the job "
            "into another folder",
            cure=lambda: patient.aside(path),
        )
