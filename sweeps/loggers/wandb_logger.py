"""Weights & Biases: a run for each trial, with its parameters, values and curves, in the project of
the sweep's name and a group of the sweep.

Account, mode and project are W&B's affair: ``wandb login``, WANDB_API_KEY, WANDB_MODE,
WANDB_PROJECT and so on. What it keeps on this machine lies in ``RUN_DIR/wandb``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import wandb

from sweeps.config import SweepConfig
from sweeps.loggers.logged_trial import LoggedTrial, Logger
from sweeps.run_directory import RunDirectory


class WandbLogger:
    """Writes runs whose ids follow from the sweep's and the trial's number."""

    def __init__(self, folder: Path, project: str, sweep: str) -> None:
        self._folder = folder
        self._project = project
        self._sweep = sweep

    def log(self, trial: LoggedTrial) -> None:
        """Write the trial's run, and end it."""
        run = wandb.init(
            project=self._project,
            group=f"{self._project}-{self._sweep}",
            id=self._id(trial.number),
            name=trial.name,
            config={**trial.parameters, **trial.facts()},
            dir=str(self._folder),
            # A run that a notebook has open stays its own.
            reinit="create_new",
            resume="allow",
            settings=_settings(),
        )
        try:
            for step, values in trial.by_step().items():
                run.log(values, step=step)
            run.summary.update(trial.values)
        finally:
            run.finish(exit_code=int(trial.state != "COMPLETE"))

    def discard(self, number: int) -> None:
        """Remove the trial's files here; an online run of the same id is written over."""
        for left in (self._folder / "wandb").glob(f"*run-*-{self._id(number)}"):
            shutil.rmtree(left, ignore_errors=True)

    def close(self) -> None:
        """Every run has ended already."""

    def _id(self, number: int) -> str:
        return f"{self._sweep}-{number}"


def open_logger(run: RunDirectory, config: SweepConfig, sweep: str) -> Logger:
    """The logger of a sweep; raises RuntimeError where W&B would ask for an account."""
    if wandb.setup().settings.mode in ("online", "shared") and not wandb.login(prompt=False):
        raise RuntimeError("no account; use: wandb login, or WANDB_MODE=offline")
    return WandbLogger(run.path, os.environ.get("WANDB_PROJECT") or config.name, sweep)


def _settings() -> wandb.Settings:
    """Quiet, and without a look at the machine, its code or its output."""
    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_save_requirements=False,
    )
