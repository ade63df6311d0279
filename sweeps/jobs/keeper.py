"""The driver's side of the storage: brings what an earlier driver left, and from then on keeps the
storage up to date.

It works in threads of its own, beside the sweep: one gives the signs of life of the `Lease`, the
other pushes the `Mirror` about once a second, tells how far the sweep is, and looks whether it is
asked to stop. Nothing is written while the lease may be another driver's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from sweeps.jobs.layout import PROGRESS, STOP
from sweeps.jobs.lease import Lease, LostError
from sweeps.jobs.mirror import Mirror, pull
from sweeps.jobs.store import Store
from sweeps.run_directory import RunDirectory

if TYPE_CHECKING:
    from sweeps.conductor import Progress

MIRROR_SECONDS = 1.0
"""Between two pushes, and so most of what the loss of the driver takes of what had ended."""

SHARE = 0.05
"""Most of the time that goes into looking for what is to be pushed."""

PATIENCE_SECONDS = 300.0
"""How long a driver that is done tries to reach a storage that doesn't answer."""


def say(message: str) -> None:
    """Write a line to the job's log."""
    print(f"tracerank: {message}", file=sys.stderr, flush=True)


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
                    say("the storage answers again")
                self._silent = False
            except OSError as error:
                if not self._silent:
                    say(f"{error}; the sweep goes on, and tries again")
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
            say("asked to stop")
            os.kill(os.getpid(), signal.SIGTERM)
        # Whatever it was for, it is done with.
        self._store.remove(STOP)
