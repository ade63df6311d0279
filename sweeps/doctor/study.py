"""The audit of the study, and of the ledger that derives from it."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd

from search_spaces import SpaceError
from search_spaces.errors import listing
from sweeps.config_selection import JOURNAL
from sweeps.doctor.patient import Patient
from sweeps.doctor.settings import reason_of, write_again
from sweeps.ledger import ledger_table, read_ledger, write_ledger
from sweeps.run_directory import DAMAGE, RunDirectoryError
from sweeps.selection import (
    changed_keys,
    examine_journal,
    read_study,
    restore_trials,
    studies_in_database,
)
from sweeps.selection.place import keep_place, place_of
from sweeps.selection.storage import repair_journal
from trace_core.durable import write_atomically

ENDED = ("COMPLETE", "PRUNED", "FAILED")


def examine_study(patient: Patient) -> None:
    """Look at them, and learn the trials. Raises ConnectionError for a database that can't be
    reached.
    """
    _ledger(patient)
    _journal(patient)
    _read(patient)
    if patient.trials is None:
        return
    audit = patient.audit
    audit.count("trials", len(patient.trials))
    ended = sum(trial.state in ENDED for trial in patient.trials)
    if patient.driven:
        audit.state = "running"
    elif patient.config is not None:
        audit.state = "complete" if ended >= patient.config.trials else "interrupted"
    _made_with(patient)
    if patient.trials is not None and not patient.driven:
        _compare(patient)


def _ledger(patient: Patient) -> None:
    run = patient.run
    try:
        patient.ledger = read_ledger(run)
        patient.audit.count("ledger")
    except FileNotFoundError:
        return
    except DAMAGE as error:
        patient.audit.problem(
            patient.name(run.ledger),
            f"is damaged ({short(error)})",
            means="the table of the trials can't be read",
            remains="all that it says, in the study",
            todo=f"{patient.repair} writes it again",
            cure=lambda: _write_ledger(patient, aside=True),
        )


def _journal(patient: Patient) -> None:
    """Whether the journal is whole; a study in a database is the database's to keep whole."""
    run, audit = patient.run, patient.audit
    where = patient.name(run.journal)
    if run.study.exists():
        return
    try:
        found = examine_journal(run.journal)
    except FileNotFoundError:
        _no_study(patient)
        return
    except OSError as error:
        audit.problem(where, f"can't be read: {error.strerror}")
        return
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


_LOST_PLACE = {
    "means": "which study of the database is this sweep's isn't known",
    "remains": "the ledger, every training's record and trace, and the study itself",
}


def _find_study(patient: Patient) -> str:
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
    return all(number in times and _same(times[number], moment) for number, moment in kept.items())


def _no_study(patient: Patient) -> None:
    run = patient.run
    in_database = patient.config is not None and patient.config.storage != JOURNAL
    made = patient.ledger is not None or any((run.path / "traces").glob("*.json"))
    if not made:
        return
    if in_database:
        patient.audit.problem(
            patient.name(run.study),
            "is gone",
            **_LOST_PLACE,
            todo=f"{patient.repair} looks for it in the database; or put a copy of the file in its "
            "place",
            cure=lambda: _find_study(patient),
        )
        return
    patient.audit.problem(
        patient.name(run.journal),
        "is gone",
        means="there is no study",
        remains="the ledger, and every training's record and trace",
        todo=f"{patient.repair} makes it again from the ledger; resume finds the rest again from "
        "the records",
        cure=None if patient.config is None else lambda: _restored(patient),
    )


def _cut(patient: Patient, size: int) -> str:
    run = patient.run
    # First the copy: on a full disk the file stays as it was.
    done = patient.copy_aside(run.journal)
    write_atomically(run.journal, run.journal.read_bytes()[:size])
    return "; ".join(
        filter(None, (done, f"cut to its first {size} bytes", _restored(patient) or _BY_RESUME))
    )


_BY_RESUME = "the ledger can't be used: what is missing is found again by resume"


def _restored(patient: Patient) -> str:
    if patient.config is None or patient.ledger is None:
        return ""
    repair_journal(patient.run.journal)
    try:
        count = restore_trials(patient.run, patient.config, patient.ledger)
    except (*DAMAGE, SpaceError):
        return ""
    return f"{count} trials taken from the ledger"


def _read(patient: Patient) -> None:
    run = patient.run
    try:
        patient.trials, patient.made_with = read_study(run)
    except RunDirectoryError as error:
        if any(each.where.startswith("study.") for each in patient.audit.problems):
            return
        if run.study.exists():
            patient.audit.problem(
                patient.name(run.study),
                reason_of(error),
                **_LOST_PLACE,
                todo=f"{patient.repair} looks for it in the database; or put an undamaged copy in "
                "its place",
                cure=lambda: _find_study(patient),
            )
            return
        patient.audit.problem(
            patient.name(run.journal),
            reason_of(error),
            means="the trials can't be read",
            remains="the ledger, and every training's record and trace",
            todo=f"{patient.repair} makes it again from the ledger",
            cure=None if patient.config is None else lambda: _anew(patient),
        )


def _anew(patient: Patient) -> str:
    """A journal whose lines are whole, and make no study."""
    return f"{patient.aside(patient.run.journal)}; {_restored(patient) or _BY_RESUME}"


