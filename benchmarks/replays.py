"""Trials that cost no training against Optuna alone: what a sweep adds to asking and telling.

Every model of the space is trained before the clock starts, so that each trial is answered from the
store. Optuna alone asks, suggests and tells the same parameters, by one sampler object of the same
kind, in a storage of its own of the same kind. The two take turns, a block of trials each, so that
whatever else the machine does hits them alike.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.timing import duration, markdown
from search_spaces import Choice, Grid, Space
from sweeps import records
from sweeps.candidate import Candidate, Training
from sweeps.conductor import Conductor, Progress
from sweeps.config import SweepConfig
from sweeps.kept_scores import KeptScores
from sweeps.objectives import Objectives
from sweeps.records import EARLIER
from sweeps.run_directory import RunDirectory
from sweeps.selection import Study
from sweeps.selection.storage import be_quiet
from sweeps.selection.study import suggest
from sweeps.sweep import create
from sweeps.worker import Worker

CASES = [("random", 10_000), ("tpe", 1_000)]
STORAGES = ["journal", "sqlite"]
BLOCKS = 20


def table(cases: list[tuple[str, int]] | None = None) -> str:
    """The table, as Markdown."""
    rows = [["sampler", "storage", "trials", "the sweep", "Optuna alone", "ratio"]]
    with tempfile.TemporaryDirectory() as folder:
        trained = _trained(Path(folder) / "trained")
        for sampler, trials in cases or CASES:
            for storage in STORAGES:
                place = Path(folder) / f"{sampler}-{storage}"
                timed = _row(place, trained, sampler, storage, trials)
                rows.append([sampler, storage, f"{trials:,}", *timed])
    return markdown(rows)


def _settings(sampler: str, storage: str, trials: int) -> dict[str, Any]:
    return {
        "name": "replays",
        "task": "digits",
        "budget": {"epochs": 1, "batch_size": 64},
        "replicates": 1,
        "trials": trials,
        "space": {
            "architecture": {
                "mlp": {"hidden": 4},
                "cnn": {"channels": 2},
                "gru": {"hidden": 4},
                "transformer": {"width": 8},
            },
            "init": ["default", "xavier_uniform", "kaiming_normal", "orthogonal", "small"],
            "alpha": {"float": [0.0, 1.0]},
        },
        "sampler": {"name": sampler},
        "storage": storage,
    }


def _row(folder: Path, trained: RunDirectory, sampler: str, storage: str, trials: int) -> list[str]:
    url = f"sqlite:///{folder}/sweep.db" if storage == "sqlite" else storage
    config = SweepConfig.from_dict(_settings(sampler, url, trials))
    folder.mkdir()
    run = create(config, folder / "run", [])
    shutil.copytree(trained.path / "traces", run.path / "traces")
    conductor = Conductor(
        study=Study(run, config),
        run=run,
        config=config,
        workers=1,
        trials=0,
        objectives=Objectives(KeptScores(run, config.ranking), config, []),
        progress=Progress(trials),
    )
    alone = _alone(folder, sampler, storage, config)
    values = _values(run, config)
    found = {"sweep": 0.0, "alone": 0.0}
    for block in range(1, BLOCKS + 1):
        count = trials * block // BLOCKS - conductor.trials

        def ask_and_tell(count: int = count) -> None:
            for _ in range(count):
                trial = alone.ask()
                drawn = config.space.draw(partial(suggest, trial))
                alone.tell(trial, values[drawn["architecture"], drawn["init"]])

        def replay(until: int = conductor.trials + count) -> None:
            conductor.trials = until
            assert not conductor.prepare(), "a model was not in the store"
            conductor.study.flush()

        steps = {"sweep": replay, "alone": ask_and_tell}
        for name in sorted(steps, reverse=bool(block % 2)):
            started = time.perf_counter()
            steps[name]()
            found[name] += time.perf_counter() - started
    assert conductor.progress.replayed == len(conductor.study.trials()) == trials
    ratio = f"{found['sweep'] / found['alone']:.2f}"
    return [duration(found["sweep"]), duration(found["alone"]), ratio]


def _alone(folder: Path, sampler: str, storage: str, config: SweepConfig) -> optuna.Study:
    """A study of Optuna's own, with one sampler for all trials."""
    be_quiet()
    return optuna.create_study(
        storage=f"sqlite:///{folder}/alone.db"
        if storage == "sqlite"
        else JournalStorage(JournalFileBackend(str(folder / "alone.journal"))),
        sampler=RandomSampler(seed=0)
        if sampler == "random"
        else TPESampler(seed=0, multivariate=True, group=True, constant_liar=True),
        directions=config.directions(),
    )


def _trained(path: Path) -> RunDirectory:
    """A run directory in which every model of the space is trained."""
    config = SweepConfig.from_dict(_settings("random", "journal", 1))
    run = create(config, path, [])
    for candidate in _candidates(config):
        training = Training(candidate, 0)
        Worker(run.path, training.to_json(), training.training_id, EARLIER, "").advance(1e9)
    return run


def _candidates(config: SweepConfig) -> list[Candidate]:
    models = Space(config.space.architectures, config.space.dimensions | {"alpha": Choice((0.5,))})
    grid = Grid(models)
    points = [grid.point(i) for i in range(grid.size)]
    return [Candidate.from_parameters(config, point)[0] for point in points]


def _values(run: RunDirectory, config: SweepConfig) -> dict[tuple[str, str], list[float]]:
    """What Optuna alone is told: the values of each model, by architecture and initialisation."""
    objectives = Objectives(KeptScores(run, config.ranking), config, [])
    found = {}
    for candidate in _candidates(config):
        record = records.load(run, Training(candidate, 0).training_id)
        assert record is not None
        outcome = objectives.evaluate(candidate, 0.5, [record])
        assert outcome.values is not None, outcome.reason
        found[candidate.architecture, candidate.init] = outcome.values
    return found
