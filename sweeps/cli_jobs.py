"""The commands of ``tracerank`` for jobs on a Ray cluster.

Only what the answer is goes to stdout: an id, a state, a log, a folder. What is heavy is imported
by the command that needs it.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from sweeps.cli_answers import a_seed, answer, answer_now, as_json, other_trials, stop
from sweeps.cli_manifest import for_a_manifest, write_manifest
from sweeps.exit_codes import DONE, FAILED, INTERRUPTED, STOPPED

if TYPE_CHECKING:
    from sweeps.jobs.client import Cluster
    from sweeps.jobs.job import Job

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PROGRESS_SECONDS = 3.0
"""How long `status` waits for what the storage tells."""

a_storage = click.option(
    "--storage",
    metavar="URI",
    help="Folder or URI that the cluster and this machine reach (or TRACERANK_STORAGE).",
)
an_id = click.argument("job_id", metavar="ID")


def _of_a_cluster(command: _Command) -> _Command:
    """Adds the options that say which cluster, and hands on a way to it."""

    @click.option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard, HOST:PORT or http(s)://HOST:PORT (or TRACERANK_ADDRESS).",
    )
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        help="A file with the cluster's token (or RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH).",
    )
    @click.option(
        "--ca",
        type=click.Path(path_type=Path),
        help="PEM file of the authority that signed the cluster's certificate (or TRACERANK_CA).",
    )
    @functools.wraps(command)
    def with_cluster(
        *args: Any, address: str | None, token_file: Path | None, ca: Path | None, **kwargs: Any
    ) -> Any:
        reach = functools.partial(_reach, address, token_file, ca)
        return command(*args, reach=reach, **kwargs)

    return with_cluster  # type: ignore[return-value]


def _reach(address: str | None, token_file: Path | None, ca: Path | None) -> Cluster:
    from sweeps.jobs.address import find_address
    from sweeps.jobs.client import Cluster
    from sweeps.jobs.credentials import find_token

    place = find_address(address, os.environ)
    token = find_token(token_file, os.environ, Path.home(), _note)
    if ca is None and os.environ.get("TRACERANK_CA"):
        ca = Path(os.environ["TRACERANK_CA"])
    cluster = Cluster(place, token, ca)
    _say(f"Cluster: {place.url} (from {place.source})")
    if token is not None and not place.secure and not place.loopback:
        _note(f"the token goes to {place.host} unencrypted; https:// or a tunnel would keep it")
    return cluster


def _say(text: str) -> None:
    click.echo(text, err=True)


def _note(text: str) -> None:
    _say(f"note: {text}")


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@_of_a_cluster
@click.option("--id", "job_id", metavar="ID", help="The job's id (default: NAME-TIME-RANDOM).")
@a_storage
@other_trials
@click.option(
    "--workers", type=click.IntRange(min=1), help="Trainings at once (default: as the cluster has)."
)
@a_seed
@click.option("--include", multiple=True, metavar="GLOB", help="Send these files too.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Don't send these files.")
@click.option("--wait", "waits", is_flag=True, help="Wait for its end, and exit as it did.")
@for_a_manifest
@as_json
def submit(
    config: Path,
    reach: Callable[[], Cluster],
    job_id: str | None,
    storage: str | None,
    trials: int | None,
    workers: int | None,
    seed: int | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    waits: bool,
    manifest_file: Path | None,
    manifest_options: dict[str, Any],
    as_json: bool,
) -> None:
    """Have a Ray cluster run what CONFIG describes.

    Once per id: submitted again while it runs, nothing is sent; after it failed or was stopped, it
    goes on from what is stored. The id is written to stdout.
    """
    from sweeps.jobs import submit as submitting
    from sweeps.jobs.job import checked_id

    if job_id is not None:
        checked_id(job_id)
    if manifest_file is not None:
        write_manifest(
            manifest_file,
            config,
            manifest_options,
            as_json,
            job_id=job_id,
            storage=storage or os.environ.get("TRACERANK_STORAGE"),
            trials=trials,
            workers=workers,
            seed=seed,
        )
        return
    cluster = reach()
    done = submitting.submit(
        cluster,
        config,
        job_id=job_id,
        storage=storage,
        usual_storage=os.environ.get("TRACERANK_STORAGE"),
        trials=trials,
        workers=workers,
        seed=seed,
        include=include,
        exclude=exclude,
        note=_note,
    )
    job = done.job
    _say(f"{done.words}. Next:")
    for line in _next_steps(cluster, job.id):
        _say(f"  {line}")
    extra = {"sent": done.sent, "address": cluster.address.url}
    if not waits:
        answer(json.dumps(job.to_json() | extra) if as_json else job.id)
        return
    if not as_json:
        answer_now(job.id)
    job = _waited(cluster, job, None)
    if as_json:
        answer(json.dumps(job.to_json() | extra))
    _end_as(job)


@click.command()
@an_id
@_of_a_cluster
@as_json
def status(job_id: str, reach: Callable[[], Cluster], as_json: bool) -> None:
    """Show how a job is; exits as the job did, once it has ended."""
    from sweeps.jobs.display import describe
    from sweeps.jobs.watch import ProgressReader

    job = _job(reach(), job_id)
    progress = None
    if job.storage:
        with ProgressReader(job.storage, job.id) as reader:
            progress = reader.of(job.submission_id, _PROGRESS_SECONDS)
    for line in describe(job, progress):
        _say(line)
    answer(json.dumps(job.to_json() | {"progress": progress}) if as_json else job.state)
    _end_as(job)


@click.command()
@an_id
@_of_a_cluster
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on until the job ends.")
@as_json
def logs(job_id: str, reach: Callable[[], Cluster], follows: bool, as_json: bool) -> None:
    """Show what a job has written; with -f as it writes it, then exit as the job did."""
    from sweeps.jobs.logs import follow

    def write(text: str) -> None:
        if as_json and text:
            answer_now(json.dumps({"log": text}))
        else:
            answer_now(text, end="")

    cluster = reach()
    job = _job(cluster, job_id)
    if job.attempt > 1:
        _note(f"this is attempt {job.attempt}")
    if not follows:
        text = cluster.log(job)
        if as_json:
            answer(json.dumps(job.to_json() | {"log": text}))
        else:
            answer_now(text, end="")
        return
    try:
        job = follow(cluster, job, write, _note)
    except KeyboardInterrupt:
        _detached(job)
    if as_json:
        answer(json.dumps(job.to_json()))
    _end_as(job)


@click.command()
@an_id
@_of_a_cluster
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="S", help="Give up after S seconds."
)
@as_json
def wait(job_id: str, reach: Callable[[], Cluster], timeout: float | None, as_json: bool) -> None:
    """Wait for a job to end, and exit as it did."""
    cluster = reach()
    job = _waited(cluster, _job(cluster, job_id), timeout)
    answer(json.dumps(job.to_json()) if as_json else job.state)
    if not job.over:
        stop(f"{job.id} is {job.state} after {timeout:g} s; the job goes on", INTERRUPTED)
    _end_as(job)


@click.command("stop")
@an_id
@_of_a_cluster
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds it may take to store what is under way.",
)
@as_json
def stop_(job_id: str, reach: Callable[[], Cluster], grace: float, as_json: bool) -> None:
    """End a job in order; submitted again by its id it goes on."""
    from sweeps.jobs.stop import stop as end

    cluster = reach()
    job = _job(cluster, job_id)
    if job.over:
        _say(f"{job.id} has ended already: {job.state}")
    else:
        try:
            job = end(cluster, job, grace, _note)
        except KeyboardInterrupt:
            stop(f"detached; {job.id} was asked to stop, and may yet", INTERRUPTED)
    answer(json.dumps(job.to_json()) if as_json else job.state)
    if not job.over:
        stop(f"{job.id} is {job.state} still, though Ray was told to end it", FAILED)
    _say(f"{job.id}: {job.state}: {job.message}")


@click.command()
@_of_a_cluster
@as_json
def jobs(reach: Callable[[], Cluster], as_json: bool) -> None:
    """List the jobs that a cluster knows, the latest first."""
    from sweeps.jobs.display import moment

    found = reach().jobs()
    if as_json:
        answer(json.dumps([job.to_json() for job in found]))
        return
    if not found:
        _say("This cluster knows no jobs")
    for job in found:
        attempt = f"attempt {job.attempt}" if job.attempt > 1 else ""
        answer(f"{job.id:40}  {job.state:9}  {moment(job.started)}  {attempt}".rstrip())


@click.command()
@an_id
@_of_a_cluster
@click.option("--out", type=click.Path(path_type=Path), help="Where to (default: runs/ID).")
@a_storage
@as_json
def fetch(
    job_id: str,
    reach: Callable[[], Cluster],
    out: Path | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Copy a job's run directory here, or bring it up to date; with --storage no cluster is asked.

    Only what is missing here, or differs, is copied. The folder is written to stdout.
    """
    from rich.console import Console

    from sweeps.api import RUNS
    from sweeps.jobs.display import show_bytes, showing
    from sweeps.jobs.errors import size
    from sweeps.jobs.fetch import fetch as bring
    from sweeps.jobs.job import checked_id

    checked_id(job_id)
    job = None
    place = storage
    if place is None:
        job, place = _storage_of(job_id, reach)
    with showing(Console(stderr=True), at_once=False) as show:
        done = bring(job_id, place, out or RUNS / job_id, functools.partial(show_bytes, show))
    if not (done.ended if job is None else job.over):
        _note(f"{job_id} hasn't ended: this is what it had stored by now; fetch it again later")
    folder = {"report": done.path, "review": done.path.parent}
    _say(f"Fetched {size(done.copied)}. Next:")
    for verb, path in folder.items():
        _say(f"  tracerank {verb} {shlex.quote(str(path))}")
    answer(json.dumps({"id": job_id, "run": str(done.path)}) if as_json else done.path)


