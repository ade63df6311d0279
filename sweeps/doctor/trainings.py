"""The audit of what is stored of trainings: records, traces and checkpoints, and what the study
says of them.
"""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from sweeps import records
from sweeps.doctor.patient import Patient
from sweeps.doctor.settings import reason_of
from sweeps.records import EARLIER, TrainingRecord
from sweeps.run_directory import RunDirectoryError
from sweeps.selection import StudyTrial
from trace_core import Trace, TraceError

_ID = re.compile("[0-9a-f]{12}")
CHECKPOINT = re.compile(r"[0-9a-f]{12}(-and-[0-9]+)?\.pt")

_AGAIN = "resume makes the training again, to the same figures"


def examine_trainings(patient: Patient) -> None:
    """Look at every record, trace and checkpoint there is, then at what the study's trials need."""
    folder = patient.run.path / "traces"
    ids = sorted({path.stem for path in files_in(folder) if is_ours(path)})
    for count, training_id in enumerate(ids):
        patient.on_progress("trainings", count, len(ids))
        _training(patient, training_id)
    patient.on_progress("trainings", len(ids), len(ids))
    _without_hash(patient)
    _checkpoints(patient)
    if patient.trials is None:
        return
    wanted: set[str] = set()
    for trial in patient.trials:
        wanted |= _of_trial(patient, trial)
    _orphans(patient, wanted)


def files_in(folder: Path) -> list[Path]:
    """What is in a folder, in order of names; nothing if there is none."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def is_ours(path: Path) -> bool:
    """Whether a file is a training's record or trace, by its name."""
    return path.suffix in (".json", ".npz") and bool(_ID.fullmatch(path.stem))


def _training(patient: Patient, training_id: str) -> None:
    run = patient.run
    record_path, trace_path = run.record(training_id), run.trace(training_id)
    try:
        record = records.load(run, training_id)
    except RunDirectoryError as error:
        _damaged_record(patient, training_id, reason_of(error))
        return
    if record is not None:
        patient.audit.count("records")
        wrong = _unlike(record, training_id)
        if wrong:
            _damaged_record(patient, training_id, wrong)
            return
        patient.records[training_id] = record
    if not trace_path.exists():
        return
    trouble = _trace_trouble(trace_path, "" if record is None else record.trace_sha256)
    patient.audit.count("traces")
    if not trouble:
        return
    if record is None and patient.driven:
        return
    patient.unsound.add(training_id)
    patient.audit.problem(
        patient.name(trace_path),
        trouble,
        means="no score of this training can be relied on",
        remains="its record: metrics, seconds, what it printed",
        todo=f"{patient.repair} puts it aside with its record; {_AGAIN}",
        cure=lambda: patient.aside(trace_path, record_path),
    )


def _without_hash(patient: Patient) -> None:
    made = [record for record in patient.records.values() if record.state == "COMPLETE"]
    bare = [record for record in made if not record.trace_sha256]
    if bare:
        patient.audit.note(
            "traces",
            f"{len(bare)} of its {len(made)} records of COMPLETE trainings carry no hash of their "
            "trace: an earlier version wrote them",
            means="a trace that was exchanged for another training's wouldn't be noticed",
        )


def _unlike(record: TrainingRecord, training_id: str) -> str:
    """What in a record that could be read can't be of this training."""
    if record.training_id != training_id:
        return f"is the record of another training, {record.training_id}"
    return ""


def _damaged_record(patient: Patient, training_id: str, what: str) -> None:
    path, trace = patient.run.record(training_id), patient.run.trace(training_id)
    patient.unsound.add(training_id)
    there = "its trace, and what the study says of its trial"
    patient.audit.problem(
        patient.name(path),
        what,
        means="what became of this training can't be relied on",
        remains=there if trace.exists() else "what the study says of its trial",
        todo=f"{patient.repair} puts it aside; {_AGAIN}",
        cure=lambda: patient.aside(path, trace),
    )


