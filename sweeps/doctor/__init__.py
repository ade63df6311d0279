"""Whether a run directory is what the sweep wrote; and if not, what can still be had, and how.

An audit reads everything and changes nothing. What a repair replaces it puts into the run
directory's folder ``damaged``; it never deletes.
"""

from __future__ import annotations

from pathlib import Path

from sweeps.doctor.derived import examine_derived
from sweeps.doctor.findings import Audit, Finding, Repair, short
from sweeps.doctor.others import examine_others
from sweeps.doctor.patient import ASIDE, OnProgress, Patient
from sweeps.doctor.settings import examine_settings
from sweeps.doctor.shapes import examine_shapes, lock_is_misshapen, require_place_aside
from sweeps.doctor.study import examine_study
from sweeps.doctor.trainings import examine_trainings
from sweeps.run_directory import DAMAGE, RunDirectory, RunDirectoryError

__all__ = ["ASIDE", "Audit", "Finding", "Repair", "examine", "find", "repair"]

_PARTS = {
    "sweep.yaml": examine_settings,
    "study.journal": examine_study,
    "traces": examine_trainings,
    "report": examine_derived,
    ".": examine_others,
}
"""What is looked at, in the order of what depends on what."""

ROUNDS = 5
"""Most times that is looked for what a repair brought to light."""


def find(path: Path | str) -> RunDirectory:
    """The run directory at ``path``, though it may have lost its configuration.

    Raises FileNotFoundError if there is nothing at ``path`` and RunDirectoryError if it is
    something else, or holds links, pipes or devices.
    """
    run = RunDirectory(path)
    if not run.path.exists():
        raise FileNotFoundError(f"{run.path}: no such run directory")
    if not run.is_one:
        raise RunDirectoryError(
            f"{run.path}: not a run directory (it has none of a sweep's files); "
            "give the directory that 'tracerank run' wrote"
        )
    run.require_plain()
    return run


def examine(
    run: RunDirectory, on_progress: OnProgress = lambda what, done, of: None, *, ours: bool = False
) -> Audit:
    """Audit a run directory; of one that a process drives what is stable, unless it is ``ours``.

    Raises ConnectionError where its database can't be reached.
    """
    driven = not ours and not lock_is_misshapen(run) and run.driven
    patient = Patient(run, driven=driven, on_progress=on_progress)
    if patient.driven:
        patient.audit.note(
            ".",
            "a process drives this sweep now",
            means="only what doesn't change meanwhile is looked at",
            todo="look again when it has ended",
        )
    parts = _PARTS if examine_shapes(patient) else {}
    for what, look in parts.items():
        try:
            look(patient)
        except ConnectionError:
            raise
        except DAMAGE as error:
            # A file that parses may still hold anything, in one that comes from others above all.
            patient.audit.problem(
                what,
                f"can't be looked at: there is something that no sweep writes ({short(error)})",
                means="it was made by hand, or damaged so that it can't be told from that",
                todo="put an undamaged copy of the run directory in its place",
            )
    return patient.audit


def repair(
    run: RunDirectory, on_progress: OnProgress = lambda what, done, of: None
) -> tuple[Audit, list[Repair], Audit]:
    """Audit a run directory, repair what can be, and audit it again: what was found, what was done,
    and what is left.

    Raises RunDirectoryError if a process drives it or there is nowhere to put what is replaced, and
    ConnectionError where its database can't be reached.
    """
    require_place_aside(run)
    done: list[Repair] = []
    if lock_is_misshapen(run):
        # Nobody can hold it, and without it nobody may repair.
        aside = Patient(run, driven=False).aside(run.path / "driver.lock")
        done.append(Repair("driver.lock", aside))
    with run.driving():
        before = after = examine(run, on_progress, ours=True)
        for _ in range(ROUNDS):
            tried = [finding for finding in after.findings if finding.cure is not None]
            made = []
            for finding in tried:
                assert finding.cure is not None
                words = finding.cure()
                if words:
                    made.append(Repair(finding.where, words))
            if not made:
                break
            done += made
            after = examine(run, on_progress, ours=True)
    return before, done, after
