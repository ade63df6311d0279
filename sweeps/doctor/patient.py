"""The run directory that is audited: what is known of it, and how something is put aside."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sweeps.config import SweepConfig
from sweeps.doctor.findings import Audit
from sweeps.records import TrainingRecord
from sweeps.run_directory import RunDirectory, doctor_command, resume_command
from sweeps.selection import StudyTrial
from trace_core.durable import make_folder, write_atomically

ASIDE = "damaged"
"""The folder of a run directory into which a repair puts what is damaged."""

ENDED = ("COMPLETE", "PRUNED", "FAILED")
"""The states of a trial that has ended."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is read, how much of it was, and how much there is."""


@dataclass
class Patient:
    """A run directory under audit; what an earlier part of the audit learnt is for the later ones.

    ``config`` is None where none can be had, ``trials`` where the study can't be read, ``ledger``
    where there is none or it is damaged. ``kept`` is the configuration in ``environment.json``,
    and ``former`` the same, if the sweep's is another by now. ``vouched``: ``sweep.yaml`` could be
    read, and ``environment.json`` has a seal. ``partial``: the study has lost trials, so that what
    derives from it says more than it does. ``driven``: a process drives the sweep.
    """

    run: RunDirectory
    driven: bool
    audit: Audit = field(default_factory=Audit)
    on_progress: OnProgress = lambda what, done, of: None
    config: SweepConfig | None = None
    former: SweepConfig | None = None
    kept: Mapping[str, Any] | None = None
    vouched: bool = False
    trials: list[StudyTrial] | None = None
    made_with: Mapping[str, Any] = field(default_factory=dict)
    partial: bool = False
    ledger: pd.DataFrame | None = None
    records: dict[str, TrainingRecord] = field(default_factory=dict)
    unsound: set[str] = field(default_factory=set)
    """Ids of the trainings whose record or trace is damaged or gone."""

    @property
    def resume(self) -> str:
        """What to type to go on with the sweep."""
        return resume_command(self.run.path)

    @property
    def repair(self) -> str:
        """What to type to have repaired what can be."""
        return f"{doctor_command(self.run.path)} --repair"

    def name(self, path: Path) -> str:
        """A path in the run directory, as findings name it."""
        return path.relative_to(self.run.path).as_posix()

    def aside(self, *paths: Path) -> str:
        """Put files aside, under names that nothing there has; says so."""
        moved = []
        for path in paths:
            if not os.path.lexists(path):
                continue
            target = self._place_aside(path)
            os.rename(path, target)
            moved.append(self.name(target))
        return f"moved to {' and '.join(moved)}" if moved else "was gone already"

    def copy_aside(self, path: Path) -> str:
        """Keep a copy of a file aside; says so."""
        target = self._place_aside(path)
        write_atomically(target, path.read_bytes())
        return f"kept as {self.name(target)}"

    def _place_aside(self, path: Path) -> Path:
        target = self.run.path / ASIDE / self.name(path)
        make_folder(target.parent)
        count = 1
        while os.path.lexists(target):
            target = target.with_name(f"{path.name}.{count}")
            count += 1
        return target
