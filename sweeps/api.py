"""Run, resume and read a sweep: what the command line and a notebook both call."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sweeps.config import SweepConfig, load_config, require_ready
from sweeps.config_messages import ConfigError, shown
from sweeps.config_sections import MOST
from sweeps.handle import Sweep
from sweeps.run_config import load_run_config
from sweeps.run_directory import RunDirectory, resume_command
from sweeps.stopping import Stopped, stoppable_at_once
from sweeps.storing import UnwrittenError, words
from trace_core.durable import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable

    from sweeps.conductor import Progress

RUNS = Path("runs")
"""Where run directories are made and looked for unless said otherwise."""

Source: TypeAlias = str | PathLike[str] | Mapping[str, Any] | SweepConfig


class SweepInterrupted(KeyboardInterrupt):
    """A sweep was interrupted, by Ctrl-C or a notebook's stop button, or by SIGTERM (then
    ``terminated``).

    What was finished is stored, and `resume` goes on. ``sweep`` is what there is.
    """

    def __init__(self, sweep: Sweep, terminated: bool, after: str = "") -> None:
        word = "stopped" if terminated else "interrupted"
        super().__init__(
            f"{word}{after}. Continue with: {resume_command(sweep.path)} (in Python: sweeps.resume)"
        )
        self.sweep = sweep
        self.terminated = terminated


def run(
    config: Source,
    *,
    out: str | PathLike[str] | None = None,
    trials: int | None = None,
    workers: int | None = None,
    seed: int | None = None,
    ray_address: str | None = None,
    progress: bool = True,
) -> Sweep:
    """Run a sweep to its end, or to one of its limits, and write its report.

    Args:
        config: the path of a YAML file, its content as a mapping, or a `SweepConfig`.
        out: the run directory to make; by default ``runs/NAME-TIME`` in the current folder.
        trials: instead of the configuration's.
        workers: trainings at once, at most; by default the configuration's, else one for every
            CPU, and on a Ray that isn't our own as many as have room there.
        seed: instead of the configuration's ``sampler.seed``.
        ray_address: HOST:PORT of the Ray cluster to train on, or ``auto``. Without it on a Ray of
            our own that ends with the sweep; or, where this process has called ``ray.init``
            already, on that one, which is left running.
        progress: whether to show on stderr how far it is.

    Raises:
        ConfigError: the configuration or an argument is not valid, or a logger isn't installed.
        FileExistsError: there is something at ``out``.
        RunDirectoryError: nothing can be made there.
        ConnectionError: no Ray cluster answers at ``ray_address``, or no node of it has room for a
            training, or the connection to it, or to the study's database, was lost.
        UnwrittenError: a file of the sweep could not be written, as on a full disk.
        SweepInterrupted: a KeyboardInterrupt, raised once what was finished is stored.
    """
    settings, import_path = resolve(config, trials=trials, seed=seed)
    count = worker_count(workers, settings, ray_address)
    _reach(ray_address)
    require_ready(settings, str(config) if isinstance(config, str | PathLike) else "configuration")
    from sweeps.sweep import create

    path = RUNS / f"{settings.name}-{datetime.now():%Y%m%d-%H%M%S}" if out is None else Path(out)
    directory = create(settings, path, import_path)
    return drive_directory(directory, settings, count, ray_address, import_path, progress=progress)


def resume(
    run_dir: str | PathLike[str] | Sweep,
    *,
    trials: int | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    progress: bool = True,
) -> Sweep:
    """Finish an interrupted sweep, or extend a finished one to ``trials``; then write its report.

    What a logger has missed is logged. The other arguments and errors are those of `run`; also
    FileNotFoundError if there is no such run directory, and RunDirectoryError if it is something
    else or another process drives it.
    """
    directory = RunDirectory.existing(run_dir.path if isinstance(run_dir, Sweep) else Path(run_dir))
    import_path = directory.add_import_path()
    settings = _checked(load_run_config(directory), str(directory.configuration))
    count = worker_count(workers, settings, ray_address)
    _reach(ray_address)
    require_ready(settings, str(directory.configuration))
    from sweeps.sweep import require_unchanged

    require_unchanged(directory, settings)
    if trials is not None and trials != settings.trials:
        longer = load_run_config(directory, {"trials": trials})
        if trials < settings.trials:
            raise ConfigError(
                str(directory.path),
                [
                    f"trials: got {trials}, less than the sweep's {settings.trials}: "
                    "it can be extended, not cut"
                ],
            )
        settings = longer
        with directory.driving():
            write_atomically(directory.configuration, settings.dump().encode())
    return drive_directory(directory, settings, count, ray_address, import_path, progress=progress)


def load(run_dir: str | PathLike[str]) -> Sweep:
    """The sweep in a run directory, to be read: finished, interrupted, or run by another process.

    Raises FileNotFoundError if there is nothing there, RunDirectoryError if it is something else.
    """
    return Sweep(run_dir)


def resolve(
    config: Source, *, trials: int | None = None, seed: int | None = None
) -> tuple[SweepConfig, list[str]]:
    """The checked configuration, and the folders in which the user's own modules are looked for:
    the file's and the current one. They are on this process's path from now on.

    Raises ConfigError.
    """
    given = {"trials": trials, "sampler.seed": seed}
    overrides = {key: value for key, value in given.items() if value is not None}
    path = Path(config) if isinstance(config, str | PathLike) else None
    beside = [] if path is None else [str(path.resolve().parent)]
    import_path = list(dict.fromkeys([*beside, str(Path.cwd())]))
    sys.path[:0] = [folder for folder in import_path if folder not in sys.path]
    if path is not None:
        return _checked(load_config(path, overrides), str(path)), import_path
    data = config.resolved() if isinstance(config, SweepConfig) else config
    settings = SweepConfig.from_dict(data, "configuration", overrides)
    return _checked(settings, "configuration"), import_path


def worker_count(workers: int | None, settings: SweepConfig, ray_address: str | None = None) -> int:
    """Trainings at once, at most: as asked for, else as configured, else the CPUs there are; no
    limit on a Ray that isn't our own, which has the room that it has.

    Raises ConfigError for what is no such number.
    """
    if workers is None and settings.workers is not None:
        return settings.workers
    if workers is None:
        cpus = len(os.sched_getaffinity(0))
        shared = ray_address is not None or _has_ray()
        return MOST if shared else max(1, cpus // settings.resources.cpus)
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MOST:
        rule = "must be an integer of at least 1"
        raise ConfigError("arguments", [f"workers: got {shown(workers)}; {rule}"])
    return workers


def _checked(settings: SweepConfig, source: str) -> SweepConfig:
    if settings.loggers:
        from sweeps.loggers import require_loggers

        require_loggers(settings, source)
    return settings


def _has_ray() -> bool:
    """Whether this process has a Ray already."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _reach(address: str | None) -> None:
    """Whether anything listens at the address; Ray itself would try for minutes."""
    if address is None:
        return
    if _has_ray():
        raise ConnectionError(
            f"Ray at {address}: this process has called ray.init already; leave the address out to "
            "train on that Ray, or call ray.shutdown() first"
        )
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError, ValueError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from None


