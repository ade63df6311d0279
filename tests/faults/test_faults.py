"""The most telling kinds of violence, once each: `make faults` does all of them, many times."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from violence import KINDS
from violent_run import Runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    # Not below pytest's own folder: the paths of Ray's sockets may not be long.
    made = Runs(Path(tempfile.mkdtemp(prefix="tf")), brief=True)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        ("kill-worker", 2),
        ("terminate-worker", 3),
        ("kill-raylet", 4),
        ("fill-disk", 3),
        ("resume-twice", 2),
        ("user-segfaults", 4),
        ("upgrade", 0),
    ],
)
def test_nothing_is_lost_doubled_or_different(runs: Runs, kind: str, seed: int) -> None:
    result = runs.make(kind, seed, KINDS[kind].sweeps[0])
    if result.outcome == "unavailable":
        pytest.skip(result.note)
    assert result.outcome == "well", result.line()
