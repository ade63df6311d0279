"""A sweep by this project's engine, and by others, on the same kind of trainings.

Every engine runs in processes of its own, with as many trainings at a time, and each training notes
its first step and its end. Time counts from the first step of all to the last end; what comes
before is told apart. The ideal is the same number of trainings of the same space, by bare
processes that do nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import duration, markdown

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "benchmarks" / ".peers"
WORKERS = 2
SHORT, LONG = 25, 150
"""Epochs of a training of about 0.17 s and of about 1 s, with the tracer, on the machine that the
aims were set on.
"""


def configuration(trials: int, epochs: int, sampler: str) -> dict[str, Any]:
    """A sweep of one-hidden-layer MLPs on digits, all different."""
    return {
        "name": "engines",
        "task": "digits",
        "budget": {"epochs": epochs, "batch_size": 64},
        "replicates": 1,
        "trials": trials,
        "space": {
            "architecture": {"mlp": {"hidden": {"int": [16, 64]}, "depth": 1}},
            "learning_rate": {"float": [0.01, 0.3], "log": True},
        },
        "sampler": {"name": sampler},
    }


@dataclass(frozen=True)
class Measured:
    """Seconds from the command to the first training step, from there to the last end, and those
    inside the ``count`` trainings.
    """

    start: float
    total: float
    inside: float
    count: int

    @property
    def each(self) -> float:
        """Seconds that a trial takes of the sweep's time."""
        return self.total / self.count


