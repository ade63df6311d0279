"""Waiting for a job to end, over the times in which its cluster or storage doesn't answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sweeps.jobs.client import Cluster
from sweeps.jobs.errors import UnreachableError
from sweeps.jobs.job import Job
from sweeps.jobs.layout import PROGRESS

PATIENCE_SECONDS = 300.0
"""How long a cluster that answered once may be silent: a dashboard that is started anew, say."""

_SHORTEST, _LONGEST = 0.5, 2.0
_Answer = TypeVar("_Answer")


class Patience:
    """Asks a cluster that may be silent for a while; ``note`` is told of it once."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._since: float | None = None

    def ask(self, question: Callable[[], _Answer]) -> _Answer | None:
        """Its answer, or None where it is silent just now. Raises UnreachableError at last."""
        try:
            answer = question()
        except UnreachableError as error:
            self.failed(error)
            return None
        self.answered()
        return answer

    def answered(self) -> None:
        """It is there."""
        if self._since is not None:
            self._note("the cluster answers again")
        self._since = None

    def failed(self, error: UnreachableError) -> None:
        """It is silent. Raises ``error`` if it has been for too long."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._note(f"{error}; trying again for {PATIENCE_SECONDS:.0f} s")
        elif now - self._since > PATIENCE_SECONDS:
            raise error


def wait(
    cluster: Cluster,
    job: Job,
    note: Callable[[str], None],
    *,
    timeout: float | None = None,
    show: Callable[[Job], None] = lambda job: None,
) -> Job:
    """The job once it has ended, or as it is after ``timeout`` seconds.

    Raises JobNotFoundError if it is deleted meanwhile, UnreachableError if the cluster is silent
    for PATIENCE_SECONDS.
    """
    until = None if timeout is None else time.monotonic() + timeout
    asking = Patience(note)
    pause = _SHORTEST
    while True:
        show(job)
        if job.over:
            return job
        left = pause if until is None else until - time.monotonic()
        if left <= 0:
            return job
        time.sleep(min(pause, left))
        pause = min(pause * 1.2, _LONGEST)
        job = asking.ask(lambda: cluster.latest(job)) or job  # noqa: B023  (asked at once)


class ProgressReader:
    """What the driver of a job tells of it in its storage, read beside all else: the storage may
    be slow, or out of our reach.
    """

    def __init__(self, storage: str, job_id: str) -> None:
        self._storage, self._id = storage, job_id
        self._told: dict[str, Any] | None = None
        self._over = threading.Event()
        self._first = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> ProgressReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def of(self, attempt: str, patience: float = 0.0) -> dict[str, Any] | None:
        """What was told last of an attempt, if anything; waited for if it is the first time."""
        if patience:
            self._first.wait(patience)
        told = self._told
        return told if told is not None and told.get("attempt") == attempt else None

    def _read(self) -> None:
        from sweeps.jobs.store import Store

        failures = 0
        store = None
        while failures < 3:
            try:
                # Python's end waits for what was asked; and we ask again anyway.
                store = store or Store(self._storage, tries=1).under(self._id)
                # Nothing before its driver has begun.
                self._told = store.told(PROGRESS) or self._told
                failures = 0
            # Whatever a storage that isn't ours raises: there is no progress to show, then.
            except Exception:
                failures += 1
            self._first.set()
            if self._over.wait(_LONGEST):
                return
        self._told = None
