"""Attempts of one id are one job."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.jobs.errors import JobError
from sweeps.jobs.job import checked_id, folded, metadata, submission_id


def row(given: str, status: str = "RUNNING", **changes: Any) -> dict[str, Any]:
    job_id = given.partition("--")[0]
    return {
        "type": "SUBMISSION",
        "submission_id": given,
        "status": status,
        "message": "Some message.",
        "start_time": 1000,
        "end_time": None,
        "metadata": metadata(job_id, "s3://bucket/runs", "digits", "abc", 40),
        "driver_exit_code": None,
    } | changes


def test_attempts_are_folded_to_the_latest() -> None:
    rows = [
        row("a--10", "RUNNING", start_time=9000),
        row("a", "FAILED", driver_exit_code=1),
        row("a--2", "STOPPED"),
        row("b", "SUCCEEDED", start_time=10_000, end_time=12_000, driver_exit_code=0),
    ]
    b, a = folded(rows)
    assert (a.id, a.attempt, a.state, a.submission_id) == ("a", 10, "RUNNING", "a--10")
    assert a.attempts == ("a", "a--2", "a--10")
    assert (a.storage, a.name, a.config, a.trials) == ("s3://bucket/runs", "digits", "abc", 40)
    assert (b.started, b.ended, b.exit_code, b.over) == (10.0, 12.0, 0, True)
    assert a.to_json()["attempt"] == 10
    assert "config" not in a.to_json()


def test_an_orderly_stop_is_no_failure() -> None:
    failed, stopped = folded(
        [
            row("a", "FAILED", driver_exit_code=3, start_time=2),
            row("b", "FAILED", driver_exit_code=1, message="Job failed, last available logs:\nx"),
        ]
    )
    assert stopped.state == "STOPPED"
    assert (failed.state, failed.message) == ("FAILED", "Job failed")


@pytest.mark.parametrize(
    "other",
    [
        None,
        "text",
        {},
        row("a", metadata=None),
        row("a", metadata={}),
        row("a", metadata={"tracerank": "1", "tracerank_id": "b"}),
        row("a", "LOST"),
        row("a", submission_id=None),
        row("a/b"),
        {"type": "DRIVER", "job_id": "01", "submission_id": None, "metadata": {}},
    ],
)
def test_what_is_not_ours_is_left_out(other: object) -> None:
    assert folded([other]) == []


def test_odd_values_do_no_harm() -> None:
    (job,) = folded(
        [
            row(
                "a",
                message="\x1b[31mred\nmore",
                start_time="never",
                driver_exit_code="x",
                metadata={"tracerank": "1", "tracerank_id": "a", "tracerank_trials": "9" * 5000},
            )
        ]
    )
    assert job.message == "?[31mred"
    assert (job.started, job.exit_code, job.trials, job.storage) == (None, None, 0, "")


@pytest.mark.parametrize("good", ["a", "A.b_c-9", "9" * 100])
def test_ids(good: str) -> None:
    assert checked_id(good) == good
    assert submission_id(good, 1) == good
    assert submission_id(good, 12) == f"{good}--12"


@pytest.mark.parametrize("bad", ["", "-a", "a--b", "a b", "a/b", "a\n", "ä", "9" * 101, "../x"])
def test_bad_ids(bad: str) -> None:
    with pytest.raises(JobError, match="must be 1 to 100 letters"):
        checked_id(bad)
