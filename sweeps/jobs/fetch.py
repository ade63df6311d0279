"""Bringing the run directory of a job here, or up to date here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.jobs.errors import JobError, JobNotFoundError
from sweeps.jobs.layout import PROGRESS
from sweeps.jobs.mirror import pull
from sweeps.jobs.store import Store
from sweeps.run_directory import DAMAGE, RunDirectory, write_json

MARK = "job.json"
"""The file in a fetched run directory that says which job it is of."""


@dataclass(frozen=True)
class Fetched:
    """Where the run directory is, the bytes that were copied of its files, and whether its driver
    had ended by what the storage tells.
    """

    path: Path
    copied: int
    ended: bool


def fetch(
    job_id: str,
    storage: str,
    out: Path,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Fetched:
    """Copy what is missing here, or differs, of the job's run directory in ``storage``.

    ``on_progress`` is given the bytes that were copied, and those there are to copy. Raises
    JobNotFoundError if the storage has none, JobError if ``out`` holds anything else or was worked
    on since, StorageError, and OSError where it can't be written.
    """
    store = Store(storage).under(job_id)
    run = RunDirectory(out)
    _check_place(run, job_id, store.uri)
    if not store.exists("sweep.yaml"):
        raise JobNotFoundError(
            f"{job_id}: there is no run directory at {store.uri}; a job writes it when it starts. "
            "Where the cluster has its storage elsewhere than this machine, give it with --storage"
        )
    progress = store.told(PROGRESS)
    ended = progress is None or progress.get("state") == "ended"
    mark: dict[str, Any] = {"id": job_id, "storage": store.uri, "journal": None}
    write_json(run.path / MARK, mark)
    copied = pull(store, run.path, on_progress)
    # Until the journal's hash is there, whatever is here may be half of what is to come.
    write_json(run.path / MARK, mark | {"journal": _hash(run.journal)})
    return Fetched(run.path, copied, ended)


def _check_place(run: RunDirectory, job_id: str, uri: str) -> None:
    path, other = run.path, "give another folder with --out"
    if not path.exists():
        return
    if not path.is_dir():
        raise JobError(f"{path}: is a file; {other}")
    if not any(path.iterdir()):
        return
    run.require_plain()
    try:
        mark = json.loads((path / MARK).read_text())
        known, journal = (mark["id"], mark["storage"]), mark["journal"]
    except FileNotFoundError:
        raise JobError(f"{path}: there is something here that was not fetched; {other}") from None
    except DAMAGE:
        raise JobError(f"{path / MARK}: is damaged; {other}") from None
    if known != (job_id, uri):
        raise JobError(f"{path}: holds job {known[0]} of {known[1]}; {other}")
    if run.driven:
        raise JobError(f"{path}: a sweep is running in it; wait for it, or {other}")
    if journal is not None and _hash(run.journal) != journal:
        raise JobError(f"{path}: was gone on with here since it was fetched; {other}")


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""
