"""The loggers of a sweep at work: each in a thread of its own, so that the sweep never waits.

A logger is handed trials that the study has stored, one at a time. What was told and not yet logged
when the driver ended, however it did, is logged when the sweep is driven again; nothing is logged
twice (`sweeps.loggers.marker`).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import queue
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

from sweeps.config import LOGGERS, SweepConfig
from sweeps.config_messages import ConfigError
from sweeps.loggers.logged_trial import Logger, logged_trial
from sweeps.loggers.marker import Marker
from sweeps.run_directory import RunDirectory

if TYPE_CHECKING:
    from sweeps.selection import StudyTrial

PATIENCE_SECONDS = 60.0
"""How long a finished sweep waits for a logger that gets no trial done."""

INTERRUPTED_SECONDS = 5.0
"""How long an interrupted sweep waits for the trial that a logger has in hand."""

NOTICE_SECONDS = 5.0
"""How long a finished sweep waits for a logger without a word."""

_log = logging.getLogger("tracerank")


def require_loggers(config: SweepConfig, source: str) -> None:
    """Whether the packages of the configuration's loggers are installed.

    Raises ConfigError, naming ``source``, if one is missing. A stored sweep is read without them.
    """
    missing = [name for name in config.loggers if not _installed(name)]
    if missing:
        raise ConfigError(
            source,
            [
                f"loggers: {name} needs a package that isn't installed; "
                f"install it with: pip install 'tracerank[{name}]'"
                for name in missing
            ],
        )


def _installed(package: str) -> bool:
    spec = find_spec(package)
    # A folder of the same name, as W&B leaves wherever it is used, passes for a package.
    return spec is not None and spec.origin is not None


def open_logger(name: str, run: RunDirectory, config: SweepConfig, sweep: str) -> Logger:
    """The logger of a name in `LOGGERS`; what it needs is imported now."""
    assert name in LOGGERS
    module = importlib.import_module(f"sweeps.loggers.{name}_logger")
    logger: Logger = module.open_logger(run, config, sweep)
    return logger


class Logbook:
    """Hands told trials to every logger of the configuration. For the directory's one driver."""

    def __init__(self, run: RunDirectory, config: SweepConfig) -> None:
        self._scribes = [_Scribe(name, run, config) for name in config.loggers]

    def told(self, trial: StudyTrial) -> None:
        """Have a trial logged where it isn't yet; returns at once."""
        for scribe in self._scribes:
            scribe.told(trial)

    def finish(self) -> None:
        """Wait until all that was told is logged; a KeyboardInterrupt leaves the rest for the next
        time.
        """
        with contextlib.suppress(KeyboardInterrupt):
            self._wait(PATIENCE_SECONDS, finish=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for the trials in hand alone."""
        try:
            self._wait(INTERRUPTED_SECONDS, finish=False)
        finally:
            for scribe in self._scribes:
                scribe.abandon()

    def _wait(self, patience: float, *, finish: bool) -> None:
        for scribe in self._scribes:
            scribe.close(finish=finish)
        for scribe in self._scribes:
            scribe.wait(patience)


class _Scribe:
    """One logger, its thread and its queue. The thread begins with the first trial to log."""

    def __init__(self, name: str, run: RunDirectory, config: SweepConfig) -> None:
        self._name = name
        self._run = run
        self._config = config
        self._marker = Marker(run.logged(name))
        self._queue: queue.SimpleQueue[StudyTrial | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"tracerank-{name}", daemon=True)
        # Thread.join won't do: a KeyboardInterrupt in it leaves a live thread that says it ended.
        self._ended = threading.Event()
        self._logged = 0
        self._failed = False
        self._stopping = False
        self._abandoned = False

    def told(self, trial: StudyTrial) -> None:
        if self._failed or trial.number in self._marker.ended:
            return
        self._queue.put(trial)
        if not self._thread.ident:
            self._thread.start()

    def close(self, *, finish: bool) -> None:
        self._stopping = not finish
        self._queue.put(None)

    def wait(self, patience: float) -> None:
        """Until the thread has ended, or has logged nothing for ``patience`` seconds."""
        if not self._thread.ident:
            return
        seen, since = -1, 0.0
        notice = time.monotonic() + NOTICE_SECONDS
        while not self._ended.wait(0.1):
            if not self._stopping and time.monotonic() > notice:
                notice = math.inf
                _log.warning(
                    "%s has about %d trials to log yet; Ctrl-C leaves them to: tracerank resume %s",
                    *(self._name, self._queue.qsize(), self._run.path),
                )
            if self._logged != seen:
                seen, since = self._logged, time.monotonic()
            elif time.monotonic() - since > patience:
                self._warn(f"nothing logged for {patience:.0f} s")
                return

    def abandon(self) -> None:
        """A thread that still runs marks nothing any more: the directory may get another driver."""
        self._abandoned = True

    def _work(self) -> None:
        try:
            self._log_all()
        # Whatever a tracking service or its client does, the sweep goes on.
        except Exception as error:
            self._failed = True
            if not self._abandoned:
                first = str(error).strip().partition("\n")[0].rstrip(".")
                self._warn(f"{type(error).__name__}: {first}")
        finally:
            self._ended.set()

    def _log_all(self) -> None:
        logger = open_logger(self._name, self._run, self._config, self._marker.sweep)
        if self._marker.begun is not None:
            logger.discard(self._marker.begun)
        for trial in iter(self._queue.get, None):
            if self._stopping:
                break
            try:
                gathered = logged_trial(self._run, self._config, trial)
            except FileNotFoundError:
                # Its trainings are being made again; it is logged the next time.
                continue
            self._marker.begin(trial.number)
            logger.log(gathered)
            if self._abandoned:
                return
            self._marker.end(trial.number)
            self._logged += 1
        logger.close()

    def _warn(self, what: str) -> None:
        _log.warning(
            "%s is left out from here on: %s. What it missed is logged by: tracerank resume %s",
            *(self._name, what, self._run.path),
        )
