"""Sending a job: what goes there, and what of it is there already."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.jobs.client import Cluster, check_versions
from sweeps.jobs.errors import JobError, JobNotFoundError, size
from sweeps.jobs.job import SUCCEEDED, Job, checked_id, entrypoint, metadata, submission_id
from sweeps.jobs.named import named_files
from sweeps.jobs.package import CONFIGURATION, Package, pack
from sweeps.jobs.store import StorageError, Store, checked_uri

if TYPE_CHECKING:
    from sweeps.config import SweepConfig

_MAY_CHANGE = ("trials", "workers", "resources", "limits")
"""Keys of a configuration in which a later attempt may differ."""
_TRIES = 3


@dataclass(frozen=True)
class Submitted:
    """The job, whether it was sent just now, and what to tell people."""

    job: Job
    sent: bool
    words: str


def submit(
    cluster: Cluster,
    config: str | Path,
    *,
    job_id: str | None = None,
    storage: str | None = None,
    usual_storage: str | None = None,
    trials: int | None = None,
    workers: int | None = None,
    seed: int | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    note: Callable[[str], None] = lambda text: None,
) -> Submitted:
    """Have a cluster run what the file ``config`` describes, once per ``job_id``.

    Asked for again while it runs, or after it succeeded, nothing is sent. After it failed or was
    stopped the next attempt goes on from what is stored; and after it succeeded, if more trials are
    asked for. ``usual_storage`` is where it is kept if neither ``storage`` nor an earlier attempt
    says so. ``note`` is told what people should know on the way.

    Raises ConfigError, SpaceError for a file that isn't there, JobError for arguments that can't
    be, UnreachableError and RefusedError.
    """
    from sweeps.api import resolve

    settings, folders = resolve(config, trials=trials, seed=seed)
    given = job_id and checked_id(job_id)
    place = storage and _checked_storage(storage, cluster, note)
    if settings.warm_start:
        note("warm_start: its run directories must be where the cluster finds them by that path")
    named = named_files(settings)
    named.tell_nodes(note)
    check_versions(cluster, note)
    sending = _Sending(cluster, settings, workers)
    package: Package | None = None
    chosen = given or new_id(settings.name)
    for _ in range(_TRIES):
        earlier = _earlier(cluster, chosen) if given else None
        done = sending.answered_by(earlier, place)
        if done is not None:
            return done
        if not place and earlier is not None:
            place = earlier.storage
        elif not place and usual_storage:
            place = _checked_storage(usual_storage, cluster, note)
        if not place:
            raise JobError(
                "a job needs a storage that the cluster and this machine reach: give a folder or "
                "a URI (s3://bucket/folder) with --storage, or in TRACERANK_STORAGE"
            )
        if package is None:
            package = pack(settings.dump(), folders, include, exclude, note, named.relative)
            note(f"{chosen}: {_upload(cluster, package)}")
        attempt = 1 if earlier is None else earlier.attempt + 1
        if sending.send(chosen, attempt, place, package):
            job = cluster.job(chosen)
            if job.config == sending.fingerprint:
                words = "is submitted" if attempt == 1 else f"goes on, in attempt {attempt}"
                return Submitted(job, True, f"{chosen} {words}")
        elif earlier is None and _earlier(cluster, chosen) is None:
            break
        given = chosen
    raise JobError(f"id: {chosen!r} is taken on this cluster by what is no job of tracerank's")


def new_id(name: str) -> str:
    """NAME-TIME-RANDOM."""
    short = re.sub("-{2,}", "-", name)[:64].rstrip("-")
    return f"{short}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def fingerprint(settings: SweepConfig) -> str:
    """The same for the configurations of which one may go on with what the other began."""
    kept = {key: value for key, value in settings.resolved().items() if key not in _MAY_CHANGE}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class _Sending:
    """One configuration, to be sent or found."""

    def __init__(self, cluster: Cluster, settings: SweepConfig, workers: int | None) -> None:
        self._cluster = cluster
        self._settings = settings
        self._workers = workers
        self.fingerprint = fingerprint(settings)

    def answered_by(self, job: Job | None, storage: str | None) -> Submitted | None:
        """The answer where nothing has to be sent.

        Raises JobError where the id is that of another job.
        """
        if job is None:
            return None
        trials = self._settings.trials
        if job.config != self.fingerprint:
            raise JobError(
                f"{job.id}: is a job of another configuration ({job.state}); give another --id, or "
                "none"
            )
        if storage is not None and storage != job.storage:
            raise JobError(
                f"{job.id}: its storage is {job.storage}, not {storage}; leave out --storage, or "
                "give another --id"
            )
        if trials < job.trials:
            raise JobError(
                f"{job.id}: got {trials} trials, less than the {job.trials} it was given: it can "
                f"be extended, not cut (--trials {job.trials} goes on with it as it is)"
            )
        if not job.over:
            if trials > job.trials:
                raise JobError(
                    f"{job.id}: is running already, with {job.trials} trials; when it has ended, "
                    f"submit it again with --trials {trials}"
                )
            return Submitted(job, False, f"{job.id} is running already ({job.state})")
        if job.state == SUCCEEDED and trials == job.trials:
            return Submitted(
                job,
                False,
                f"{job.id} has succeeded already, so nothing was sent; --trials N extends it",
            )
        return None

    def send(self, job_id: str, attempt: int, storage: str, package: Package) -> bool:
        """False if somebody was faster."""
        name = submission_id(job_id, attempt)
        settings = self._settings
        return self._cluster.submit(
            {
                "entrypoint": entrypoint(
                    job_id, name, storage, CONFIGURATION, package.import_path, self._workers
                ),
                "submission_id": name,
                "metadata": metadata(
                    job_id, storage, settings.name, self.fingerprint, settings.trials
                ),
                # Never env_vars: whoever may list jobs reads them.
                "runtime_env": {"working_dir": f"gcs://{package.name}"},
            }
        )


def _earlier(cluster: Cluster, job_id: str) -> Job | None:
    try:
        return cluster.job(job_id)
    except JobNotFoundError:
        return None


def _checked_storage(storage: str, cluster: Cluster, note: Callable[[str], None]) -> str:
    """Its address in full. That we don't reach it is no reason for the cluster not to."""
    uri = checked_uri(storage)
    try:
        Store(uri)
    except StorageError as error:
        note(f"{error}: from here, that is; the job may reach it, 'tracerank fetch' here won't")
    if "://" not in uri and not cluster.address.loopback:
        note(f"storage {uri}: must be a folder that the cluster's nodes share with this machine")
    return uri


def _upload(cluster: Cluster, package: Package) -> str:
    if cluster.has_package(package.name):
        return f"the cluster has its {package.files} files already"
    cluster.send_package(package.name, package.data)
    return f"sent {package.files} files, {size(len(package.data))} packed"
