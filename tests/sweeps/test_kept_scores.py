"""Scores that are kept change nothing but the time: no report, and no fault that is found."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inprocess import prepared, work_off

import sweeps
from sweeps import kept_scores, records
from sweeps.config import SweepConfig
from sweeps.kept_scores import KeptScores
from sweeps.results import rank_run, report_run
from sweeps.run_directory import RunDirectory, RunDirectoryError
from sweeps.selection import read_trials
from sweeps.sweep import drive
from trace_core import Trace


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory, config = prepared(tmp_path / "run")
    work_off(directory, config)
    return directory


def files(run: RunDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.report.iterdir()}


def trainings(run: RunDirectory) -> list[str]:
    return sorted(path.stem for path in run.trace("any").parent.glob("*.npz"))


class Loads:
    """Counts the traces that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: list[str] = []
        load = Trace.load

        def counted(path: Path) -> Trace:
            self.ids.append(Path(path).stem)
            return load(path)

        monkeypatch.setattr(Trace, "load", counted)


def test_a_report_is_the_same_with_and_without_them(run: RunDirectory) -> None:
    report_run(run)
    without = files(run)
    kept = run.scores.read_bytes()
    report_run(run)
    assert files(run) == without
    assert run.scores.read_bytes() == kept
    run.scores.unlink()
    report_run(run)
    assert files(run) == without
    assert run.scores.read_bytes() == kept


def test_only_what_is_not_kept_is_scored(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_run(run)
    loads = Loads(monkeypatch)
    rank_run(run)
    assert loads.ids == []
    first = trainings(run)[0]
    os.utime(run.trace(first))
    rank_run(run)
    assert loads.ids == [first]


def test_a_sweep_keeps_what_its_driver_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, config = prepared(tmp_path / "run")
    # All is trained, and nothing told: a driver has only to score.
    work_off(directory, config)
    directory.journal.unlink()
    drive(directory, config, workers=1, import_path=[])
    loads = Loads(monkeypatch)
    rank_run(directory)
    assert loads.ids == []


def test_reading_writes_nothing(run: RunDirectory) -> None:
    assert len(sweeps.load(run.path).ranking)
    assert not run.scores.exists()


def damaged(path: Path) -> None:
    """Another byte among the data, the size and the time of writing as they were."""
    found = path.stat()
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.compress_size)
    # What stands before a member's data is shorter than this member's, and in part never looked at.
    data[largest.header_offset + largest.compress_size] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_a_damaged_or_missing_trace_is_found_all_the_same(run: RunDirectory) -> None:
    report_run(run)
    path = run.trace(trainings(run)[0])
    damaged(path)
    with pytest.raises(RunDirectoryError, match=f"{path.name} is truncated or damaged"):
        rank_run(run)
    path.unlink()
    with pytest.raises(RunDirectoryError, match=f"{path.name}: missing"):
        rank_run(run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric_name": {}}, "metric_name is of type dict"),
        ({"seconds": "1"}, "seconds is of type str"),
        ({"seed": True}, "seed is of type bool"),
        ({"baseline": []}, "baseline is of type list"),
        ({"history": [3]}, ""),
        ({"\x1b[2J": 3}, r"unexpected keyword argument '\?\[2J'"),
        ({"history": [{"epoch": 0}]}, "step"),
        ({"history": []}, "the end of its history is missing"),
        ({"made_with": 3}, "made_with is of type int"),
        ({"state": "DONE"}, "state is none that a training has"),
        ({"direction": "sideways"}, "direction is neither maximize nor minimize"),
        ({"direction": ""}, "direction is neither maximize nor minimize"),
        ({"examples": 0}, "steps or examples is 0"),
        ({"steps": 10**6}, "the end of its history is missing"),
        ({"trained": -1}, "trained is out of range"),
        ({"trial": -2}, "trial is out of range"),
        ({"seed": 2**63}, "seed is out of range"),
        ({"seconds": math.nan}, "seconds is out of range"),
        ({"metric_test": 10**400}, "metric_test is out of range"),
        ({"baseline": None}, "a metric is missing"),
        ({"model_id": "0" * 12}, "of model [0-9a-f]{12} with seed"),
        ({"seed": 7}, "of model [0-9a-f]{12} with seed"),
    ],
)
def test_a_record_of_other_types_is_none(
    run: RunDirectory, change: dict[str, Any], words: str
) -> None:
    path = run.record(trainings(run)[0])
    told = {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}
    path.write_text(json.dumps(told | change))
    with pytest.raises(RunDirectoryError, match=f"not the record of a training .*{words}"):
        rank_run(run)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("metric", 10**400), ("metric", None), ("metric", math.nan), ("train_loss", math.inf)),
        *(("step", -1), ("step", 0.5), ("epoch", True), ("metric_error", "1")),
    ],
)
def test_a_history_that_no_training_has_is_told(run: RunDirectory, name: str, value: Any) -> None:
    path = run.record(trainings(run)[0])
    told = {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}
    told["history"][1][name] = value
    path.write_text(json.dumps(told))
    with pytest.raises(RunDirectoryError, match=rf"not the record of a training \({name} is "):
        rank_run(run)


def test_a_step_of_more_examples_than_all_models_saw_is_told(run: RunDirectory) -> None:
    path = run.record(trainings(run)[0])
    told = {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}
    path.write_text(json.dumps(told | {"examples": 10**15}))
    with pytest.raises(RunDirectoryError, match=rf"{path.name}: says that a step saw about "):
        rank_run(run)


def test_a_study_of_other_models_is_named(run: RunDirectory) -> None:
    odd = [replace(trial, details={"candidate": {"inf": 1}}) for trial in read_trials(run)]
    with pytest.raises(RunDirectoryError, match=r"its study holds .* unknown fields inf"):
        rank_run(run, trials=odd)


