"""The audit sees what it is there for: a sweep that is whole, and one with a thing wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from auditing import audit, read
from inprocess import prepared, work_off

from sweeps.results import report_run
from sweeps.selection import Study

CHANGES = {"trials": 4, "sampler": {"name": "tpe", "seed": 3}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run, config = prepared(tmp_path_factory.mktemp("whole") / "run", **CHANGES)
    work_off(run, config)
    report_run(run)
    return run.path


def found(path: Path, reference: Path, kept: dict[str, bytes] | None = None) -> set[str]:
    """The sorts of failures that the audit tells."""
    sorts: set[str] = set()
    sweep = {"trials": 4, "replicates": 2}
    audit(path, sweep, kept or {}, lambda sort, text: sorts.add(sort), read(reference))
    return sorts


def test_a_whole_sweep_has_no_failure(whole: Path) -> None:
    kept = {one.name: one.read_bytes() for one in (whole / "traces").glob("*.json")}
    assert found(whole, whole, kept) == set()


def first(path: Path, pattern: str) -> Path:
    return min((path / "traces").glob(pattern))


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def another_state(path: Path) -> None:
    table = pd.read_parquet(path / "trials.parquet")
    table.loc[1, "state"] = "FAILED"
    table.to_parquet(path / "trials.parquet")


def fewer_trials(path: Path) -> None:
    """The study ends in the middle of the last trial."""
    lines = (path / "study.journal").read_bytes().splitlines(keepends=True)
    (path / "study.journal").write_bytes(b"".join(lines[:-2]))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "record gone": (lambda path: first(path, "*.json").unlink(), "lost"),
    "trace gone": (lambda path: first(path, "*.npz").unlink(), "lost"),
    "trace cut off": (lambda path: os.truncate(first(path, "*.npz"), 1000), "lost"),
    "trace flipped": (lambda path: flip(first(path, "*.npz")), "different"),
    "trial not told": (fewer_trials, "lost"),
    "report gone": (lambda path: shutil.rmtree(path / "report"), "lost"),
    "record of no trial": (
        lambda path: shutil.copy(first(path, "*.json"), path / "traces" / "spare.json"),
        "doubled",
    ),
    "figure": (lambda path: change(first(path, "*.json"), metric_test=0.123), "different"),
    "ledger": (another_state, "different"),
    "ranking": (lambda path: change(path / "report" / "ranking.json", alpha=0.75), "different"),
    "temporary file": (lambda path: (path / "traces" / ".x.npz.tmp").touch(), "other"),
    "checkpoint": (
        lambda path: [(path / "checkpoints").mkdir(), (path / "checkpoints/a.pt").touch()],
        "other",
    ),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_what_is_wrong_is_told(whole: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    do, sort = DAMAGE[damage]
    do(path)
    assert sort in found(path, whole)


def test_a_training_made_again_is_told(whole: Path) -> None:
    name = first(whole, "*.json").name
    before = json.loads((whole / "traces" / name).read_text()) | {"seconds": 99.0}
    assert found(whole, whole, {name: json.dumps(before).encode()}) == {"lost"}


def test_a_trial_too_many_is_told(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    run, config = prepared(tmp_path / "other", **CHANGES)
    shutil.copytree(path, run.path, dirs_exist_ok=True)
    study = Study(run, config)
    study.ask()
    study.flush()
    assert "doubled" in found(run.path, whole)