def measure(engine: str, config: dict[str, Any], trainings: list[str] | None = None) -> Measured:
    """Run an engine on a sweep, or bare processes on these trainings."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.mkdir()
        path = Path(folder) / "config.json"
        path.write_text(json.dumps({"config": config, "trainings": trainings or []}))
        begun = time.time()
        subprocess.run(
            [sys.executable, "-m", "benchmarks.engines", engine, str(path), folder],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if not os.environ.get("BENCHMARKS_VERBOSE") else None,
        )
        times = np.array(
            [line.split() for file in log.iterdir() for line in file.read_text().splitlines()],
            float,
        )
    return Measured(
        start=float(times[:, 0].min() - begun),
        total=float(times[:, 1].max() - times[:, 0].min()),
        inside=float((times[:, 1] - times[:, 0]).sum()),
        count=len(times),
    )


def trainings_of(config: dict[str, Any]) -> list[str]:
    """The trainings that a sweep makes, in the order of its trials, without making them."""
    from sweeps.candidate import Candidate, Training
    from sweeps.config import SweepConfig
    from sweeps.run_directory import RunDirectory
    from sweeps.selection import Study

    parsed = SweepConfig.from_dict(config | {"sampler": {"name": "random"}})
    with tempfile.TemporaryDirectory() as folder:
        study = Study(RunDirectory(folder), parsed)
        asked = [study.ask()[1] for _ in range(parsed.trials)]
    return [
        Training(Candidate.from_parameters(parsed, parameters)[0], 0).to_json()
        for parameters in asked
    ]


def table() -> str:
    """The tables, as Markdown."""
    return "\n\n".join((_against_the_ideal(), _against_others()))


def _against_the_ideal(repeats: int = 3) -> str:
    rows = [["trainings", "sampler", "inside a training", "ideal, a trial", "a trial", "× ideal"]]
    for trials, epochs, sampler in (
        (200, SHORT, "random"),
        (200, SHORT, "tpe"),
        (60, LONG, "random"),
    ):
        config = configuration(trials, epochs, sampler)
        ratios = []
        for _ in range(repeats):
            ideal = measure("bare", config, trainings_of(config))
            ours = measure("tracerank", config)
            ratios.append(ours.each / ideal.each)
        rows.append(
            [
                f"{trials}",
                sampler,
                duration(ideal.inside / ideal.count),
                duration(ideal.each),
                duration(ours.each),
                f"{np.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
            ]
        )
    return markdown(rows)


def _against_others(repeats: int = 3) -> str:
    rows = [["40 trials by", "command to first step", "a trial", "× tracerank"]]
    names = [name for name in ENGINES if name != "bare"]
    starts: dict[str, list[float]] = {name: [] for name in names}
    missing: dict[str, str] = {}
    for _ in range(repeats):
        for name in names:
            try:
                starts[name].append(measure(name, configuration(2, SHORT, "random")).start)
            except subprocess.CalledProcessError:
                absent = name == "syne_tune" and not PEERS.exists()
                missing[name] = "not installed" if absent else "fails"
    config = configuration(40, SHORT, "random")
    found = {name: measure(name, config).each for name in names if name not in missing}
    for name in names:
        if name in missing:
            rows.append([LABELS[name], missing[name], "–", "–"])
        else:
            start = duration(float(np.median(starts[name])))
            ratio = f"{found[name] / found['tracerank']:.1f}"
            rows.append([LABELS[name], start, duration(found[name]), ratio])
    return markdown(rows)


# ---- the engines, each in processes of its own


def train(training: str, folder: Path) -> float:
    """Make a training with its tracer, and note its first step and its end; returns its metric."""
    from sweeps.candidate import Training
    from sweeps.training import TrainingRun

    run = TrainingRun(Training.from_json(training), folder / "none.pt")
    begun = time.time()
    run.advance(1e9)
    run.trace().save(folder / f"{os.getpid()}.npz")
    metric, _ = run.evaluate("validation")
    with (folder / "log" / str(os.getpid())).open("a") as file:
        file.write(f"{begun} {time.time()}\n")
    return metric


def drawn(config: dict[str, Any], hidden: int, learning_rate: float) -> str:
    """The training that stands for two drawn parameters."""
    from sweeps.candidate import Candidate, Training
    from sweeps.config import SweepConfig

    parsed = SweepConfig.from_dict(config)
    given = {"mlp.hidden": hidden, "learning_rate": learning_rate}
    parameters = parsed.space.draw(
        lambda name, dimension: given.get(name) or getattr(dimension, "values", [None])[0]
    )
    return Training(Candidate.from_parameters(parsed, parameters)[0], 0).to_json()


def bare(config: dict[str, Any], trainings: list[str], folder: Path) -> None:
    """Processes that take one training after another from a common list, and do nothing else."""
    import torch.multiprocessing as processes

    context = processes.get_context("spawn")
    queue = context.SimpleQueue()
    barrier = context.Barrier(WORKERS)
    workers = [context.Process(target=_bare, args=(queue, barrier, folder)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for training in (*trainings, *[None] * WORKERS):
        queue.put(training)
    for worker in workers:
        worker.join()


def _bare(queue: Any, barrier: Any, folder: Path) -> None:
    from sweeps.candidate import Training
    from sweeps.training import TrainingRun

    # What PyTorch imports for the first optimizer is no part of a training.
    first = queue.get()
    TrainingRun(Training.from_json(first), folder / "none.pt")
    barrier.wait()
    train(first, folder)
    while (training := queue.get()) is not None:
        train(training, folder)


def tracerank(config: dict[str, Any], trainings: list[str], folder: Path) -> None:
    """The engine of this project. When trainings began and ended is known from their records."""
    from sweeps.config import SweepConfig
    from sweeps.run_directory import RunDirectory
    from sweeps.selection import read_trials
    from sweeps.sweep import create, drive

    run = create(SweepConfig.from_dict(config), folder / "run", [])
    drive(run, SweepConfig.from_dict(config), workers=WORKERS, import_path=[])
    with (folder / "log" / "tracerank").open("w") as file:
        for trial in read_trials(RunDirectory(run.path)):
            assert trial.ended is not None
            ended = trial.ended.timestamp()
            file.write(f"{ended - trial.details['seconds']} {ended}\n")


def plain_tune(config: dict[str, Any], trainings: list[str], folder: Path) -> None:
    """Ray Tune with OptunaSearch, as its own guide has it."""
    _tune(config, folder, reuse=False)


def reusing_tune(config: dict[str, Any], trainings: list[str], folder: Path) -> None:
    """The same with ``reuse_actors``, which asks for a class."""
    _tune(config, folder, reuse=True)


def _tune(config: dict[str, Any], folder: Path, *, reuse: bool) -> None:
    import optuna
    import ray
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    def once(given: dict[str, Any]) -> dict[str, float]:
        return {"metric": train(drawn(config, given["hidden"], given["learning_rate"]), folder)}

    class Reused(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self.given = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.given = new_config
            return True

        def step(self) -> dict[str, Any]:
            return {**once(self.given), "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            return {}

        def load_checkpoint(self, checkpoint: Any) -> None:
            pass

    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    sampler = optuna.samplers.RandomSampler(seed=0)
    search = OptunaSearch(metric="metric", mode="max", sampler=sampler)
    tune.Tuner(
        Reused if reuse else once,
        param_space={
            "hidden": tune.randint(16, 65),
            "learning_rate": tune.loguniform(0.01, 0.3),
        },
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(search, max_concurrent=WORKERS),
            num_samples=config["trials"],
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(storage_path=str(folder), name="tune", verbose=0),
    ).fit()
    ray.shutdown()


def optuna_alone(config: dict[str, Any], trainings: list[str], folder: Path) -> None:
    """Optuna in processes that share a journal file."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engines", "optuna_worker", *sys.argv[2:]]
        )
        for _ in range(WORKERS)
    ]
    for worker in workers:
        if worker.wait():
            raise RuntimeError("a process of Optuna's failed")


