"""A run directory as a very large sweep leaves it, without training so many models.

A handful of real trainings are made, and a sweep's conductor is then answered with variations of
them: study, records, traces and kept scores are written by the code that writes a sweep's.
"""

from __future__ import annotations

import zlib
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fresh import ROOT
from search_spaces import Dimension
from sweeps import records
from sweeps.candidate import Candidate, Training
from sweeps.conductor import Conductor, Progress, Work
from sweeps.config import SweepConfig, load_config
from sweeps.kept_scores import KeptScores
from sweeps.objectives import Objectives
from sweeps.records import EARLIER, TrainingRecord
from sweeps.run_directory import RunDirectory
from sweeps.selection import Study
from sweeps.sweep import create
from sweeps.worker import Worker
from trace_core import Trace
from trace_core.statistics import DISPLACEMENT, Statistic

REPLICATES = 2
"""The fewest of which a spread, and so a rank interval, can be told."""
EPOCHS = 6
"""Of 17 steps each: about 100 observations."""
WORKERS = 2
BASES = {
    "mlp": {"hidden": 64, "depth": 2},
    "cnn": {"channels": 16},
    "gru": {"hidden": 32},
    "transformer": {"width": 32, "depth": 1},
}
"""What is trained of each architecture of the default sweep."""


def make_run(folder: Path, models: int) -> RunDirectory:
    """A finished sweep's run directory under ``folder``, without a report."""
    given = load_config(ROOT / "examples" / "digits.yaml").resolved()
    given["budget"] = {"epochs": EPOCHS, "batch_size": 64}
    given |= {"replicates": REPLICATES, "trials": models, "sampler": {"name": "random"}}
    config = SweepConfig.from_dict(given)
    bases = _trained(folder / "bases", given)
    run = create(config, folder / "run", [])
    scores = KeptScores(run, config.ranking)
    objectives = Objectives(scores, config, [])
    conductor = Conductor(
        Study(run, config), run, config, WORKERS, models, objectives, Progress(models)
    )
    with ProcessPoolExecutor(WORKERS) as pool:
        _answer(conductor, run, bases, pool)
    assert conductor.complete
    conductor.study.flush()
    scores.save()
    return run


def _answer(
    conductor: Conductor, run: RunDirectory, bases: RunDirectory, pool: ProcessPoolExecutor
) -> None:
    """Give the conductor's work to the processes of ``pool`` until there is none."""
    free = [f"varied-{index}" for index in range(WORKERS)]
    busy: dict[Future[None], str] = {}
    while True:
        while free and (work := conductor.next(free[-1])) is not None:
            busy[pool.submit(_vary, bases.path, run.path, work)] = free.pop()
        if not busy:
            return
        for done in wait(busy, return_when=FIRST_COMPLETED).done:
            done.result()
            free.append(busy.pop(done))
            conductor.ended(free[-1])


def _trained(path: Path, given: dict[str, Any]) -> RunDirectory:
    """Real trainings of each architecture, by its name and the seed."""
    config = SweepConfig.from_dict(given | {"trials": 1})
    run = create(config, path, [])
    for architecture, settings in BASES.items():
        chosen = {
            "architecture": architecture,
            **{f"{architecture}.{name}": value for name, value in settings.items()},
            "init": "default",
            "alpha": 0.5,
            "learning_rate": 0.05,
        }

        def given(name: str, dimension: Dimension, chosen: dict[str, Any] = chosen) -> Any:
            return chosen.get(name, dimension.quantile(0.5))

        parameters = config.space.draw(given)
        candidate, _ = Candidate.from_parameters(config, parameters)
        for seed in range(REPLICATES):
            training = Training(candidate, seed)
            Worker(run.path, training.to_json(), training.training_id, EARLIER, "").advance(1e9)
            for kept in (run.record, run.trace):
                found = kept(training.training_id)
                found.rename(kept(f"{architecture}-{seed}"))
    return run


@cache
def _base(path: Path, name: str) -> tuple[TrainingRecord, Trace]:
    run = RunDirectory(path)
    record = records.load(run, name)
    assert record is not None
    return record, Trace.load(run.trace(name))


def _vary(bases: Path, path: Path, work: Work) -> None:
    """Store what became of a worker's trainings: variations of the base of their architecture."""
    for training in work.trainings:
        record, trace = _base(bases, f"{training.candidate.architecture}-{training.seed}")
        of_model = np.random.default_rng(zlib.crc32(training.candidate.model_id.encode()))
        of_seed = np.random.default_rng(zlib.crc32(training.training_id.encode()))
        quality = of_model.beta(8, 1) + of_seed.normal(0, 0.01)
        history = [
            entry | {"metric": float(np.clip(entry["metric"] * quality, 0.0, 1.0))}
            for entry in record.history
        ]
        history[0]["metric"] = record.history[0]["metric"]
        varied = replace(
            record,
            training_id=training.training_id,
            model_id=training.candidate.model_id,
            trial=work.trial,
            history=history,
            metric_test=history[-1]["metric"],
        )
        records.save(RunDirectory(path), varied, _varied(trace, of_model, of_seed))


def _varied(trace: Trace, of_model: np.random.Generator, of_seed: np.random.Generator) -> Trace:
    """A trace whose rates are of another size and steadiness, and whose concentrations differ."""
    pace, unevenness = np.exp(of_model.normal(0, 0.5)), of_model.uniform(0.02, 0.5)
    times = pace * np.exp(unevenness * of_seed.standard_normal(len(trace)))
    statistics = trace.statistics.copy()
    for column in ("ABS_DELTA", "THETA_DELTA", "RATIO", "SYMMETRIC"):
        statistics[:, :, Statistic[column]] *= times[:, None]
    statistics[:, :, Statistic.SQ_DELTA] *= times[:, None] ** 2
    statistics[:, :, DISPLACEMENT:] *= pace**2
    shift = of_model.normal(0, 0.06) + of_seed.normal(0, 0.005)
    tilt = of_model.normal(0, 0.01)
    sums = trace.histogram.sums * np.exp(tilt * (trace.histogram.bins - 300.0))
    return replace(
        trace,
        statistics=statistics,
        exact=np.clip(trace.exact + shift, 0.0, 1.0),
        histogram=replace(trace.histogram, sums=sums.astype(np.float32)),
    )
