"""Who drives the sweep in a storage: one process at a time, whatever became of the last.

A storage has no lock that its holder's death lets go of. So the driver changes a small file every
few seconds, and another one that finds it waits to see whether it still changes: no clocks of two
machines are compared. A driver that finds another's name in the file, or could not change it for as
long as others wait, has lost the sweep, and must not write any more.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable

from sweeps.jobs.layout import DRIVER
from sweeps.jobs.store import StorageError, Store
from sweeps.run_directory import RunDirectoryError

BEAT_SECONDS = 4.0
"""Between two signs of life."""

SILENT_SECONDS = 20.0
"""After which a driver that gives no sign of life is taken for dead."""


class LostError(ConnectionError):
    """Another driver has taken the sweep over, or may have."""


class Lease:
    """The right to write a sweep's run directory in ``store``, held from now to `release`.

    Waits for a silent driver to be taken for dead; ``waiting`` is told so. Raises RunDirectoryError
    if another driver is alive, and StorageError where the storage can't be reached. A write to
    ``store`` must not take longer than others wait: a late one would undo the next driver's.
    """

    def __init__(
        self,
        store: Store,
        waiting: Callable[[str], None] = lambda message: None,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._store = store
        self._silent = silent_seconds
        self._holder = secrets.token_hex(8)
        self._beats = 0
        found = self._store.told(DRIVER)
        if found is not None:
            waiting(
                "a driver of this sweep ended without a word, or still works: waiting "
                f"{silent_seconds:.0f} s for a sign of life"
            )
            self._wait(found)
        self._beat()

    def beat(self) -> None:
        """Give a sign of life, if it is time to.

        Raises LostError if the sweep is another driver's, StorageError where the storage can't be
        reached just now.
        """
        now = time.monotonic()
        if now - self._last < min(BEAT_SECONDS, self._silent / 5):
            return
        found = self._store.told(DRIVER)
        if found is None or found.get("holder") != self._holder:
            raise LostError("another driver has taken this sweep over")
        self._beat()

    @property
    def held(self) -> bool:
        """Whether no other driver can have taken the sweep over by now."""
        return time.monotonic() - self._last < self._silent / 2

    def require(self) -> None:
        """Before anything is written: raises StorageError if it isn't ``held``."""
        if not self.held:
            raise StorageError(
                f"storage {self._store.uri} was out of reach for so long that another driver may "
                "have taken this sweep over"
            )

    def release(self) -> None:
        """Let the next driver begin at once."""
        found = self._store.told(DRIVER)
        if found is not None and found.get("holder") == self._holder:
            self._store.remove(DRIVER)

    def _beat(self) -> None:
        begun = time.monotonic()
        self._beats += 1
        text = json.dumps({"holder": self._holder, "beats": self._beats})
        self._store.write(DRIVER, text.encode())
        self._last = begun

    def _wait(self, found: dict[str, object]) -> None:
        until = time.monotonic() + self._silent
        while time.monotonic() < until:
            time.sleep(min(1.0, self._silent / 10))
            now = self._store.told(DRIVER)
            if now is None:
                return
            if now != found:
                raise RunDirectoryError(
                    f"{self._store.uri}: another driver works on this sweep; wait for it, or stop "
                    "it first"
                )