def optuna_worker(config: dict[str, Any], trainings: list[str], folder: Path) -> None:
    """One of these processes."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / "journal"))),
        study_name="engines",
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(),
        load_if_exists=True,
    )

    def objective(trial: optuna.Trial) -> float:
        hidden = trial.suggest_int("hidden", 16, 64)
        rate = trial.suggest_float("learning_rate", 0.01, 0.3, log=True)
        return train(drawn(config, hidden, rate), folder)

    study.optimize(objective, n_trials=config["trials"] // WORKERS)


def syne_tune(config: dict[str, Any], trainings: list[str], folder: Path) -> None:
    """Syne Tune's local backend with random search."""
    sys.path.append(str(PEERS))
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.config_space import loguniform, randint
    from syne_tune.optimizer.baselines import RandomSearch

    space = {"hidden": randint(16, 64), "learning_rate": loguniform(0.01, 0.3)}
    script = folder / "syne_trial.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = [{str(ROOT)!r}]\n"
        f"sys.path.append({str(PEERS)!r})\n"
        "from argparse import ArgumentParser\n"
        "from pathlib import Path\n"
        "from syne_tune import Reporter\n"
        "from benchmarks.engines import drawn, train\n"
        "parser = ArgumentParser()\n"
        "parser.add_argument('--hidden', type=int)\n"
        "parser.add_argument('--learning_rate', type=float)\n"
        "given = parser.parse_known_args()[0]\n"
        "report = Reporter()\n"
        f"config = {config!r}\n"
        f"folder = Path({str(folder)!r})\n"
        "report(epoch=1, metric=train(drawn(config, given.hidden, given.learning_rate), folder))\n"
    )
    Tuner(
        trial_backend=LocalBackend(entry_point=str(script)),
        scheduler=RandomSearch(space, metrics=["metric"], do_minimize=False),
        stop_criterion=StoppingCriterion(max_num_trials_completed=config["trials"]),
        n_workers=WORKERS,
        sleep_time=0.1,
        save_tuner=False,
    ).run()


Engine = Callable[[dict[str, Any], list[str], Path], None]
ENGINES: dict[str, Engine] = {
    "tracerank": tracerank,
    "bare": bare,
    "plain_tune": plain_tune,
    "reusing_tune": reusing_tune,
    "optuna_alone": optuna_alone,
    "syne_tune": syne_tune,
}
LABELS = {
    "tracerank": "tracerank",
    "plain_tune": "Ray Tune + OptunaSearch",
    "reusing_tune": "the same with `reuse_actors`",
    "optuna_alone": "Optuna alone, two processes",
    "syne_tune": "Syne Tune, local backend",
}


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[2]).read_text())
    run_engine = {**ENGINES, "optuna_worker": optuna_worker}[sys.argv[1]]
    run_engine(given["config"], given["trainings"], Path(sys.argv[3]))
