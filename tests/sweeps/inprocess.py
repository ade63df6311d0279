"""A sweep without Ray: the real study, the real trainings, worked off in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeps.candidate import Training
from sweeps.conductor import Conductor, Progress, Work
from sweeps.config import SweepConfig
from sweeps.group import Group
from sweeps.kept_scores import KeptScores
from sweeps.ledger import ledger_table
from sweeps.objectives import Objectives
from sweeps.run_directory import RunDirectory
from sweeps.selection import Study, read_trials
from sweeps.sweep import create
from sweeps.worker import Worker


def small(**changes: Any) -> dict[str, Any]:
    """A sweep of wine MLPs whose trainings take some hundredths of a second."""
    return {
        "name": "small",
        "task": "wine",
        "budget": {"epochs": 6, "batch_size": 32},
        "replicates": 2,
        "trials": 6,
        "space": {
            "architecture": {"mlp": {"hidden": [4, 8], "depth": 1}},
            "init": ["default", "orthogonal"],
            "alpha": {"float": [0.0, 1.0]},
            "learning_rate": 0.3,
        },
        "sampler": {"name": "random", "seed": 0},
    } | changes


def prepared(path: Path, **changes: Any) -> tuple[RunDirectory, SweepConfig]:
    config = SweepConfig.from_dict(small(**changes))
    return create(config, path, []), config


def conductor(run: RunDirectory, config: SweepConfig, workers: int = 1) -> Conductor:
    return Conductor(
        study=Study(run, config),
        run=run,
        config=config,
        workers=workers,
        trials=config.trials,
        objectives=Objectives(KeptScores(run, config.ranking), config, []),
        progress=Progress(config.trials),
    )


def make(run: RunDirectory, training: Training, trial: int = 0, runner: str = "a") -> None:
    """Train to the end, and store what became of it."""
    Worker(run.path, training.to_json(), training.training_id, trial, runner).advance(1e9)


def make_all(run: RunDirectory, work: Work, runner: str = "a") -> None:
    """Train what a worker is given to the end, and store what became of it."""
    texts = [training.to_json() for training in work.trainings]
    assert Group(run.path, texts, work.ids, work.trial, runner).advance(1e9)


def work_off(run: RunDirectory, config: SweepConfig, at_most: int = 10**6) -> Conductor:
    """Take over and train, up to ``at_most`` trainings."""
    conducting = conductor(run, config)
    conducting.adopt()
    for count in range(at_most):
        work = conducting.next(f"runner{count}")
        if work is None:
            break
        make_all(run, work, f"runner{count}")
        conducting.ended(f"runner{count}")
    conducting.study.flush()
    return conducting


def ledger(run: RunDirectory, config: SweepConfig) -> Any:
    return ledger_table(read_trials(run), config.objective_names())