COMMANDS = (submit, status, logs, wait, stop_, jobs, fetch)
"""For the group."""


def _job(cluster: Cluster, job_id: str) -> Job:
    from sweeps.jobs.job import checked_id

    return cluster.job(checked_id(job_id))


def _storage_of(job_id: str, reach: Callable[[], Cluster]) -> tuple[Job | None, str]:
    """The job and its storage; the environment's storage where the cluster can't tell."""
    from sweeps.jobs.errors import JobNotFoundError, RefusedError, UnreachableError

    usual = os.environ.get("TRACERANK_STORAGE")
    try:
        job = reach().job(job_id)
    except (JobNotFoundError, RefusedError, UnreachableError) as error:
        if not usual:
            raise type(error)(f"{error}; or name the job's storage with --storage") from None
        _note(f"{error}. So it is looked for in TRACERANK_STORAGE")
        return None, usual
    return job, job.storage


def _waited(cluster: Cluster, job: Job, timeout: float | None) -> Job:
    from rich.console import Console

    from sweeps.jobs import watch
    from sweeps.jobs.display import show_job, showing

    try:
        with (
            watch.ProgressReader(job.storage, job.id) as reader,
            showing(Console(stderr=True)) as show,
        ):
            return watch.wait(
                cluster,
                job,
                _note,
                timeout=timeout,
                show=lambda now: show_job(show, now, reader.of(now.submission_id)),
            )
    except KeyboardInterrupt:
        _detached(job)


def _detached(job: Job) -> NoReturn:
    stop(
        f"detached; {job.id} goes on (tracerank wait {job.id}, tracerank stop {job.id})",
        INTERRUPTED,
    )


def _end_as(job: Job) -> None:
    """Exit as the job did; a job that has not ended is fine."""
    code = {"FAILED": FAILED, "STOPPED": STOPPED}.get(job.state, DONE)
    if code != DONE:
        hint = f"see tracerank logs {job.id}; submitted again with --id {job.id} it goes on"
        stop(f"{job.id} {job.state}: {job.message} ({hint})", code)


def _next_steps(cluster: Cluster, job_id: str) -> list[str]:
    given = cluster.address.source == "--address"
    address = f" --address {shlex.quote(cluster.address.url)}" if given else ""
    return [f"tracerank {words} {job_id}{address}" for words in ("logs -f", "wait", "fetch")]
