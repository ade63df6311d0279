"""Run and resume a sweep: from a configuration to a run directory with every trial told.

Ray and torch are imported only when there is a training to make.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from search_spaces import source_of
from search_spaces.errors import listing
from sweeps.conductor import Conductor, Progress
from sweeps.config import SweepConfig
from sweeps.earlier import gather
from sweeps.kept_scores import KeptScores
from sweeps.ledger import counts, ledger_table, write_ledger
from sweeps.loggers import Logbook
from sweeps.objectives import Objectives
from sweeps.run_directory import (
    CHECKPOINTS,
    CONFIGURATION,
    CONTENT,
    METRIC,
    RunDirectory,
    RunDirectoryError,
    resume_command,
)
from sweeps.sealed import write_sealed
from sweeps.selection import Study
from sweeps.stopping import Stopped
from trace_core.durable import write_atomically

PACKAGES = ("tracerank", "torch", "ray", "optuna", "pandas", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended: ``complete`` if every trial was told, else ``open`` trials are left; then
    ``limit`` names the limit that ended it, or ``terminated`` says whether SIGTERM did.
    """

    complete: bool
    limit: str
    terminated: bool
    open: int


def create(config: SweepConfig, path: Path, import_path: list[str]) -> RunDirectory:
    """Make the run directory of a new sweep.

    Raises FileExistsError if there is something at ``path`` already, RunDirectoryError if nothing
    can be made there or UTF-8 has no form for its name, and RunDirectoryError or ConfigError if
    there is nothing to take over from a sweep that the configuration names.
    """
    taken_over = gather(config)
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FileExistsError(
                f"{path}: there is something here already; give another place to write to (out), "
                f"or continue the sweep with: {resume_command(path)}"
            )
        # Ray and the ledger write the path as UTF-8; better to refuse it before anything is made.
        str(path.resolve()).encode("utf-8")
        run = RunDirectory(path)
        machine = environment() | {
            "import_path": import_path,
            METRIC: config.metric_name,
            CONFIGURATION: config.resolved(),
        }
        write_sealed(run.environment, machine | _content(config))
        if config.warm_start:
            taken_over.store(run)
        write_atomically(run.configuration, config.dump().encode())
    except FileExistsError:
        raise
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is not UTF-8"
        raise RunDirectoryError(
            f"{str(path)!r}: {reason}; give another place to write to (out)"
        ) from None
    return run


def _content(config: SweepConfig) -> dict[str, Any]:
    """What tells the files that the sweep is about, which may not be where its results are read."""
    content = "" if isinstance(config.task, str) else config.task_object().content
    checkpoints: dict[str, str] = {}
    for name, given in config.space.architectures.items():
        source = source_of(name)
        if source is not None:
            checkpoints |= source.contents(given)
    told = {CONTENT: content, CHECKPOINTS: checkpoints}
    return {name: each for name, each in told.items() if each}


def require_unchanged(run: RunDirectory, config: SweepConfig) -> None:
    """Raise RunDirectoryError where the files that the sweep is about don't hold what they did when
    it was begun: what was trained on the ones isn't to be ranked beside what is on the others.
    """
    before, now = run.read_environment(), _content(config)
    changed = []
    if before.get(CONTENT, now.get(CONTENT)) != now.get(CONTENT):
        changed.append(f"the data of {config.task_name}")
    known = before.get(CHECKPOINTS, {})
    for name, content in now.get(CHECKPOINTS, {}).items():
        if known.get(name, content) != content:
            changed.append(f"the checkpoint {name}")
    if changed:
        raise RunDirectoryError(
            f"{run.path}: {listing(changed)} changed since the sweep was begun; put back what was "
            "there, or begin another sweep"
        )


def environment() -> dict[str, Any]:
    """Versions and machine, for the run directory; holds no secret and no host name."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "packages": versions,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def drive(
    run: RunDirectory,
    config: SweepConfig,
    *,
    workers: int,
    address: str | None = None,
    import_path: list[str],
    on_progress: Callable[[Progress], None] = lambda progress: None,
    at_end: Callable[[SweepResult], None] = lambda result: None,
) -> SweepResult:
    """Bring the sweep in ``run`` to ``config.trials`` trials, from wherever it stands.

    Trials that a dead driver left running are adopted first. Ray is started only if something is
    left to train. ``at_end`` is called with what came of it, before the directory is let go of.
    Raises RunDirectoryError if another process drives the directory, and ConnectionError if the
    cluster at ``address`` can't be reached.
    """
    begun = time.monotonic()
    for folder in import_path:
        if folder not in sys.path:
            sys.path.insert(0, folder)
    with run.driving(), Logbook(run, config) as logbook:
        run.sweep_out()
        study = Study(run, config, logbook.told)
        run.keep_configuration(config.resolved())
        told = [trial for trial in study.trials() if trial.state != "INTERRUPTED"]
        seen = [
            (trial.details["model"], trial.details["metric"])
            for trial in told
            if trial.state == "COMPLETE"
        ]
        scores = KeptScores(run, config.ranking)
        objectives = Objectives(scores, config, seen)
        progress = Progress(
            target=config.trials,
            done=len(told),
            failed=sum(trial.state == "FAILED" for trial in told),
            pruned=sum(trial.state == "PRUNED" for trial in told),
            seconds=sum(trial.details["seconds"] for trial in told),
            replayed=sum(trial.details["replayed"] for trial in told),
            best=objectives.best,
        )
        conductor = Conductor(
            study, run, config, workers, config.trials, objectives, progress, on_progress
        )
        conductor.begun = begun
        try:
            conductor.adopt()
            for trial in told:
                if trial.state == "COMPLETE":
                    conductor.restore(trial)
                logbook.told(trial)
            if conductor.prepare():
                from sweeps.data import prepare_all
                from sweeps.execution import execute

                execute(
                    conductor,
                    prepare_all(config),
                    run=run.path,
                    workers=workers,
                    address=address,
                    import_path=import_path,
                )
        except KeyboardInterrupt as interrupt:
            # What was finished is stored; the result says that the sweep isn't complete.
            conductor.stopping = conductor.stopping or isinstance(interrupt, Stopped)
        finally:
            study.flush()
            # Nothing is under way any more; of a worker that was killed it still seems so.
            shutil.rmtree(run.live, ignore_errors=True)
            trials = study.trials()
            table = ledger_table(trials, config.objective_names())
            write_ledger(run, table)
            scores.save()
        if conductor.complete:
            # What a failed trial's other replicates left.
            shutil.rmtree(run.path / "checkpoints", ignore_errors=True)
            logbook.finish()
        result = SweepResult(
            complete=conductor.complete,
            limit="" if conductor.complete or conductor.stopping else conductor.limit,
            terminated=conductor.stopping,
            open=config.trials - len(trials) + counts(table)["INTERRUPTED"],
        )
        at_end(result)
    return result
