"""The audit of the ledger, which derives from the study; and how the study gets from it what it
lost.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from search_spaces import SpaceError
from sweeps.doctor.findings import short
from sweeps.doctor.patient import ENDED, Patient
from sweeps.doctor.trust import Doubt, doubt_of, ledger_rows
from sweeps.ledger import ledger_table, read_ledger, write_ledger
from sweeps.run_directory import DAMAGE
from sweeps.selection import restore_trials
from sweeps.selection.storage import repair_journal


def learn_ledger(patient: Patient) -> None:
    """Look at it by itself."""
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


def compare_ledger(patient: Patient) -> None:
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
    # One that says something else of what the study knows tells nothing of what it doesn't.
    if lost and not other:
        _lost(patient, lost)
    elif other:
        audit.problem(
            where,
            f"says something else than the study of {_numbers(other)}",
            means="it was changed, or damaged, or is another sweep's",
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
            cure=None if patient.partial else lambda: _write_ledger(patient),
        )


def _lost(patient: Patient, lost: list[int]) -> None:
    run, doubt = patient.run, doubt_of(patient)
    if doubt is not None:
        doubted(patient, doubt)
        return
    patient.partial = True
    in_database = run.study.exists()
    patient.audit.problem(
        patient.name(run.study if in_database else run.journal),
        f"lacks what the ledger says of {_numbers(lost)}",
        means="the end of the study is lost",
        remains="these trials in the ledger, and every training's record and trace",
        todo="resume finds them again from the records"
        if in_database
        else f"{patient.repair} takes them from the ledger; resume finds the rest from the records",
        cure=None if in_database else lambda: restored(patient),
    )


def doubted(patient: Patient, doubt: Doubt) -> None:
    """Tell of a ledger from which no trial is taken."""
    where = patient.name(patient.run.ledger)
    if doubt.foreign:
        patient.audit.problem(
            where,
            doubt.what,
            means="no trial is taken from it",
            remains="every training's record and trace",
            todo=f"put this sweep's in its place; or {patient.repair}, which puts it aside: it is "
            "written again from the study",
            cure=lambda: patient.aside(patient.run.ledger),
        )
        return
    patient.audit.problem(
        where,
        doubt.what,
        means="one of the two was changed, or is another sweep's; no trial is taken from it",
        remains="every training's record and trace",
        todo="put back the sweep.yaml with which the sweep was begun, or this sweep's ledger",
    )


def restored(patient: Patient) -> str:
    """Take from the ledger the trials that the journal lacks; says how many."""
    if patient.config is None or patient.ledger is None:
        return ""
    if doubt_of(patient) is not None:
        return ""
    repair_journal(patient.run.journal)
    try:
        count = restore_trials(patient.run, patient.config, patient.ledger)
    except (*DAMAGE, SpaceError):
        return ""
    return f"{count} trials taken from the ledger" if count else ""


def _differing(kept: pd.DataFrame, now: pd.DataFrame) -> tuple[list[int], list[int], list[int]]:
    """Trials of which the study has lost how they ended, of which the ledger says something else,
    and of which it doesn't know yet how they ended.
    """
    lost, other, older = [], [], []
    columns = [name for name in now.columns if name in kept.columns]
    mine, theirs = ledger_rows(kept[columns]), ledger_rows(now[columns])
    for number in sorted({*mine, *theirs}):
        ours, study = mine.get(number), theirs.get(number)
        if study is None or (ours and ours["state"] in ENDED and study["state"] not in ENDED):
            lost.append(number)
        elif ours is None or (ours["state"] not in ENDED and study["state"] in ENDED):
            older.append(number)
        elif ours["state"] in ENDED and not all(same(ours[each], study[each]) for each in columns):
            other.append(number)
    # The table of no trials has hardly a column.
    if len(now) and set(kept.columns) - set(now.columns):
        other = other or sorted(mine)
    return lost, other, older


def same(one: Any, other: Any) -> bool:
    """Whether two cells are equal, or both empty."""
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
