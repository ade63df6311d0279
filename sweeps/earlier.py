"""What a sweep takes over from earlier ones: their trainings that could be its own, and the points
of their trials, which become its first.

All of it is copied or linked when the run directory is made, which doesn't need the earlier ones
afterwards.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from search_spaces import Dimension, SpaceError, member, task_name
from sweeps import records
from sweeps.candidate import Candidate, Training
from sweeps.config import SweepConfig
from sweeps.config_messages import ConfigError
from sweeps.records import EARLIER, TrainingRecord
from sweeps.run_directory import RunDirectory, RunDirectoryError
from sweeps.sealed import write_sealed
from sweeps.selection import StudyTrial, read_trials
from trace_core.durable import make_folder


@dataclass
class Earlier:
    """``points`` by the space's names, in the order of the earlier trials, none twice, and each
    training's record with the trace beside it, by the training's id.
    """

    points: list[dict[str, Any]] = field(default_factory=list)
    trainings: dict[str, tuple[TrainingRecord, Path]] = field(default_factory=dict)

    def store(self, run: RunDirectory) -> None:
        """Put it into a new run directory."""
        if self.trainings:
            make_folder(run.trace("any").parent)
        for training_id, (record, trace) in self.trainings.items():
            try:
                os.link(trace, run.trace(training_id))
            except OSError:
                # Another file system, or one without links.
                shutil.copyfile(trace, run.trace(training_id))
            records.save(run, replace(record, trial=EARLIER))
        write_sealed(run.earlier, {"points": self.points})


def gather(config: SweepConfig) -> Earlier:
    """What the run directories that ``warm_start`` names have for this sweep.

    Raises RunDirectoryError for one that is none, or has nothing that fits, and ConfigError if
    nothing is left to try.
    """
    found = Earlier()
    for path in config.warm_start:
        _add(found, config, Path(path))
    if config.sampler.name == "grid":
        found.points = []
    if len(found.points) >= config.trials:
        count = len(found.points)
        raise ConfigError(
            "configuration",
            [
                f"trials: got {config.trials}; must be more than {count}: "
                f"warm_start brings {count} trials, which count"
            ],
        )
    return found


def _add(found: Earlier, config: SweepConfig, path: Path) -> None:
    try:
        run = RunDirectory.existing(path)
    except FileNotFoundError as error:
        raise RunDirectoryError(f"warm_start: {error}") from None
    complete = [trial for trial in read_trials(run) if trial.state == "COMPLETE"]
    if not complete:
        raise RunDirectoryError(f"warm_start: {path}: has no COMPLETE trial to take over")
    reasons = []
    for trial in complete:
        try:
            _add_trial(found, config, run, trial)
        except SpaceError as error:
            reasons.append(str(error))
    if len(reasons) == len(complete):
        raise RunDirectoryError(
            f"warm_start: {path}: none of its {len(complete)} COMPLETE trials fits this sweep; "
            f"of the first, {reasons[0]}"
        )


def _add_trial(found: Earlier, config: SweepConfig, run: RunDirectory, trial: StudyTrial) -> None:
    """Add the trial's point and trainings. Raises SpaceError saying why its model isn't one of this
    sweep.
    """
    theirs = Candidate.from_dict(trial.details["candidate"])
    alphas = config.space.dimensions["alpha"]
    alpha = alphas.at(0) if alphas.size() == 1 else trial.details["alpha"]
    model = _model(config, theirs)
    ours, _ = Candidate.from_parameters(config, model | {"alpha": alphas.quantile(0.0)})
    if ours.model_id != trial.details["model"]:
        raise SpaceError(_difference(theirs, ours))
    point = model | {"alpha": alpha}
    if alphas.contains(alpha) and point not in found.points:
        found.points.append(point)
    for seed in range(config.replicates):
        training_id = Training(ours, seed).training_id
        record, trace = records.load(run, training_id), run.trace(training_id)
        if record is not None and record.state == "COMPLETE" and trace.exists():
            found.trainings[training_id] = (record, trace)


def _model(config: SweepConfig, theirs: Candidate) -> dict[str, Any]:
    """The parameters, but for α, that make the candidate in this sweep's space."""
    # Of those on files, ids tell whether the content is the same, wherever they lie.
    if theirs.task != config.task and isinstance(config.task, str):
        told = f"the task is {task_name(theirs.task)}, and this sweep's {config.task_name}"
        raise SpaceError(told)

    def given(name: str, dimension: Dimension) -> Any:
        setting = name.rpartition(".")[2]
        values = {**theirs.to_dict(), **theirs.settings} if "." in name else theirs.to_dict()
        if name == "alpha":
            return None
        if setting not in values:
            raise SpaceError(f"{name} is missing")
        try:
            return member(dimension, values[setting])
        except SpaceError as error:
            raise SpaceError(f"{name}: {error}") from None

    return config.space.draw(given)


def _difference(theirs: Candidate, ours: Candidate) -> str:
    for one in fields(Candidate):
        if getattr(theirs, one.name) != getattr(ours, one.name):
            return (
                f"{one.name} is {getattr(theirs, one.name)}, and this sweep's "
                f"{getattr(ours, one.name)}"
            )
    return (
        "the code of its model or task, its data or checkpoint, or the version of the statistics, "
        "is another"
    )
