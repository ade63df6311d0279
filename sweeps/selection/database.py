"""A study in a database: its connection, and what is said when it can't be reached."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from sweeps.run_directory import RunDirectoryError

CONNECT_SECONDS = 10
"""How long a server may take to answer."""

LOCKED_SECONDS = 60
"""How long another writer of an SQLite file is waited for."""

MAKING_ATTEMPTS = 5
"""Sweeps that begin at once in an empty database may each try to make its tables."""


@contextlib.contextmanager
def reached(storage: str) -> Iterator[None]:
    """One message in place of a database's error.

    Raises ConnectionError if it can't be reached, RunDirectoryError if it holds something else.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        said = " ".join(str(getattr(cause, "orig", None) or cause).split())
        if isinstance(cause, OperationalError | InterfaceError):
            raise ConnectionError(f"storage {storage} cannot be reached: {said}") from None
        raise RunDirectoryError(
            f"storage {storage}: not a database of Optuna's, or damaged ({said})"
        ) from None


def open_database(storage: str, *, make: bool) -> RDBStorage:
    """The database that a configuration's ``storage`` names, its tables made if they may be."""
    url = make_url(storage)
    if url.get_backend_name() == "sqlite" and not make and not Path(url.database or "").exists():
        raise ConnectionError(f"storage {storage} cannot be reached: there is no such file")
    attempts = MAKING_ATTEMPTS if make else 1
    for attempt in range(attempts):
        try:
            return _connected(url, make)
        except (IntegrityError, ProgrammingError):
            if attempt == attempts - 1:
                raise
            time.sleep(0.2)
        except RuntimeError as error:
            raise RunDirectoryError(f"storage {storage}: {error}") from None
    raise AssertionError


def _connected(url: URL, make: bool) -> RDBStorage:
    options: dict[str, Any]
    if url.get_backend_name() == "sqlite":
        options = {"timeout": LOCKED_SECONDS}
    else:
        url = url.set(drivername="postgresql+psycopg")
        options = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}
        if not make and "PGREQUIREAUTH" not in os.environ:
            # A run directory of somebody else's may name any server, which shall not be told this
            # reader's password. Who has one that asks for it in clear sets PGREQUIREAUTH.
            options["require_auth"] = "!password"
    return RDBStorage(
        url.render_as_string(hide_password=False),
        # A server may have closed a connection that lay idle while models trained.
        engine_kwargs={"connect_args": options, "pool_pre_ping": True},
        skip_table_creation=not make,
    )
