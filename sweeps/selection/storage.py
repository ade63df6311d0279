"""Opening the study's storage: a database, or a journal file in the run directory, written by the
sweep's one driver.

Optuna's journal flushes every record to the disk, a dozen a trial, which takes longer than some
trainings. The driver keeps them until `BatchedJournal.flush`, which writes them together: before a
training is begun, and every now and then. A driver killed in between loses what was told since, and
replays; the trainings are stored apart, so that nothing of it costs one.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from sweeps.config_selection import JOURNAL
from sweeps.run_directory import DAMAGE, RunDirectory, RunDirectoryError
from sweeps.selection.database import open_database, reached
from sweeps.selection.place import Place


class BatchedJournal(BaseJournalBackend):
    """The journal file of a study with one writer; what others append meanwhile it doesn't see."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stored: int | None = None
        self._pending: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The records from a number on: those of the file only for the first reader."""
        if self._stored is None:
            kept = list(JournalFileBackend(str(self._path)).read_logs(0))
            self._stored = len(kept)
            return kept[log_number_from:]
        return self._pending[max(0, log_number_from - self._stored) :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Take records down, as they will be read from the file."""
        self._pending += json.loads(json.dumps(logs), object_pairs_hook=_shared)

    def flush(self) -> None:
        """Write what was taken down, durably."""
        if self._pending:
            JournalFileBackend(str(self._path)).append_logs(self._pending)
            self._stored = (self._stored or 0) + len(self._pending)
            self._pending = []


def _shared(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping whose texts are held once, however many records have the same."""
    return {
        sys.intern(key): sys.intern(value) if isinstance(value, str) else value
        for key, value in pairs
    }


def be_quiet() -> None:
    """Do without Optuna's log from now on, and its word that an interface may still change."""
    # Setting it clears what all loggers have cached, which is felt where it is done for each trial.
    if optuna.logging.get_verbosity() != optuna.logging.ERROR:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Not for a while only: putting filters back undoes what other threads set meanwhile.
    ours = ("ignore", None, optuna.exceptions.ExperimentalWarning, None, 0)
    if ours not in warnings.filters:
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


@contextlib.contextmanager
def reading(run: RunDirectory, place: Place) -> Iterator[BaseStorage]:
    """The storage of a run directory, to be read.

    Raises RunDirectoryError if it is damaged, ConnectionError if it can't be reached.
    """
    be_quiet()
    with guarded(run, place):
        if place.storage == JOURNAL:
            yield JournalStorage(JournalFileBackend(str(run.journal)))
            return
        database = open_database(place.storage, make=False)
        try:
            yield database
        finally:
            database.engine.dispose()


class Writing:
    """The storage of a run directory, opened by its one driver.

    Raises RunDirectoryError if it is damaged, ConnectionError if it can't be reached.
    """

    def __init__(self, run: RunDirectory, place: Place) -> None:
        self._journal: BatchedJournal | None = None
        self.storage: BaseStorage
        self._place = place
        be_quiet()
        with guarded(run, place):
            if place.storage == JOURNAL:
                repair_journal(run.journal)
                self._journal = BatchedJournal(run.journal)
                self.storage = JournalStorage(self._journal)
            else:
                self.storage = open_database(place.storage, make=True)
                weakref.finalize(self, self.storage.engine.dispose)

    def reached(self) -> contextlib.AbstractContextManager[None]:
        """Around whatever is asked of the storage: ConnectionError if it can't be reached."""
        return contextlib.nullcontext() if self._journal else reached(self._place.storage)

    def flush(self) -> None:
        """Write to the disk what a journal took down; a database has written it."""
        if self._journal is not None:
            self._journal.flush()


@contextlib.contextmanager
def guarded(run: RunDirectory, place: Place) -> Iterator[None]:
    """RunDirectoryError in place of what a damaged storage raises when it is opened,
    ConnectionError where it can't be reached.
    """
    if place.storage != JOURNAL:
        with reached(place.storage):
            yield
        return
    try:
        yield
    # Optuna asserts that it knows every kind of record.
    except (*DAMAGE, AssertionError) as error:
        raise RunDirectoryError(
            f"{run.journal}: not the journal of an Optuna study, or damaged ({error}); "
            "put an undamaged copy in its place"
        ) from None


def repair_journal(path: Path) -> None:
    """Mend what a killed writer left: a torn last line, and the lock it held. Call it as the one
    driver.

    Optuna would wait 30 s for the dead lock, and raise at the first ask behind a torn line.
    """
    for lock in path.parent.glob(f"{path.name}.lock*"):
        lock.unlink(missing_ok=True)
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
