"""Whether ``sweep.yaml`` is what the study was made with. A study whose lines hold is evidence
above it; above the study is only ``environment.json`` under its seal where ``sweep.yaml`` agrees,
unless the records bear the study out.
"""

from __future__ import annotations

from search_spaces.errors import listing
from sweeps.config import SweepConfig
from sweeps.doctor.patient import Patient
from sweeps.doctor.settings import differences, loaded, write_again
from sweeps.doctor.study_place import find_study
from sweeps.doctor.trust import borne_out
from sweeps.selection import changed_keys
from sweeps.selection.place import place_of


def compare_configuration(patient: Patient) -> bool:
    """Compare them; gives whether the study is this sweep's. Where they differ otherwise the
    configuration is the former one from then on, or unknown: nothing is compared with another
    sweep's, or written from it.
    """
    config = patient.config
    changed = [] if config is None else _changed(patient, config)
    if config is None or not changed:
        return True
    now = config.resolved()
    kept = patient.kept or {}
    vouched = patient.vouched and all(key in now and kept.get(key) == now[key] for key in changed)
    if vouched and not borne_out(patient):
        _another(patient, changed)
        return False
    _changed_since(patient, config, changed)
    return True


def _changed_since(patient: Patient, config: SweepConfig, changed: list[str]) -> None:
    now, kept = config.resolved(), patient.kept
    former = loaded(patient, kept)[0] if kept else None
    fits = former is not None and not _changed(patient, former)
    patient.config = former if fits else None
    values = [
        told
        for key in changed
        if key in patient.made_with
        for told in differences({key: patient.made_with[key]}, now)
    ]
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    told = f": {'; '.join(values[:5])}{more}" if values else ""
    # Where it couldn't be read the configuration is that of environment.json.
    run = patient.run
    unread = now == kept and not patient.vouched
    where = run.environment if unread else run.configuration
    patient.audit.problem(
        patient.name(where),
        f"{', '.join(changed)} changed since the sweep began",
        means=f"these decide the trials: no command goes on with others{told}",
        remains=f"all results{', and the former sweep.yaml in environment.json' if fits else ''}",
        todo=f"put it back ({patient.repair} does), or begin another sweep"
        if fits
        else "put back what it was, or this sweep's study, if it is that which is another's; or "
        "begin another sweep",
        cure=(lambda: write_again(patient)) if fits else None,
    )


def _changed(patient: Patient, config: SweepConfig) -> list[str]:
    changed = changed_keys(patient.made_with, config)
    place = place_of(patient.run)
    if place is not None and place.storage != config.storage:
        changed.append("storage")
    return changed


def _another(patient: Patient, changed: list[str]) -> None:
    """The study was made with something else than what ``sweep.yaml`` and ``environment.json``
    agree on.
    """
    run = patient.run
    # Nothing of it is compared with what is here, or written.
    patient.trials = None
    in_database = run.study.exists()
    where = "looks for it in the database" if in_database else "makes it again from the ledger"
    patient.audit.problem(
        patient.name(run.study if in_database else run.journal),
        f"is of another sweep: its {listing(changed)} differ from what sweep.yaml and "
        "environment.json say",
        means="it was put in the place of this sweep's",
        remains="the ledger, and every training's record and trace",
        todo=f"put this sweep's in its place, or {patient.repair}, which puts it aside and "
        f"{where}; resume finds the rest again from the records",
        cure=(lambda: find_study(patient)) if in_database else (lambda: patient.aside(run.journal)),
    )
