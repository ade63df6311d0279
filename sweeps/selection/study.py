"""The study: which configuration is tried next, and the one ledger of what was.

The first trials are fixed, in whole or in part: to the points of earlier sweeps and those that are
to be tried first, and then in architecture and initialisation, so that each of them is tried once.
Which trial is fixed to what follows from its number alone, hence nothing is enqueued and nothing
can be enqueued twice.

A trial left RUNNING by a driver that died is adopted under its own number: what it had drawn is in
the storage, what it had not is drawn now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import optuna
from optuna.trial import TrialState

from search_spaces import Choice, Dimension, IntRange
from sweeps.config import SweepConfig
from sweeps.run_directory import RunDirectory, RunDirectoryError
from sweeps.selection.place import Place, keep_place, new_place, place_of
from sweeps.selection.samplers import Samplers
from sweeps.selection.storage import Writing, be_quiet, guarded, reading
from sweeps.selection.whole_space import distribution

DETAILS = "tracerank"
CONFIGURATION = "configuration"
FLOOR = "floor"
"""The name of the constraint."""

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

    ``details`` is what the sweep noted: model id, candidate and α when it began, and when it told
    the trial its training ids, Ray ids of the trainings made for it, whether it was replayed,
    seconds, reason. The ``constraint`` is met at or below 0.
    """

    number: int
    state: State
    parameters: dict[str, Any]
    values: list[float] | None
    started: datetime | None
    ended: datetime | None
    details: dict[str, Any] = field(default_factory=dict)
    constraint: float | None = None