def _trace_trouble(path: Path, sha256: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        return "isn't the file that its record was made with"
    try:
        Trace.load(path)
    except TraceError as error:
        return str(error).removeprefix(f"{path} ").removesuffix("; delete it, and make it again")
    return ""


def _of_trial(patient: Patient, trial: StudyTrial) -> set[str]:
    """Whether what a trial is made of is there; gives the ids of its trainings."""
    ids: list[str] = trial.details.get("trainings", [])
    missing = [one for one in ids if one not in patient.records and one not in patient.unsound]
    if trial.state == "COMPLETE":
        whole = [one for one in ids if one in patient.records]
        missing += [one for one in whole if not patient.run.trace(one).exists()]
        for one in missing:
            _missing(patient, trial, one)
        if not missing and not patient.unsound.intersection(ids):
            _fits(patient, trial, [patient.records[one] for one in ids])
    elif trial.state in ("FAILED", "PRUNED") and not patient.unsound.intersection(ids):
        ended = [patient.records[one].state for one in ids if one in patient.records]
        if ids and trial.state not in ended and not _unscored(trial, ended, ids):
            _without_reason(patient, trial, ids)
    return set(ids)


def _unscored(trial: StudyTrial, ended: Sequence[str], ids: list[str]) -> bool:
    """Whether a trial FAILED though all its trainings are COMPLETE: a score wasn't defined."""
    return trial.state == "FAILED" and list(ended) == ["COMPLETE"] * len(ids)


def _missing(patient: Patient, trial: StudyTrial, training_id: str) -> None:
    run = patient.run
    path = run.trace(training_id) if training_id in patient.records else run.record(training_id)
    patient.unsound.add(training_id)
    patient.audit.problem(
        patient.name(path),
        f"is gone, of trial {trial.number}, which is COMPLETE",
        means="its model can't be ranked",
        remains="what the study says of the trial",
        todo=_AGAIN,
    )


def _without_reason(patient: Patient, trial: StudyTrial, ids: list[str]) -> None:
    """No training of a trial that FAILED or was PRUNED says so."""
    gone = [one for one in ids if one not in patient.records]
    reason = str(trial.details.get("reason", ""))
    named = re.match(r"seed ([0-9]+): ", reason)
    seed = int(named[1]) if named else ids.index(gone[0]) if gone else 0
    training_id = ids[seed] if seed < len(ids) else ids[0]

    def write() -> str:
        record = TrainingRecord(
            training_id=training_id,
            model_id=trial.details["model"],
            seed=seed,
            state="FAILED" if trial.state == "FAILED" else "PRUNED",
            trial=trial.number,
            runner="".join(trial.details.get("ray", [])[-1:]),
            seconds=0.0,
            reason=reason.removeprefix(named[0] if named else ""),
            log_tail="(the log is lost: the record was written again from the study)",
        )
        records.save(patient.run, record)
        return "written again from the study, without figures and log"

    free = not patient.run.record(training_id).exists()
    patient.audit.problem(
        patient.name(patient.run.record(training_id)),
        f"is gone, of trial {trial.number}, which is {trial.state}",
        means="what the training printed is lost; no ranked model is touched",
        remains="the reason, in the study",
        todo=f"{patient.repair} writes it again from the study, without the log",
        cure=write if free else None,
    )


def _fits(patient: Patient, trial: StudyTrial, ended: list[TrainingRecord]) -> None:
    """Whether the records of a COMPLETE trial are what the study says of it."""
    model = trial.details.get("model")
    for seed, record in enumerate(ended):
        said = ""
        if record.state != "COMPLETE":
            said = f"says {record.state}, and trial {trial.number} is COMPLETE"
        elif record.model_id != model:
            said = f"is of model {record.model_id}, and trial {trial.number} of {model}"
        elif record.seed != seed:
            said = f"is of seed {record.seed}, and stands for seed {seed}"
        if said:
            _damaged_record(patient, record.training_id, said)
            return
    metric = trial.details.get("metric")
    mean = fmean(record.metrics()[-1] for record in ended)
    if metric is not None and not math.isclose(metric, mean, rel_tol=1e-9, abs_tol=1e-12):
        names = ", ".join(patient.name(patient.run.record(each.training_id)) for each in ended)
        patient.unsound.update(each.training_id for each in ended)
        patient.audit.problem(
            names,
            f"say a mean metric of {mean:.9g}, and the study says {metric:.9g} of trial "
            f"{trial.number}",
            means="one of these was changed",
            remains="all of them, and the traces",
            todo=f"{patient.repair} puts the records aside; {_AGAIN}",
            cure=lambda: patient.aside(
                *(patient.run.record(each.training_id) for each in ended),
                *(patient.run.trace(each.training_id) for each in ended),
            ),
        )


def _orphans(patient: Patient, wanted: set[str]) -> None:
    """Records that no trial of the study has."""
    trials = patient.trials or []
    begun = [trial for trial in trials if trial.state == "INTERRUPTED"]
    models = {trial.details.get("model") for trial in begun}
    # A trial is trained once its model is noted.
    bare = {trial.number for trial in begun if "model" not in trial.details}
    numbers = {trial.number for trial in trials} - bare
    lost: list[tuple[str, TrainingRecord]] = []
    left: list[tuple[str, TrainingRecord]] = []
    for training_id, record in patient.records.items():
        if training_id in wanted or record.trial == EARLIER or record.model_id in models:
            continue
        (left if record.trial in numbers else lost).append((training_id, record))
    if lost and not patient.driven and not patient.partial:
        patient.partial = True
        told = sorted({record.trial for _, record in lost})
        patient.audit.problem(
            "study.json" if patient.run.study.exists() else patient.name(patient.run.journal),
            f"lacks trials of which there are {len(lost)} trainings (trials "
            f"{', '.join(map(str, told[:8]))}{', …' if len(told) > 8 else ''})",
            means="the end of the study is lost",
            remains="these trainings' records and traces",
            todo=f"{patient.resume}: it asks for these trials again, and finds their trainings",
        )
    for training_id, record in left:
        if not patient.driven:
            patient.audit.note(
                patient.name(patient.run.record(training_id)),
                f"is of trial {record.trial}, which doesn't have it",
                means="nothing reads it",
            )


def _checkpoints(patient: Patient) -> None:
    for path in files_in(patient.run.path / "checkpoints"):
        if not CHECKPOINT.fullmatch(path.name):
            continue
        patient.audit.count("checkpoints")
        trouble = zip_trouble(path)
        # A worker replaces its checkpoint, and removes it in the end.
        if trouble and path.exists():
            patient.audit.problem(
                patient.name(path),
                trouble,
                means="the training that it is of can't go on from it",
                remains="all trainings that have ended",
                todo=f"{patient.repair} puts it aside; resume begins the training anew, and gets "
                "the same figures",
                cure=putting_aside(patient, path),
            )


def putting_aside(patient: Patient, *paths: Path) -> Callable[[], str]:
    """The cure that puts files aside."""
    return lambda: patient.aside(*paths)


def zip_trouble(path: Path) -> str:
    """What is wrong with an archive, all of whose bytes are read and compared with its checksums;
    empty if nothing is.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except FileNotFoundError:
        return ""
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError),
        *(NotImplementedError, OverflowError, LookupError, MemoryError),
    ) as error:
        return f"is truncated or damaged ({' '.join(str(error).split())[:200]})"
    return f"is damaged ({bad} doesn't fit its checksum)" if bad else ""
