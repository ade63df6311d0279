"""The audit of the study: in a journal of the run directory, or in a database."""

from __future__ import annotations

from sweeps.config_selection import JOURNAL
from sweeps.doctor.ledger import compare_ledger, doubted, learn_ledger, restored
from sweeps.doctor.made_with import compare_configuration
from sweeps.doctor.patient import ENDED, Patient
from sweeps.doctor.settings import reason_of
from sweeps.doctor.study_place import LOST_PLACE, find_study
from sweeps.doctor.trust import doubt_of, known_records
from sweeps.records import EARLIER
from sweeps.run_directory import RunDirectoryError
from sweeps.selection import examine_journal, read_study
from trace_core.durable import write_atomically


def examine_study(patient: Patient) -> None:
    """Look at it and at the ledger, and learn the trials. Raises ConnectionError for a database
    that can't be reached.
    """
    learn_ledger(patient)
    if not _is_there(patient):
        return
    _read(patient)
    audit, trials = patient.audit, patient.trials
    if trials is None or not compare_configuration(patient):
        return
    audit.count("trials", len(trials))
    ended = sum(trial.state in ENDED for trial in trials)
    if patient.driven:
        audit.state = "running"
    elif patient.config is not None:
        audit.state = "complete" if ended >= patient.config.trials else "interrupted"
    if not patient.driven:
        compare_ledger(patient)


def _is_there(patient: Patient) -> bool:
    """Whether there is a study that can be read, or none was made yet."""
    run = patient.run
    if run.study.exists():
        return not _is_stray(patient)
    if run.journal.exists():
        return _journal(patient)
    return not _no_study(patient)


def _is_stray(patient: Patient) -> bool:
    """Whether a study.json lies beside the whole journal of a sweep that has no database."""
    run, config = patient.run, patient.config
    if config is None or config.storage != JOURNAL or not run.journal.exists():
        return False
    try:
        found = examine_journal(run.journal)
    except OSError:
        return False
    if found.trouble or not found.lines:
        return False
    patient.audit.problem(
        patient.name(run.study),
        "isn't the sweep's: its study is in its journal, which is whole",
        means="every command would look for the study where this file says",
        remains="the study",
        todo=f"{patient.repair} puts it aside",
        cure=lambda: patient.aside(run.study),
    )
    return True


def _journal(patient: Patient) -> bool:
    """Whether the journal is whole; a study in a database is the database's to keep whole."""
    run, audit = patient.run, patient.audit
    where = patient.name(run.journal)
    try:
        found = examine_journal(run.journal)
    except OSError as error:
        audit.problem(where, f"can't be read: {error.strerror}")
        return False
    audit.count("journal lines", found.lines)
    if found.unchecked and not found.trouble:
        audit.note(
            where,
            f"{found.unchecked} of its {found.lines} lines have no checksum: an earlier "
            "version, or another tool, wrote them",
            means="a bit that flipped in them can't be found",
        )
    if found.torn and not patient.driven:
        audit.note(
            where,
            "its last line isn't whole: a killed writer left it",
            means="nothing that counts was lost",
            todo="the next resume removes it",
        )
    if found.trouble:
        audit.problem(
            where,
            f"is damaged behind line {found.lines} ({found.trouble})",
            means="what the study says of the trials from there on can't be relied on",
            remains=f"the first {found.lines} lines, the ledger, and every training's record and "
            "trace",
            todo=f"{patient.repair} keeps the whole file in damaged/, cuts it there, and takes "
            "what is missing from the ledger; resume finds the rest again from the records",
            cure=lambda: _cut(patient, found.size),
        )
    return not found.trouble


def _cut(patient: Patient, size: int) -> str:
    """What is left is compared with the ledger when it is looked at again."""
    run = patient.run
    # First the copy: on a full disk the file stays as it was.
    done = patient.copy_aside(run.journal)
    write_atomically(run.journal, run.journal.read_bytes()[:size])
    return f"{done}; cut to its first {size} bytes"


def _no_study(patient: Patient) -> bool:
    """Whether the study is gone, which is told; or else none was made yet."""
    run, config = patient.run, patient.config
    if not _made_any(patient):
        return False
    if config is not None and config.storage != JOURNAL:
        patient.audit.problem(
            patient.name(run.study),
            "is gone",
            **LOST_PLACE,
            todo=f"{patient.repair} looks for it in the database; or put a copy of the file in its "
            "place",
            cure=lambda: find_study(patient),
        )
        return True
    doubt = doubt_of(patient)
    usable = config is not None and patient.ledger is not None and doubt is None
    told = f"{patient.repair} makes it again from the ledger; resume finds the rest again from the "
    if doubt is not None:
        doubted(patient, doubt)
    if doubt is not None and not doubt.foreign:
        todo = "first mend trials.parquet or sweep.yaml"
    else:
        todo = f"{told}records" if usable else f"{patient.resume}: it finds trials by the records"
    patient.audit.problem(
        patient.name(run.journal),
        "is gone",
        means="there is no study",
        remains=f"{'the ledger, and ' if usable else ''}every training's record and trace",
        todo=todo,
        cure=(lambda: restored(patient)) if usable else None,
    )
    return True


def _made_any(patient: Patient) -> bool:
    """Whether there are trials: in the ledger, or trainings that weren't taken over."""
    if patient.ledger is not None and len(patient.ledger):
        return True
    ids = {path.stem for path in (patient.run.path / "traces").glob("*.json")}
    known = known_records(patient.run)
    return any(each not in known or known[each].trial != EARLIER for each in ids)


def _read(patient: Patient) -> None:
    run = patient.run
    try:
        patient.trials, patient.made_with = read_study(run)
    except RunDirectoryError as error:
        if run.study.exists():
            patient.audit.problem(
                patient.name(run.study),
                reason_of(error),
                **LOST_PLACE,
                todo=f"{patient.repair} looks for it in the database; or put an undamaged copy in "
                "its place",
                cure=lambda: find_study(patient),
            )
            return
        patient.audit.problem(
            patient.name(run.journal),
            reason_of(error),
            means="its lines are whole, and make no study: the trials can't be read",
            remains="the ledger, and every training's record and trace",
            todo=f"{patient.repair} puts it aside, and makes it again from the ledger; resume "
            "finds the rest again from the records",
            cure=lambda: patient.aside(run.journal),
        )