def suggest(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    """Ask Optuna for a parameter; give it to `Space.draw`, with the trial filled in."""
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(name, dimension.values)
    if isinstance(dimension, IntRange):
        return trial.suggest_int(
            name, dimension.low, dimension.high, step=dimension.step, log=dimension.log
        )
    return trial.suggest_float(
        name, dimension.low, dimension.high, step=dimension.step, log=dimension.log
    )


def _suggest_again(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    """What an adopted trial had drawn is drawn once more and dropped, so that the sampler's
    generator goes on from where it would have.
    """
    if name in trial.params and dimension.size() != 1 and name not in trial.relative_params:
        trial.study.sampler.sample_independent(
            trial.study, trial._cached_frozen_trial, name, distribution(dimension)
        )
    return suggest(trial, name, dimension)


def _require_same(made_with: dict[str, Any], config: SweepConfig, run: RunDirectory) -> None:
    """Whether ``sweep.yaml`` is what the study was made with, as far as that decides its trials.

    Raises RunDirectoryError naming the keys that were changed.
    """
    changed = changed_keys(made_with, config)
    if changed:
        raise RunDirectoryError(
            f"{run.configuration}: {', '.join(changed)} changed since the sweep began; "
            "put it back, or begin another sweep"
        )


def changed_keys(made_with: Mapping[str, Any], config: SweepConfig) -> list[str]:
    """The keys of a configuration that are others than those that a study was ``made_with``."""
    now = decisive(config)
    return [key for key, value in made_with.items() if now.get(key) != value]


def decisive(config: SweepConfig) -> dict[str, Any]:
    """What decides a sweep's trials, which the study keeps."""
    told = {
        key: value
        for key, value in config.resolved().items()
        if key not in ("name", "trials", "workers", "ranking", "storage", "limits", "loggers")
    }
    # Threads and device are part of what a model is; where there is memory for it isn't.
    told["resources"] = {key: told["resources"][key] for key in ("cpus", "gpus")}
    return told


class Study:
    """The sweep's study, opened by its one driver.

    ``on_stored`` is called with every trial told here, once nothing can take it back.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: SweepConfig,
        on_stored: Callable[[StudyTrial], None] = lambda trial: None,
    ) -> None:
        self._config = config
        self._on_stored = on_stored
        self._told: list[int] = []
        self._samplers = Samplers(config, run.read_points())
        place = place_of(run, config) or new_place(config)
        self._writing = Writing(run, place)
        keep_place(run, place)
        be_quiet()
        with guarded(run, place):
            self._study = optuna.create_study(
                storage=self._writing.storage,
                study_name=place.study,
                directions=config.directions(),
                load_if_exists=True,
            )
            made_with = self._study.user_attrs.get(CONFIGURATION)
            if made_with is None:
                self._study.set_user_attr(CONFIGURATION, decisive(config))
        _require_same(made_with or {}, config, run)
        self.flush()
        self._asked: dict[int, optuna.Trial] = {}
        self._count = len(self._study.get_trials(deepcopy=False))

    def __len__(self) -> int:
        """Trials asked so far, whatever became of them."""
        return self._count

    def flush(self) -> None:
        """Write to the disk what was asked and told since the last time."""
        self._writing.flush()
        told, self._told = self._told, []
        for trial_id in told:
            self._on_stored(study_trial(self._study._storage.get_trial(trial_id)))

    def adopt(self) -> list[tuple[int, dict[str, Any]]]:
        """Take over the trials that a dead driver left running: their numbers and parameters."""
        with self._writing.reached():
            left = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            return [(trial.number, self._draw(trial.number, trial._trial_id)) for trial in left]

    def ask(self) -> tuple[int, dict[str, Any]]:
        """A new trial: its number, and its parameters by the space's names."""
        number = self._count
        self._study.sampler = self._samplers.for_trial(number)
        with self._writing.reached():
            trial = self._study.ask()
            self._count += 1
            return trial.number, self._suggest(trial)

    def note(self, number: int, details: Mapping[str, Any]) -> None:
        """Keep with a trial under way what is known of it, until it is told."""
        with self._writing.reached():
            self._asked[number].set_user_attr(DETAILS, dict(details))

    def tell(
        self,
        number: int,
        values: Sequence[float] | None,
        details: Mapping[str, Any],
        constraint: float | None = None,
        *,
        pruned: bool = False,
    ) -> None:
        """End a trial: COMPLETE with ``values``, without them FAILED or ``pruned``. A constraint
        ≤ 0 is met.
        """
        trial = self._asked.pop(number)
        with self._writing.reached():
            trial.set_user_attr(DETAILS, dict(details))
            if constraint is not None:
                trial.set_constraint(FLOOR, constraint)
            if values is None:
                state = TrialState.PRUNED if pruned else TrialState.FAIL
                self._study.tell(trial, state=state)
            else:
                self._study.tell(trial, list(values))
        self._told.append(trial._trial_id)

    def trials(self) -> list[StudyTrial]:
        """Every trial in the order of its number."""
        with self._writing.reached():
            return [study_trial(trial) for trial in self._study.get_trials(deepcopy=False)]

    def _draw(self, number: int, trial_id: int) -> dict[str, Any]:
        self._study.sampler = self._samplers.for_trial(number)
        return self._suggest(optuna.Trial(self._study, trial_id), _suggest_again)

    def _suggest(
        self, trial: optuna.Trial, ask: Callable[[optuna.Trial, str, Dimension], Any] = suggest
    ) -> dict[str, Any]:
        self._asked[trial.number] = trial
        return self._config.space.draw(partial(ask, trial))


def read_trials(run: RunDirectory, config: SweepConfig | None = None) -> list[StudyTrial]:
    """Every trial of a run directory in the order of its number, without writing to it.

    Empty while the sweep's driver has not yet made the study. Raises RunDirectoryError if the
    storage is damaged, or ``config`` is not what the study was made with, and ConnectionError if it
    can't be reached.
    """
    trials, made_with = read_study(run, config)
    if config is not None:
        _require_same(made_with, config, run)
    return trials


def read_study(
    run: RunDirectory, config: SweepConfig | None = None
) -> tuple[list[StudyTrial], dict[str, Any]]:
    """The trials of a run directory, and what of the configuration its study was made with.

    As `read_trials`, but for a ``config`` of which only the storage has to be the study's.
    """
    place = place_of(run, config)
    if place is None:
        return [], {}
    with reading(run, place) as storage:
        if place.study not in optuna.get_all_study_names(storage):
            return [], {}
        study = optuna.load_study(study_name=place.study, storage=storage)
        trials = study.get_trials(deepcopy=False)
        made_with = dict(study.user_attrs.get(CONFIGURATION, {}))
        return [study_trial(trial) for trial in trials], made_with


def studies_in_database(
    run: RunDirectory, config: SweepConfig
) -> Iterator[tuple[Place, list[StudyTrial]]]:
    """The studies in a configuration's database that may be a sweep's, by their names.

    Raises ConnectionError if it can't be reached.
    """
    begins = new_place(config).study.rpartition("-")[0]
    with reading(run, Place(config.storage, begins)) as storage:
        for name in optuna.get_all_study_names(storage):
            if name.rpartition("-")[0] == begins:
                study = optuna.load_study(study_name=name, storage=storage)
                trials = study.get_trials(deepcopy=False)
                yield Place(config.storage, name), [study_trial(trial) for trial in trials]


def _utc(moment: datetime | None) -> datetime | None:
    """Optuna keeps local times without saying so."""
    return None if moment is None else moment.astimezone(UTC)


def study_trial(trial: optuna.trial.FrozenTrial) -> StudyTrial:
    """What Optuna has of a trial, as a `StudyTrial`. Raises TypeError for values of a damaged
    storage, into which Optuna doesn't look.
    """
    if not all(isinstance(value, int | float) for value in trial.values or ()):
        raise TypeError(f"trial {trial.number} has a value that is no number")
    return StudyTrial(
        number=trial.number,
        state=_STATES[trial.state],
        parameters=dict(trial.params),
        values=list(trial.values) if trial.values is not None else None,
        started=_utc(trial.datetime_start),
        ended=_utc(trial.datetime_complete),
        details=dict(trial.user_attrs.get(DETAILS, {})),
        constraint=trial.constraints.get(FLOOR),
    )
