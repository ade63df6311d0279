"""Opening the storage of a job, with errors as a client tells them."""

from __future__ import annotations

from sweeps.jobs.errors import JobError
from sweeps.jobs.store import StorageUriError, Store


def opened(uri: str) -> Store:
    """The storage. Raises JobError for what can't be one, StorageError where it isn't reached."""
    try:
        return Store(uri)
    except StorageUriError as error:
        raise JobError(str(error)) from None
