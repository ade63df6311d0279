"""Ending a job: in order if its storage is in reach, else as Ray does."""

from __future__ import annotations

import json
from collections.abc import Callable

from sweeps.jobs.client import Cluster
from sweeps.jobs.errors import JobError
from sweeps.jobs.job import Job
from sweeps.jobs.layout import DRIVER, PROGRESS, STOP
from sweeps.jobs.store import StorageError, Store
from sweeps.jobs.watch import wait

RAY_SECONDS = 60.0
"""How long Ray may take to end a job: it gives it 3 s before SIGKILL."""


def stop(
    cluster: Cluster,
    job: Job,
    grace: float,
    note: Callable[[str], None],
) -> Job:
    """Ask the driver to stop, and after ``grace`` seconds have Ray end it; the job as it is then.

    Ray's own stop gives it 3 s, too little to store the trainings under way; so it is used at
    once only where the driver can't be asked. Raises UnreachableError, JobNotFoundError.
    """
    if job.over:
        return job
    if grace > 0 and _ask(job, note):
        note(f"asked {job.id} to stop; it may take {grace:.0f} s to store what is under way")
        job = wait(cluster, job, note, timeout=grace)
        if job.over:
            return job
        note(f"{job.id} hasn't stopped within {grace:.0f} s: Ray ends it now")
    cluster.stop(job)
    return wait(cluster, job, note, timeout=RAY_SECONDS)


def _ask(job: Job, note: Callable[[str], None]) -> bool:
    try:
        store = Store(job.storage).under(job.id)
        # A folder of that name may be here too where it isn't the one that the cluster has.
        if not any(map(store.exists, (DRIVER, PROGRESS))):
            note(f"there is no driver of {job.id} in {store.uri}, so Ray ends it at once")
            return False
        store.write(STOP, json.dumps({"attempt": job.submission_id}).encode())
    except (JobError, StorageError) as error:
        note(f"{error}: its driver can't be asked, so Ray ends it at once")
        return False
    return True