def drive_directory(
    directory: RunDirectory,
    settings: SweepConfig,
    workers: int,
    address: str | None,
    import_path: list[str],
    *,
    progress: bool = True,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Sweep:
    """Bring the sweep in a run directory to its end, or to one of its limits, and write its report.

    ``on_progress`` is called with the counts whenever they change, very often. Raises as `run`.
    """
    from sweeps.sweep import SweepResult, drive

    sweep = Sweep(directory.path)
    with (
        stoppable_at_once(),
        _broken(sweep),
        _display(directory, settings.metric_name, progress) as update,
    ):

        def report(result: SweepResult) -> None:
            # While the directory is held: whoever watches takes its end for that of the sweep.
            if result.complete or result.limit:
                sweep.report()

        def changed(counts: Progress) -> None:
            update(counts)
            on_progress(counts)

        result = drive(
            directory,
            settings,
            workers=workers,
            address=address,
            import_path=import_path,
            on_progress=changed,
            at_end=report,
        )
    done = settings.trials - result.open
    if result.limit and progress:
        print(
            f"The {result.limit} of its limits is over after {done} of {settings.trials} trials. "
            f"Go on with: {resume_command(directory.path)}",
            file=sys.stderr,
        )
    if not result.complete and not result.limit:
        after = f" after {done} of {settings.trials} trials"
        raise SweepInterrupted(sweep, result.terminated, after)
    return sweep


@contextlib.contextmanager
def _broken(sweep: Sweep) -> Iterator[None]:
    """What breaks a sweep from outside, with what to do then."""
    stored, go_on = "what was finished is stored", f"go on with: {resume_command(sweep.path)}"
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise SweepInterrupted(sweep, isinstance(interrupt, Stopped)) from interrupt
    except ConnectionError as error:
        raise ConnectionError(f"{error}; {stored}; {go_on}") from error
    except (UnwrittenError, OSError) as error:
        what = words(error) if isinstance(error, OSError) else str(error)
        raise UnwrittenError(f"{what}; {stored}; once that is mended, {go_on}") from error


@contextlib.contextmanager
def _display(
    directory: RunDirectory, metric: str, shown: bool
) -> Iterator[Callable[[Progress], None]]:
    if not shown:
        yield lambda progress: None
        return
    from rich.console import Console

    from sweeps.terminal import Display

    with Display(Console(stderr=True), metric, directory) as display:
        yield display.update