def test_a_missing_or_damaged_record_is_found_all_the_same(run: RunDirectory) -> None:
    report_run(run)
    path = run.record(trainings(run)[0])
    path.write_text("{")
    with pytest.raises(RunDirectoryError, match="not the record of a training"):
        rank_run(run)
    path.unlink()
    with pytest.raises(RunDirectoryError, match=f"{path.name}: missing"):
        rank_run(run)


def test_a_changed_trace_is_scored_anew(run: RunDirectory) -> None:
    before = report_run(run).replicates
    one, other = trainings(run)[:2]
    run.trace(one).write_bytes(run.trace(other).read_bytes())
    record = records.load(run, one)
    assert record is not None
    with pytest.raises(RunDirectoryError, match="not the trace that its record was made with"):
        rank_run(run)
    records.save(run, replace(record, trace_sha256=""))
    after = rank_run(run).replicates

    def steadiness(table: Any) -> float:
        own = (table["model_id"] == record.model_id) & (table["seed"] == record.seed)
        return float(table.loc[own, "stability"].iloc[0])

    assert steadiness(after) != steadiness(before)
    assert steadiness(after) == Trace.load(run.trace(other)).stability("steadiness")


def test_a_changed_record_is_read(run: RunDirectory) -> None:
    before = report_run(run).replicates
    training_id = trainings(run)[0]
    record = records.load(run, training_id)
    assert record is not None
    record.history[-1]["metric"] = 0.125
    records.save(run, record)
    after = rank_run(run).replicates
    assert (after["metric"] == 0.125).sum() == 1
    assert (before["metric"] == 0.125).sum() == 0


@pytest.mark.parametrize("place", [0.001, 0.3, 0.5, 0.8, 0.999])
def test_a_damaged_file_is_passed_over_and_written_anew(run: RunDirectory, place: float) -> None:
    report_run(run)
    whole, report = run.scores.read_bytes(), files(run)
    data = bytearray(whole)
    data[int(place * len(data))] ^= 0xFF
    for damage in (bytes(data), whole[: len(whole) // 2], b"", b"text"):
        run.scores.write_bytes(damage)
        report_run(run)
        assert files(run) == report
    assert run.scores.read_bytes() == whole


@pytest.mark.parametrize("byte", [8, 10])
def test_a_flipped_bit_of_its_directory_is_passed_over(run: RunDirectory, byte: int) -> None:
    """A member is then said to be encrypted, or packed in a way that zipfile doesn't know."""
    report_run(run)
    data = bytearray(run.scores.read_bytes())
    data[data.index(b"PK\x01\x02") + byte] ^= 0x41
    run.scores.write_bytes(data)
    report = files(run)
    report_run(run)
    assert files(run) == report


@pytest.mark.parametrize(
    ("member", "array"),
    [
        ("values", np.zeros((1, 3))),
        ("values", np.array(3.0)),
        ("curves", np.zeros(2, np.float32)),
        ("made_from", np.full((12, 4), "a")),
        ("points", np.full(12, 1.5)),
        ("made_by", np.array("[" * 100_000)),
        ("values", b"no array"),
        ("values", b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16),
    ],
)
def test_a_file_of_other_shapes_is_passed_over(
    run: RunDirectory, member: str, array: np.ndarray | bytes
) -> None:
    report_run(run)
    report = files(run)
    with zipfile.ZipFile(io.BytesIO(run.scores.read_bytes())) as file:
        members = {name: file.read(name) for name in file.namelist()}
    if isinstance(array, bytes):
        members[f"{member}.npy"] = array
    else:
        written = io.BytesIO()
        np.save(written, array)
        members[f"{member}.npy"] = written.getvalue()
    with zipfile.ZipFile(run.scores, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    report_run(run)
    assert files(run) == report


def test_other_kinds_or_other_code_are_scored_anew(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sweeps.load(run.path).config
    report_run(run)
    loads = Loads(monkeypatch)

    def scored(config: SweepConfig) -> int:
        loads.ids.clear()
        scores = KeptScores(run, config.ranking)
        for training_id in trainings(run):
            scores.of(training_id)
        return len(loads.ids)

    count = len(trainings(run))
    assert scored(config) == 0
    hoyer = SweepConfig.from_dict(config.resolved() | {"ranking": {"explainability": "hoyer"}})
    assert scored(hoyer) == count
    monkeypatch.setattr(kept_scores, "_code", lambda: "another")
    assert scored(config) == count


def test_a_span_has_scores_of_its_own(run: RunDirectory) -> None:
    config = sweeps.load(run.path).config
    training_id = trainings(run)[0]
    scores = KeptScores(run, config.ranking)
    whole, half = scores.of(training_id), scores.of(training_id, 12)
    trace = Trace.load(run.trace(training_id))
    assert whole.row()["stability"] == trace.stability("steadiness")
    assert half.row()["stability"] == trace.window(0, 12).stability("steadiness")
    # For drawing, and so always of all steps.
    assert np.array_equal(whole.curve, half.curve, equal_nan=True)


def test_a_study_with_values_that_are_no_numbers_is_named(run: RunDirectory) -> None:
    # As an earlier version wrote it: without checksums.
    lines = []
    for line in run.journal.read_text().splitlines():
        told = json.loads(line)
        for key in ("chain", "sha256", "checksum"):
            told.pop(key, None)
        if told.get("values"):
            told["values"] = ["0x10" for _ in told["values"]]
        lines.append(json.dumps(told))
    run.journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunDirectoryError, match=r"study\.journal: .* a value that is no number"):
        rank_run(run)
