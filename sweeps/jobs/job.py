"""A job as people know it: one id, whatever Ray was asked to run for it and how often."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sweeps import exit_codes
from sweeps.jobs.errors import JobError
from sweeps.plain_text import plain

PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED = (
    "PENDING",
    "RUNNING",
    "SUCCEEDED",
    "FAILED",
    "STOPPED",
)
ENDED = (SUCCEEDED, FAILED, STOPPED)
STATES = (PENDING, RUNNING, *ENDED)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ATTEMPT = re.compile(r"(.+)--([1-9][0-9]{0,5})", re.DOTALL)


@dataclass(frozen=True)
class Job:
    """A job by its latest attempt. Times are seconds since 1970; ``attempts`` are the ids by which
    Ray knows them, ``submission_id`` the latest one. ``config`` and ``trials`` are what was asked
    for.
    """

    id: str
    submission_id: str
    attempts: tuple[str, ...]
    state: str
    message: str
    exit_code: int | None
    started: float | None
    ended: float | None
    name: str
    storage: str
    config: str
    trials: int

    @property
    def attempt(self) -> int:
        """Its number, from 1."""
        return _split(self.submission_id)[1]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ENDED

    def to_json(self) -> dict[str, Any]:
        """Plain data for programs."""
        data = asdict(self) | {"attempt": self.attempt, "attempts": list(self.attempts)}
        del data["config"]
        return data


def checked_id(text: str) -> str:
    """An id that a job may have. Raises JobError for any other."""
    if not _ID.fullmatch(text) or "--" in text:
        raise JobError(
            f"id: got {plain(text)!r}; must be 1 to 100 letters, digits and . _ -, the first a "
            "letter or digit, without two hyphens in a row"
        )
    return text


def submission_id(job_id: str, attempt: int) -> str:
    """What Ray is told for an attempt: the id itself for the first, ID--2, ID--3 … for others."""
    return job_id if attempt == 1 else f"{job_id}--{attempt}"


def metadata(job_id: str, storage: str, name: str, config: str, trials: int) -> dict[str, str]:
    """What Ray keeps with an attempt, and `folded` reads."""
    return {
        "tracerank": "1",
        "tracerank_id": job_id,
        "tracerank_storage": storage,
        "tracerank_name": name,
        "tracerank_config": config,
        "tracerank_trials": str(trials),
    }


def entrypoint(
    job_id: str,
    attempt: str,
    storage: str,
    config: str,
    import_path: Sequence[str],
    workers: int | None = None,
) -> str:
    """What a shell in the cluster is given to run: an attempt's driver (see `driver`), by its
    submission id. ``config`` and ``import_path`` are as the driver finds them.
    """
    words = ["python", "-m", "sweeps.jobs.driver", "--id", job_id, "--attempt", attempt]
    words += ["--storage", storage, "--config", config]
    if workers is not None:
        words += ["--workers", str(workers)]
    if import_path:
        words += ["--import-path", *import_path]
    return shlex.join(words)


def folded(rows: Iterable[object]) -> list[Job]:
    """The jobs among all that a cluster lists, the latest first; those of others are left out."""
    attempts: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        if isinstance(row, Mapping) and _is_ours(row):
            job_id, attempt = _split(str(row["submission_id"]))
            attempts.setdefault(job_id, {})[attempt] = row
    jobs = [_job(job_id, found) for job_id, found in attempts.items()]
    return sorted(jobs, key=lambda job: (job.started or 0.0, job.id), reverse=True)


def _is_ours(row: Mapping[str, Any]) -> bool:
    extra, given = row.get("metadata"), row.get("submission_id")
    if not isinstance(extra, Mapping) or not isinstance(given, str):
        return False
    job_id = _split(given)[0]
    with contextlib.suppress(JobError):
        return (
            extra.get("tracerank") == "1"
            and extra.get("tracerank_id") == checked_id(job_id)
            and row.get("status") in STATES
        )
    return False


def _split(given: str) -> tuple[str, int]:
    match = _ATTEMPT.fullmatch(given)
    return (match[1], int(match[2])) if match else (given, 1)


def _job(job_id: str, found: Mapping[int, Mapping[str, Any]]) -> Job:
    numbers = sorted(found)
    row = found[numbers[-1]]
    extra, state, code = row["metadata"], str(row["status"]), row.get("driver_exit_code")
    message = str(row.get("message") or "")
    # Behind the first line of a failure stands the end of its log.
    first = plain(message.partition("\n")[0]).partition(", last available logs")[0]
    # A driver that was asked to stop: Ray takes any code for a failure.
    if state == FAILED and code == exit_codes.STOPPED:
        state, first = STOPPED, "Stopped in order; what was finished is stored."
    trials = str(extra.get("tracerank_trials", ""))
    return Job(
        id=job_id,
        submission_id=str(row["submission_id"]),
        attempts=tuple(str(found[number]["submission_id"]) for number in numbers),
        state=state,
        message=first,
        exit_code=code if isinstance(code, int) else None,
        started=_seconds(row.get("start_time")),
        ended=_seconds(row.get("end_time")),
        name=plain(extra.get("tracerank_name", "")),
        storage=str(extra.get("tracerank_storage", "")),
        config=str(extra.get("tracerank_config", "")),
        trials=int(trials) if trials.isdecimal() and len(trials) < 10 else 0,
    )


def _seconds(milliseconds: object) -> float | None:
    return milliseconds / 1000 if isinstance(milliseconds, int | float) and milliseconds else None
