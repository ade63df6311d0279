"""Opening the study's storage: a database, or a journal file in the run directory, written by the
sweep's one driver.

The driver keeps what a journal takes down until it is flushed: before a training is begun, and
every now and then. A driver killed in between loses what was told since, and replays; the trainings
are stored apart, so that nothing of it costs one.
"""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage

from sweeps.config_selection import JOURNAL
from sweeps.run_directory import DAMAGE, RunDirectory, RunDirectoryError, doctor_command
from sweeps.selection.database import open_database, reached
from sweeps.selection.distributions import share_distributions
from sweeps.selection.journal import BatchedJournal, ChainedJournal, ChainError
from sweeps.selection.place import Place
from trace_core.durable import owners


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
    share_distributions()
    with guarded(run, place):
        if place.storage == JOURNAL:
            yield JournalStorage(ChainedJournal(run.journal))
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
        self._run, self._place = run, place
        be_quiet()
        with guarded(run, place):
            if place.storage == JOURNAL:
                repair_journal(run.journal)
                # Optuna would make it with whatever the umask allows to others.
                open(run.journal, "ab", opener=owners).close()
                share_distributions()
                self._journal = BatchedJournal(run.journal)
                self.storage = JournalStorage(self._journal)
            else:
                self.storage = open_database(place.storage, make=True)
                weakref.finalize(self, self.storage.engine.dispose)

    def reached(self) -> contextlib.AbstractContextManager[None]:
        """Around whatever is asked of the storage: ConnectionError if it can't be reached."""
        return contextlib.nullcontext() if self._journal else reached(self._place.storage)

    def flush(self) -> None:
        """Write to the disk what a journal took down; a database has written it.

        Raises OSError if it can't be written, which may be tried again, and RunDirectoryError if
        the journal was changed meanwhile.
        """
        if self._journal is None:
            return
        try:
            self._journal.flush()
        except ChainError as error:
            raise RunDirectoryError(
                f"{self._run.journal}: was changed while the sweep wrote it ({error}); "
                f"see what can be had with: {doctor_command(self._run.path)}"
            ) from None


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
            f"see what can be had with: {doctor_command(run.path)}"
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
