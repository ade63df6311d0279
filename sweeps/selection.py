"""The study: which configuration is tried next, and the one ledger of what was. All that imports
Optuna.

The sampler is made anew for every ask, seeded from (the sweep's seed, the trial's number), so an
interrupted sweep asks what an undisturbed one would have asked. The first trials are fixed in
architecture and initialisation so that each of them is tried once; which trial is fixed to what
follows from its number alone, hence nothing is enqueued and nothing can be enqueued twice.

A trial left RUNNING by a driver that died is adopted under its own number: what it had drawn is in
the journal, what it had not is drawn now.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search_spaces import Choice, Dimension, IntRange, Space
from sweeps.config import SweepConfig
from sweeps.run_directory import RunDirectory, RunDirectoryError

STUDY = "tracerank"
DETAILS = "tracerank"
CONFIGURATION = "configuration"

State = Literal["COMPLETE", "PRUNED", "FAILED", "INTERRUPTED"]

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "COMPLETE",
    TrialState.PRUNED: "PRUNED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "INTERRUPTED",
    TrialState.WAITING: "INTERRUPTED",
}


@dataclass(frozen=True)
class StudyTrial:
    """One trial as the study has it; ``values`` follow the configuration's objectives.

    ``details`` is what the sweep noted when it told the trial: model id, training ids, Ray ids of
    the trainings made for it, whether it was replayed, seconds, reason.
    """

    number: int
    state: State
    parameters: dict[str, Any]
    values: list[float] | None
    started: datetime | None
    ended: datetime | None
    details: dict[str, Any] = field(default_factory=dict)


def _suggest(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(name, dimension.values)
    if isinstance(dimension, IntRange):
        return trial.suggest_int(
            name, dimension.low, dimension.high, step=dimension.step, log=dimension.log
        )
    return trial.suggest_float(
        name, dimension.low, dimension.high, step=dimension.step, log=dimension.log
    )


def coverage(space: Space) -> list[dict[str, Any]]:
    """What the first trials are fixed to: every architecture and every initialisation once or more.

    As many entries as the longer of the two has, pairing them in order and starting the shorter
    anew.
    """
    architectures = list(space.architectures)
    init = space.dimensions["init"]
    inits = list(init.values) if isinstance(init, Choice) else []
    count = max(len(architectures), len(inits))
    return [
        {"architecture": architectures[i % len(architectures)]}
        | ({"init": inits[i % len(inits)]} if inits else {})
        for i in range(count)
    ]


def repair_journal(path: Path) -> None:
    """Mend what a killed writer left: a torn last line, and the lock it held. Call it as the one
    driver.

    Optuna would wait 30 s for the dead lock, and raise at the first ask behind a torn line.
    """
    for lock in path.parent.glob(f"{path.name}.lock*"):
        lock.unlink(missing_ok=True)
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        with path.open("r+b") as file:
            file.truncate(whole)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@contextlib.contextmanager
def _journal_of(run: RunDirectory) -> Iterator[JournalStorage]:
    """The journal, opened; RunDirectoryError if it is damaged."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with _quiet():
            yield JournalStorage(JournalFileBackend(str(run.journal)))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise RunDirectoryError(
            f"{run.journal}: not the journal of an Optuna study, or damaged ({error}); "
            "put an undamaged copy in its place"
        ) from None


def _require_same(study: optuna.Study, config: SweepConfig, run: RunDirectory) -> None:
    """Whether ``sweep.yaml`` is what the study was made with, as far as that decides its trials.

    Raises RunDirectoryError naming the keys that were changed.
    """
    made_with: dict[str, Any] = study.user_attrs.get(CONFIGURATION, {})
    now = _decisive(config)
    changed = [key for key, value in made_with.items() if now[key] != value]
    if changed:
        raise RunDirectoryError(
            f"{run.configuration}: {', '.join(changed)} changed since the sweep began; "
            "put it back, or begin another sweep"
        )


def _decisive(config: SweepConfig) -> dict[str, Any]:
    return {
        key: value
        for key, value in config.resolved().items()
        if key not in ("name", "trials", "workers", "ranking")
    }


