"""The process that drives a sweep in a cluster: the entrypoint of the job.

It works in a folder on its own disk, which is pulled from the storage if an earlier driver left a
sweep there, and mirrored to it about once a second from then on. A client asks it to end by a file
in the storage. Nothing but what is in the storage outlives it, and nothing else needs to.

Ends with the codes of the command line: 0 done, 1 failed, 2 a configuration or a run directory that
can't be worked with (another driver works on it, say), 3 stopped, 5 the storage can't be reached or
another driver has taken the sweep over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sweeps.exit_codes import DONE, FAILED, STOPPED, UNREACHABLE, USAGE
from sweeps.jobs.layout import PROGRESS, STOP
from sweeps.jobs.lease import Lease, LostError
from sweeps.jobs.mirror import Mirror, pull
from sweeps.jobs.store import StorageUriError, Store
from sweeps.run_directory import RunDirectory, RunDirectoryError

if TYPE_CHECKING:
    from sweeps.conductor import Progress
    from sweeps.config import SweepConfig
    from sweeps.handle import Sweep

MIRROR_SECONDS = 1.0
"""Between two pushes, and so most of what the loss of the driver takes of what had ended."""

SHARE = 0.05
"""Most of the time that goes into looking for what is to be pushed."""

PATIENCE_SECONDS = 300.0
"""How long a driver that is done tries to reach a storage that doesn't answer."""

LOG_WIDTH = 120
"""Columns of the tables in the job's log."""

_ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Drive the sweep that the arguments name; returns the exit code."""
    given = _parser().parse_args(arguments)
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


def _say(message: str) -> None:
    """To the job's log."""
    print(f"tracerank: {message}", file=sys.stderr, flush=True)


def _told(message: str, code: int) -> int:
    _say(message)
    return code


def _drive(given: argparse.Namespace) -> int:
    store = Store(given.storage).under(given.id)
    import_path = [str(_ROOT / folder) for folder in given.import_path]
    sys.path[:0] = import_path
    lease = Lease(Store(given.storage, tries=1).under(given.id), _say)
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
    from sweeps.selection import read_trials
    from sweeps.sweep import create
    from trace_core.durable import write_atomically

    settings, _ = resolve(_ROOT / given.config)
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

    settings = _configured(given, run)
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


class Keeper:
    """Keeps the storage up to date while the sweep goes on, in threads of its own; for the main
    thread.
    """

    def __init__(
        self, run: RunDirectory, store: Store, lease: Lease, job: str, attempt: str
    ) -> None:
        self._store, self._lease = store, lease
        self._attempt = attempt
        self._mirror: Mirror | None = None
        self._run = run
        self._told = {"id": job, "attempt": attempt}
        self._progress: Progress | None = None
        self._shown: dict[str, object] = {}
        self._over = threading.Event()
        self._patience = PATIENCE_SECONDS
        self._finished = False
        self._silent = False
        self._lost = ""

    def progressed(self, progress: Progress) -> None:
        """What to tell of the sweep from now on; called very often."""
        self._progress = progress

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """First brings what an earlier driver left, if there is anything; keeps it meanwhile, and
        brings the storage up to the end.

        Raises LostError if another driver has taken the sweep over.
        """
        beating, keeping = (
            threading.Thread(target=target, daemon=True) for target in (self._beat, self._keep)
        )
        beating.start()
        try:
            self._pull()
            keeping.start()
            yield
        finally:
            # Asked to end from here on, that is what we do; but don't wait for the storage.
            signal.signal(signal.SIGTERM, self._hurry)
            self._over.set()
            if keeping.ident is not None:
                keeping.join()
            try:
                self._finish()
            finally:
                self._finished = True
                beating.join()
            if self._lost:
                raise LostError(f"{self._lost}: this one ends, and has written nothing since")
            # Else the next driver waits a while.
            with contextlib.suppress(OSError):
                self._lease.release()

    def _hurry(self, number: int, frame: FrameType | None) -> None:
        self._patience = 0.0

    def _pull(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            pull(self._store, self._run.path)
            self._mirror = self._mirrored()

    def _mirrored(self) -> Mirror:
        return Mirror(self._run.path, self._store, self._lease.require)

    def _beat(self) -> None:
        """Until the last file is written."""
        while not self._finished and not self._lost:
            try:
                self._lease.beat()
            except LostError as error:
                self._lost = str(error)
                os.kill(os.getpid(), signal.SIGTERM)
            except OSError:
                pass  # the mirror tells of it
            time.sleep(0.5)

    def _keep(self) -> None:
        wait = MIRROR_SECONDS
        while not self._over.wait(wait) and not self._lost:
            busy = time.thread_time()
            try:
                self._push()
                self._tell("running" if self._progress else "starting")
                self._stop_if_asked()
                if self._silent:
                    _say("the storage answers again")
                self._silent = False
            except OSError as error:
                if not self._silent:
                    _say(f"{error}; the sweep goes on, and tries again")
                self._silent = True
            wait = max(MIRROR_SECONDS, (time.thread_time() - busy) / SHARE)

    def _push(self) -> None:
        # After a silence that others may have taken for our end, a beat has to tell first.
        self._lease.require()
        if self._mirror is None and self._run.configuration.exists():
            self._mirror = self._mirrored()
        if self._mirror is not None:
            self._mirror.push()

    def _finish(self) -> None:
        begun = time.monotonic()
        while not self._lost:
            try:
                self._push()
                if self._mirror is not None:
                    self._mirror.close()
                self._tell("ended")
                self._store.remove(STOP)
                return
            except OSError:
                if not self._run.configuration.exists():
                    return  # there is nothing to lose
                if time.monotonic() - begun >= self._patience:
                    raise
                time.sleep(MIRROR_SECONDS)

    def _tell(self, state: str) -> None:
        told: dict[str, object] = {**self._told, "state": state}
        progress = self._progress
        if progress is not None:
            for name in ("target", "done", "failed", "pruned", "replayed", "trained", "running"):
                told[name] = getattr(progress, name)
            told["best"] = progress.best
        if state == "ended":
            told["running"] = 0
        if told != self._shown:
            self._lease.require()
            self._store.write(PROGRESS, json.dumps(told | {"time": time.time()}).encode())
            self._shown = told

    def _stop_if_asked(self) -> None:
        asked = self._store.told(STOP)
        if asked is None:
            return
        if asked.get("attempt") == self._attempt:
            _say("asked to stop")
            os.kill(os.getpid(), signal.SIGTERM)
        # Whatever it was for, it is done with.
        self._store.remove(STOP)


if __name__ == "__main__":
    sys.exit(main())