def _made_with(patient: Patient) -> None:
    config = patient.config
    if config is None:
        return
    changed = changed_keys(patient.made_with, config)
    place = place_of(patient.run)
    if place is not None and place.storage != config.storage:
        changed.append("storage")
    if not changed:
        return
    now = config.resolved()
    if patient.kept is not None and all(patient.kept.get(key) == now[key] for key in changed):
        _another(patient, changed)
        return
    fits = patient.kept is not None and all(patient.kept.get(key) != now[key] for key in changed)
    patient.audit.problem(
        patient.name(patient.run.configuration),
        f"{', '.join(changed)} changed since the sweep began",
        means="these decide the trials: resume and report refuse it",
        remains=f"all results{', and the former sweep.yaml in environment.json' if fits else ''}",
        todo=f"put it back ({patient.repair} does), or begin another sweep"
        if fits
        else "put it back, or begin another sweep",
        cure=(lambda: write_again(patient)) if fits else None,
    )


def _another(patient: Patient, changed: list[str]) -> None:
    """The study was made with something else than what ``sweep.yaml`` and ``environment.json``
    agree on.
    """
    run = patient.run
    # Nothing of it is compared with what is here, or written.
    patient.trials = None
    in_database = run.study.exists()
    where = f"the {'database' if in_database else 'ledger'}"
    patient.audit.problem(
        patient.name(run.study if in_database else run.journal),
        f"is of another sweep: its {listing(changed)} differ from what sweep.yaml and "
        "environment.json say",
        means="it was put in the place of this sweep's",
        remains="the ledger, and every training's record and trace",
        todo=f"put this sweep's in its place, or {patient.repair}, which makes it again from "
        f"{where}; resume finds the rest again from the records",
        cure=(lambda: _find_study(patient)) if in_database else (lambda: _anew(patient)),
    )


def _compare(patient: Patient) -> None:
    """Whether the ledger is that of the study: it may be older, where a driver was killed."""
    run, audit, trials = patient.run, patient.audit, patient.trials
    assert trials is not None
    ended = sum(trial.state in ENDED for trial in trials)
    where = patient.name(run.ledger)
    again = f"{patient.repair} writes it again, and so do resume and report"
    if patient.ledger is None:
        if ended and not run.ledger.exists():
            tell = audit.problem if audit.state == "complete" else audit.note
            tell(
                where,
                "isn't there",
                means="there is no table of the trials",
                remains="all that it says, in the study",
                todo=again,
                cure=lambda: _write_ledger(patient),
            )
        return
    if patient.config is None:
        return
    now = ledger_table(trials, patient.config.objective_names())
    lost, other, older = _differing(patient.ledger, now)
    if lost:
        audit.problem(
            "study.json" if run.study.exists() else patient.name(run.journal),
            f"lacks what the ledger says of {_numbers(lost)}",
            means="the end of the study is lost",
            remains="these trials in the ledger, and every training's record and trace",
            todo="resume finds them again from the records"
            if run.study.exists()
            else f"{patient.repair} takes them from the ledger",
            cure=None if run.study.exists() else lambda: _restored(patient),
        )
    if other:
        audit.problem(
            where,
            f"says something else than the study of {_numbers(other)}",
            means="it was changed, or damaged",
            remains="all that it says, in the study",
            todo=again,
            cure=lambda: _write_ledger(patient, aside=True),
        )
    if older and not other:
        audit.note(
            where,
            f"is older than the study: it lacks what became of {_numbers(older)}",
            means="its writer was killed",
            todo=again,
            cure=lambda: _write_ledger(patient),
        )


def _differing(kept: pd.DataFrame, now: pd.DataFrame) -> tuple[list[int], list[int], list[int]]:
    """Trials of which the study has lost how they ended, of which the ledger says something else,
    and of which it doesn't know yet how they ended.
    """
    lost, other, older = [], [], []
    columns = [name for name in now.columns if name in kept.columns]
    mine, theirs = _rows(kept[columns]), _rows(now[columns])
    for number in sorted({*mine, *theirs}):
        ours, study = mine.get(number), theirs.get(number)
        if study is None or (ours and ours["state"] in ENDED and study["state"] not in ENDED):
            lost.append(number)
        elif ours is None or (ours["state"] not in ENDED and study["state"] in ENDED):
            older.append(number)
        elif ours["state"] in ENDED and not all(_same(ours[each], study[each]) for each in columns):
            other.append(number)
    if set(kept.columns) - set(now.columns):
        other = other or sorted(mine)
    return lost, other, older


def _rows(table: pd.DataFrame) -> dict[int, dict[str, Any]]:
    rows = cast(dict[Any, dict[Any, Any]], table.to_dict("index"))
    return {int(number): row for number, row in rows.items()}


def _same(one: Any, other: Any) -> bool:
    return one is other or bool(one == other) or bool(pd.isna(one) and pd.isna(other))


def _write_ledger(patient: Patient, *, aside: bool = False) -> str:
    if patient.trials is None or patient.config is None:
        return ""
    done = f"{patient.aside(patient.run.ledger)}; " if aside else ""
    table = ledger_table(patient.trials, patient.config.objective_names())
    write_ledger(patient.run, table)
    return f"{done}written again from the study"


def _numbers(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return f"trial{'s' if len(numbers) > 1 else ''} {shown}{more}"


def short(error: BaseException) -> str:
    """An error in a line that isn't long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
