"""Whether what has the name of a folder of a run directory is one, and of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sweeps.doctor.derived import FILES
from sweeps.doctor.patient import ASIDE, Patient
from sweeps.doctor.trainings import CHECKPOINT, files_in, is_ours, putting_aside
from sweeps.run_directory import RunDirectory, RunDirectoryError

FOLDERS = ("traces", "checkpoints", "live", "report", "logged")
RUN_FILES = (
    *("sweep.yaml", "environment.json", "study.journal", "study.json", "earlier.json"),
    *("scores.npz", "trials.parquet", "decision.json", "decision.lock", "job.json", "driver.lock"),
)


def examine_shapes(patient: Patient) -> bool:
    """Whether each is what its name says; if not, the rest is looked at when that is mended."""
    wrong = False
    for path, should in _misshapen(patient.run):
        wrong = True
        patient.audit.problem(
            patient.name(path),
            f"is no {should}",
            means="no sweep wrote it, and what belongs there can't be read or written; nothing "
            "else was looked at",
            remains="all that is elsewhere in the run directory",
            todo=f"{patient.repair} puts it aside, and looks at the rest",
            cure=putting_aside(patient, path),
        )
    if _no_place_aside(patient.run):
        patient.audit.problem(
            ASIDE, _NO_FOLDER, means="nothing can be repaired", todo="move it elsewhere"
        )
    return not wrong


def _misshapen(run: RunDirectory) -> Iterator[tuple[Path, str]]:
    for name in FOLDERS:
        path = run.path / name
        if os.path.lexists(path) and not path.is_dir():
            yield path, "folder"
    files = [run.path / name for name in RUN_FILES]
    files += [path for path in files_in(run.path / "traces") if is_ours(path)]
    files += [
        path for path in files_in(run.path / "checkpoints") if CHECKPOINT.fullmatch(path.name)
    ]
    files += [run.report / name for name in FILES]
    for path in files:
        if os.path.lexists(path) and not path.is_file() and not _vanished(path):
            yield path, "file"


def _vanished(path: Path) -> bool:
    """Whether a worker removed it meanwhile."""
    return not os.path.lexists(path)


_NO_FOLDER = "is no folder, and a repair keeps there what it replaces"


def _no_place_aside(run: RunDirectory) -> bool:
    path = run.path / ASIDE
    return os.path.lexists(path) and not path.is_dir()


def require_place_aside(run: RunDirectory) -> None:
    """Raises RunDirectoryError where there is nowhere to put what a repair replaces."""
    if _no_place_aside(run):
        raise RunDirectoryError(f"{run.path / ASIDE}: {_NO_FOLDER}; move it elsewhere")


def lock_is_misshapen(run: RunDirectory) -> bool:
    """Whether there is something in the driver's lock's place that nobody can hold."""
    path = run.path / "driver.lock"
    return os.path.lexists(path) and not path.is_file()
