"""What else watches a training, each made to watch one: the step that a user of it takes.

The packages are no part of the project's lock; ``make bench-peers`` installs them into a folder
that is only looked at here.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Step
from benchmarks.trainings import Training

FOLDER = Path(__file__).with_name(".peers")
PACKAGES = ("cockpit-for-pytorch", "backpack-for-pytorch", "wandb")


class UnavailableError(Exception):
    """A package that can't be used here; the message is for the cell of a table."""


def _load(name: str) -> Any:
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UnavailableError("not installed") from error


def versions() -> str:
    """Which of the packages are compared to."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except ModuleNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


@contextmanager
def article(training: Training) -> Iterator[Step]:
    """The article's code after each step: per-tensor L1 ratios and 1/N."""
    parameters = list(training.model.parameters())
    size = sum(parameter.numel() for parameter in parameters)

    def step() -> float:
        before = [parameter.detach().clone() for parameter in parameters]
        training.step()
        after = [parameter.detach().clone() for parameter in parameters]
        rates = [
            float((new - old).abs().sum() / old.abs().sum())
            for old, new in zip(before, after, strict=True)
        ]
        return 0.5 * sum(rates) / len(rates) + 0.5 / size

    yield step


@contextmanager
def cockpit_update_size(training: Training) -> Iterator[Step]:
    """Cockpit's ``UpdateSize`` alone: one norm of δ per tensor, at every step."""
    cockpit = _load("cockpit")
    quantity = _load("cockpit.quantities").UpdateSize(_load("cockpit.utils.schedules").linear(1))
    watch = cockpit.Cockpit(training.model.parameters(), quantities=[quantity])

    def step() -> None:
        taken = training.taken
        inputs, targets = training.batch()
        training.optimizer.zero_grad()
        loss = training.loss(training.model(inputs), targets)
        with watch(taken, info={"loss": loss, "optimizer": training.optimizer}):
            loss.backward()
        training.optimizer.step()

    yield _works(step)


@contextmanager
def cockpit_economy(training: Training) -> Iterator[Step]:
    """Cockpit's configuration "economy", the least costly of its three, at every step."""
    cockpit = _load("cockpit")
    extend = _load("backpack").extend
    quantities = _load("cockpit.utils.configuration").configuration("economy")
    watch = cockpit.Cockpit(training.model.parameters(), quantities=quantities)
    model, loss_of = extend(training.model), extend(training.loss)
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    each_loss = type(training.loss)(reduction="none")

    def step() -> None:
        taken = training.taken
        inputs, targets = training.batch()
        training.optimizer.zero_grad()
        outputs = model(inputs)
        loss = loss_of(outputs, targets)
        info = {
            "batch_size": len(inputs),
            "individual_losses": each_loss(outputs, targets).reshape(len(inputs), -1).mean(1),
            "loss": loss,
            "optimizer": training.optimizer,
        }
        with watch(taken, info=info):
            loss.backward(create_graph=watch.create_graph(taken))
        training.optimizer.step()

    yield _works(step)


@contextmanager
def wandb_watch(training: Training) -> Iterator[Step]:
    """``wandb.watch``: histograms of all parameters and gradients at every step, kept offline."""
    wandb = _load("wandb")
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "WANDB_MODE": "offline",
            "WANDB_SILENT": "true",
            "WANDB_ERROR_REPORTING": "false",
        }
        # Neither the machine's load nor what is printed is part of what is measured.
        quiet = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True)
        generator = torch.get_rng_state()
        run = wandb.init(dir=folder, settings=quiet)
        torch.set_rng_state(generator)
        run.watch(training.model, log="all", log_freq=1)
        try:
            yield _works(lambda: run.log({"loss": training.step().item()}))
        finally:
            run.unwatch(training.model)
            run.finish()


def _works(step: Step) -> Step:
    """Take a first step, since not every package can watch every model."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step()
    except Exception as error:
        # What comes first is the cause; a package's cleaning up may fail in turn.
        cause: BaseException = error
        while cause.__context__ is not None:
            cause = cause.__context__
        raise UnavailableError(f"fails: {cause}") from error
    return step