class Study:
    """The sweep's study, opened by its one driver."""

    def __init__(self, run: RunDirectory, config: SweepConfig) -> None:
        self._config = config
        self._coverage = coverage(config.space)
        with _journal_of(run) as storage:
            repair_journal(run.journal)
            self._study = optuna.create_study(
                storage=storage,
                study_name=STUDY,
                directions=config.directions(),
                load_if_exists=True,
            )
            if CONFIGURATION not in self._study.user_attrs:
                self._study.set_user_attr(CONFIGURATION, _decisive(config))
        _require_same(self._study, config, run)
        self._asked: dict[int, optuna.Trial] = {}
        self._count = len(self._study.get_trials(deepcopy=False))

    def __len__(self) -> int:
        """Trials asked so far, whatever became of them."""
        return self._count

    def adopt(self) -> list[tuple[int, dict[str, Any]]]:
        """Take over the trials that a dead driver left running: their numbers and parameters."""
        left = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [(trial.number, self._draw(trial.number, trial._trial_id)) for trial in left]

    def ask(self) -> tuple[int, dict[str, Any]]:
        """A new trial: its number, and its parameters by the space's names."""
        number = self._count
        self._study.sampler = self._sampler(number)
        trial = self._study.ask()
        self._count += 1
        return trial.number, self._suggest(trial)

    def tell(
        self,
        number: int,
        values: Sequence[float] | None,
        details: Mapping[str, Any],
        constraint: float | None = None,
    ) -> None:
        """End a trial: COMPLETE with ``values``, FAILED without. A constraint ≤ 0 is met."""
        trial = self._asked.pop(number)
        trial.set_user_attr(DETAILS, dict(details))
        if constraint is not None:
            trial.set_constraint("floor", constraint)
        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, list(values))

    def trials(self) -> list[StudyTrial]:
        """Every trial in the order of its number."""
        return [_study_trial(trial) for trial in self._study.get_trials(deepcopy=False)]

    def _draw(self, number: int, trial_id: int) -> dict[str, Any]:
        self._study.sampler = self._sampler(number)
        return self._suggest(optuna.Trial(self._study, trial_id))

    def _suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        self._asked[trial.number] = trial

        return self._config.space.draw(partial(_suggest, trial))

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        seed = int(np.random.SeedSequence([self._config.sampler.seed, number]).generate_state(1)[0])
        sampler: optuna.samplers.BaseSampler
        with _quiet():
            if self._config.sampler.name == "random":
                sampler = optuna.samplers.RandomSampler(seed=seed)
            else:
                sampler = optuna.samplers.TPESampler(
                    seed=seed,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                )
            if number < len(self._coverage):
                sampler = optuna.samplers.PartialFixedSampler(self._coverage[number], sampler)
        return sampler


def read_trials(run: RunDirectory, config: SweepConfig | None = None) -> list[StudyTrial]:
    """Every trial of a run directory in the order of its number, without writing to it.

    Empty while the sweep's driver has not yet made the study. Raises RunDirectoryError if the
    journal is damaged, or ``config`` is not what the study was made with.
    """
    if not run.journal.exists():
        return []
    with _journal_of(run) as storage:
        if STUDY not in optuna.get_all_study_names(storage):
            return []
        study = optuna.load_study(study_name=STUDY, storage=storage)
        trials = study.get_trials(deepcopy=False)
    if config is not None:
        _require_same(study, config, run)
    return [_study_trial(trial) for trial in trials]


def _utc(moment: datetime | None) -> datetime | None:
    """Optuna keeps local times without saying so."""
    return None if moment is None else moment.astimezone(UTC)


def _study_trial(trial: optuna.trial.FrozenTrial) -> StudyTrial:
    return StudyTrial(
        number=trial.number,
        state=_STATES[trial.state],
        parameters=dict(trial.params),
        values=list(trial.values) if trial.values is not None else None,
        started=_utc(trial.datetime_start),
        ended=_utc(trial.datetime_complete),
        details=dict(trial.user_attrs.get(DETAILS, {})),
    )
