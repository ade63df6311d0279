"""The process that drives a sweep in a cluster: the entrypoint of the job.

It works in a folder on its own disk. A `Keeper` fills it from the storage if an earlier driver left
a sweep there, and keeps the storage up to date with it from then on. Nothing but what is in the
storage outlives the driver, and nothing else needs to.

Ends with the codes of the command line: 0 done, 1 failed, 2 a configuration or a run directory that
can't be worked with (another driver works on it, say), 3 stopped, 5 the storage can't be reached or
another driver has taken the sweep over.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sweeps.exit_codes import DONE, FAILED, STOPPED, UNREACHABLE, USAGE
from sweeps.jobs.keeper import Keeper, say
from sweeps.jobs.lease import Lease
from sweeps.jobs.store import StorageUriError, Store
from sweeps.run_directory import RunDirectory, RunDirectoryError
from sweeps.storing import UnwrittenError
from trace_core.durable import keep_from_others

if TYPE_CHECKING:
    from sweeps.config import SweepConfig
    from sweeps.handle import Sweep

LOG_WIDTH = 120
"""Columns of the tables in the job's log."""

_ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Drive the sweep that the arguments name; returns the exit code."""
    given = _parser().parse_args(arguments)
    keep_from_others()
    # Until the sweep has a handler of its own, and once it has given it back.
    signal.signal(signal.SIGTERM, _end)
    try:
        return _drive(given)
    except ModuleNotFoundError as error:
        return _told(
            f"this node lacks the Python package {error.name!r}: install what tracerank needs on "
            "every node of the cluster (pip install 'tracerank[cluster]')",
            FAILED,
        )
    except (StorageUriError, RunDirectoryError, FileExistsError) as error:
        return _told(str(error), USAGE)
    except ConnectionError as error:
        return _told(str(error), UNREACHABLE)
    except UnwrittenError as error:
        return _told(str(error), FAILED)
    except ValueError as error:
        from search_spaces import SpaceError
        from sweeps.config_messages import ConfigError

        if not isinstance(error, ConfigError | SpaceError):
            raise
        return _told(str(error), USAGE)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(STOPPED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sweeps.jobs.driver", description=__doc__)
    parser.add_argument("--id", required=True)
    parser.add_argument("--attempt", required=True)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--import-path", nargs="*", default=[], type=Path)
    parser.add_argument("--address", default="auto")
    return parser


def _told(message: str, code: int) -> int:
    say(message)
    return code


def _drive(given: argparse.Namespace) -> int:
    store = Store(given.storage).under(given.id)
    import_path = [str(_ROOT / folder) for folder in given.import_path]
    sys.path[:0] = import_path
    lease = Lease(Store(given.storage, tries=1).under(given.id), say)
    with tempfile.TemporaryDirectory(prefix="tracerank-") as scratch:
        run = RunDirectory(Path(scratch) / given.id)
        keeper = Keeper(run, store, lease, given.id, given.attempt)
        with keeper.keeping():
            try:
                return _sweep(given, run, import_path, keeper)
            except RunDirectoryError as error:
                # The folder here is gone by the time that this is read.
                told = str(error).replace(str(run.path), store.uri)
                raise RunDirectoryError(told) from None


def _configured(given: argparse.Namespace, run: RunDirectory) -> SweepConfig:
    """The configuration of the sweep in ``run``, which is made if there is none; a job that goes on
    with one may ask for more trials, and for other resources and limits.

    Raises RunDirectoryError if it asks for another sweep than there is: the cluster that knew what
    the id stands for may be gone.
    """
    from sweeps.api import resolve
    from sweeps.config import require_ready
    from sweeps.selection import read_trials
    from sweeps.sweep import create
    from trace_core.durable import write_atomically

    settings, _ = resolve(_ROOT / given.config)
    require_ready(settings, given.config)
    if not run.configuration.exists():
        create(settings, run.path, [])
        return settings
    there = len(read_trials(run, settings))
    if there > settings.trials:
        raise RunDirectoryError(
            f"{given.id}: got {settings.trials} trials, and {there} are stored: it can be "
            "extended, not cut; give more --trials, or another --id"
        )
    write_atomically(run.configuration, settings.dump().encode())
    return settings


def _sweep(
    given: argparse.Namespace, run: RunDirectory, import_path: list[str], keeper: Keeper
) -> int:
    from sweeps.api import SweepInterrupted, drive_directory, worker_count
    from sweeps.sweep import require_unchanged

    settings = _configured(given, run)
    require_unchanged(run, settings)
    try:
        sweep = drive_directory(
            run,
            settings,
            worker_count(given.workers, settings, given.address),
            given.address,
            import_path,
            on_progress=keeper.progressed,
        )
    except SweepInterrupted as stop:
        return _told(
            f"{str(stop).partition('. ')[0]}; submit it again with the same id to go on", STOPPED
        )
    if (sweep.trials["state"] == "COMPLETE").any():
        _show(sweep)
        return DONE
    reasons = [reason for reason in sweep.trials["reason"] if reason]
    return _told(f"every trial failed; the first: {reasons[0]}" if reasons else "no trial", FAILED)


def _show(sweep: Sweep) -> None:
    """The first models of the ranking, for the log."""
    from rich.console import Console

    from sweeps.terminal import show_ranking

    show_ranking(Console(stderr=True, width=LOG_WIDTH), sweep.results().ranking)


if __name__ == "__main__":
    sys.exit(main())
