"""Where a run directory's study is: in its own journal file, or under a name of its own in a
database that many sweeps share.

The name has a random part, and is kept in the run directory before the driver makes the study; so
two sweeps of one configuration never meet, and whoever reads a run directory needs nothing else to
find its study.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass

from sweeps.config import SweepConfig
from sweeps.config_selection import JOURNAL, checked_storage
from sweeps.run_directory import DAMAGE, RunDirectory, RunDirectoryError, doctor_command
from sweeps.sealed import read_sealed, write_sealed

IN_JOURNAL = "tracerank"
"""The name of the study in a journal, which holds no other."""


@dataclass(frozen=True)
class Place:
    """A storage, as the configuration names it, and the study's name in it."""

    storage: str
    study: str


def place_of(run: RunDirectory, config: SweepConfig | None = None) -> Place | None:
    """Where the study of a run directory is; None if it has none yet.

    Raises RunDirectoryError if the file that says so is damaged, or ``config`` names another
    storage.
    """
    place = _read(run)
    if place is not None and config is not None and config.storage != place.storage:
        raise RunDirectoryError(
            f"{run.configuration}: storage changed since the sweep began; put it back to "
            f"{place.storage}, or begin another sweep"
        )
    return place


def new_place(config: SweepConfig) -> Place:
    """Where the driver of a new sweep makes its study."""
    if config.storage == JOURNAL:
        return Place(JOURNAL, IN_JOURNAL)
    return Place(config.storage, f"{config.name}-{secrets.token_hex(6)}")


def keep_place(run: RunDirectory, place: Place) -> None:
    """Write down where the study is to be; a journal says so by being there."""
    if place.storage != JOURNAL and not run.study.exists():
        write_sealed(run.study, asdict(place))


def _read(run: RunDirectory) -> Place | None:
    try:
        place = Place(**read_sealed(run.study))
        if checked_storage(place.storage) == JOURNAL or not isinstance(place.study, str):
            raise ValueError("it names no study in a database")
    except FileNotFoundError:
        return Place(JOURNAL, IN_JOURNAL) if run.journal.exists() else None
    except DAMAGE as error:
        raise RunDirectoryError(
            f"{run.study}: does not say where the study is, or is damaged ({error}); "
            f"see what can be had with: {doctor_command(run.path)}"
        ) from None
    return place
