"""What the doctor takes as evidence, and what it leaves alone: a run directory may come from
others, or have lost more than one file.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from patients import Patient, copy, ranking_of, resume
from test_doctor import doctor, findings, problems

from sweeps import earlier, records
from sweeps.doctor.trust import known_records
from sweeps.ledger import read_ledger, write_ledger
from sweeps.run_directory import RunDirectory
from sweeps.sealed import write_sealed
from sweeps.selection import read_trials


@pytest.fixture
def foreign(patients: dict[str, Patient], tmp_path: Path) -> RunDirectory:
    """A copy of a finished run directory of another sweep of the same space."""
    copy(patients["finished"].path.parent / "other", tmp_path / "foreign")
    return RunDirectory(tmp_path / "foreign")


def contents(run: RunDirectory) -> dict[str, bytes]:
    """All files of a run directory but the lock."""
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in sorted(run.path.rglob("*"))
        if path.is_file() and path.name != "driver.lock"
    }


def edit(run: RunDirectory, old: str, new: str) -> None:
    """Change the configuration by hand."""
    text = run.configuration.read_text()
    assert old in text
    run.configuration.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "changed",
    [
        {"task": {"text_classification": {"file": "/r.csv", "text": "review", "label": "stars"}}},
        {"task": "mine.tasks:make"},
        {"architecture": {"pretrained": {"checkpoint": "/w.pt@mine.nets:make", "tune": "full"}}},
        {"architecture": {"mine.nets:make": {}}},
    ],
)
def test_earlier_points_are_not_gathered_by_what_the_directory_names(
    finished: RunDirectory, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = yaml.safe_load(finished.configuration.read_text())
    told["task"] = changed.get("task", told["task"])
    told["space"]["architecture"] = changed.get("architecture", told["space"]["architecture"])
    run = RunDirectory(tmp_path / "new")
    run.path.mkdir()
    run.configuration.write_text(yaml.safe_dump(told))

    def gather(config: object) -> None:
        raise AssertionError("it was gathered")

    monkeypatch.setattr(earlier, "gather", gather)
    (found,) = [each for each in findings(run) if each["where"] == "earlier.json"]
    assert not found["repairable"]
    assert "put an undamaged copy in its place" in found["todo"]
    result = doctor(run, "--repair")
    assert not isinstance(result.exception, AssertionError)


def test_earlier_points_of_a_study_in_a_database_are_not_asked_for(
    finished: RunDirectory,
    patients: dict[str, Patient],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def gather(config: object) -> None:
        raise AssertionError("it was gathered")

    monkeypatch.setattr(earlier, "gather", gather)
    copy(patients["finished"].path.parent / "earlier", tmp_path / "before")
    place = {"storage": "postgresql://nobody@127.0.0.1:1/none", "study": "small-1"}
    write_sealed(tmp_path / "before" / "study.json", place)
    run = RunDirectory(tmp_path / "new")
    run.path.mkdir()
    run.configuration.write_text(
        re.sub(
            r"warm_start: \[.*\]",
            f"warm_start: [{tmp_path / 'before'}]",
            finished.configuration.read_text(),
        )
    )
    result = doctor(run, "--repair")
    assert "earlier.json: is gone" in result.stderr, result.exception


@pytest.mark.parametrize("damage", [None, bytes(100)], ids=["gone", "damaged"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("replicates: 2", "replicates: 3"),
        ("hidden: [4, 8]", "hidden: [4, 16]"),
        ("seed: 0", "seed: 1"),
    ],
)
def test_a_study_is_evidence_above_a_configuration_that_nothing_vouches_for(
    interrupted: RunDirectory, damage: bytes | None, old: str, new: str
) -> None:
    environment = interrupted.environment.read_bytes()
    interrupted.environment.unlink()
    if damage is not None:
        interrupted.environment.write_bytes(damage)
    edit(interrupted, old, new)
    before = contents(interrupted)
    result = doctor(interrupted, "--repair")
    assert result.exit_code == 1
    assert "changed since the sweep began" in result.stderr
    assert old.partition(": ")[0] in result.stderr
    after = contents(interrupted)
    for name in before.keys() - {"environment.json"}:
        assert after[name] == before[name], name
    assert "environment.json" not in after
    # Once it is put back all is well.
    edit(interrupted, new, old)
    assert problems(interrupted, "--repair") == []
    assert len(interrupted.environment.read_bytes()) < len(environment)


def test_another_sweeps_configuration_without_its_environment_changes_nothing(
    finished: RunDirectory, foreign: RunDirectory
) -> None:
    finished.environment.unlink()
    shutil.copyfile(foreign.configuration, finished.configuration)
    before = contents(finished)
    assert any("changed since the sweep began" in each for each in problems(finished, "--repair"))
    assert contents(finished) == before


def test_an_environment_that_contradicts_the_study_restores_no_configuration(
    finished: RunDirectory, foreign: RunDirectory
) -> None:
    shutil.copyfile(foreign.environment, finished.environment)
    finished.configuration.unlink()
    before = contents(finished)
    told = problems(finished, "--repair")
    assert any(each.startswith("environment.json: ") for each in told)
    assert contents(finished) == before


def test_a_study_of_another_sweep_is_put_aside_where_a_seal_vouches(
    finished: RunDirectory, foreign: RunDirectory
) -> None:
    trials = read_trials(finished)
    shutil.copyfile(foreign.journal, finished.journal)
    assert problems(finished, "--repair") == []
    assert read_trials(finished) == trials
    # Without a seal it isn't known which of the two is another's.
    told = json.loads(finished.environment.read_bytes())
    del told["sha256"]
    finished.environment.write_text(json.dumps(told))
    shutil.copyfile(foreign.journal, finished.journal)
    before = contents(finished)
    assert problems(finished, "--repair") != []
    assert contents(finished) == before


def test_a_study_that_the_records_bear_out_stays_where_all_else_is_of_another_sweep(
    finished: RunDirectory, foreign: RunDirectory
) -> None:
    shutil.copyfile(foreign.environment, finished.environment)
    shutil.copyfile(foreign.configuration, finished.configuration)
    before = contents(finished)
    assert any("changed since the sweep began" in each for each in problems(finished, "--repair"))
    assert contents(finished) == before


def test_a_ledger_that_contradicts_a_whole_study_is_no_source_of_trials(
    finished: RunDirectory, foreign: RunDirectory
) -> None:
    trials, ledger = read_trials(foreign), read_ledger(foreign)
    shutil.copyfile(finished.ledger, foreign.ledger)
    assert problems(foreign, "--repair") == []
    assert read_trials(foreign) == trials
    assert read_ledger(foreign).equals(ledger)


def test_a_journal_is_not_made_from_the_ledger_of_another_sweep(
    finished: RunDirectory, foreign: RunDirectory
) -> None:
    shutil.copyfile(finished.ledger, foreign.ledger)
    foreign.journal.unlink()
    told = problems(foreign)
    assert "study.journal: is gone" in told
    assert any("trials.parquet: is of another sweep" in each for each in told)
    result = doctor(foreign, "--repair")
    assert result.exit_code == 1
    assert not foreign.journal.exists()
    assert (foreign.path / "damaged" / "trials.parquet").exists()
    assert f"next: tracerank resume {foreign.path}" in result.stderr


def test_a_record_that_no_trial_has_any_more_is_no_evidence_against_the_ledger(
    finished: RunDirectory,
) -> None:
    trials = read_trials(finished)
    record = next(each for each in known_records(finished).values() if each.trial == 3)
    stale = asdict(record) | {"training_id": "0123456789ab", "model_id": "ba9876543210"}
    write_sealed(finished.record("0123456789ab"), stale)
    finished.journal.unlink()
    doctor(finished, "--repair")
    assert read_trials(finished) == trials


def test_a_ledger_of_which_no_record_tells_is_not_taken(finished: RunDirectory) -> None:
    for record in known_records(finished).values():
        told = asdict(record) | {"trial": record.trial + 10}
        write_sealed(finished.record(record.training_id), told)
    table = read_ledger(finished)
    table["trainings"] = [
        ",".join(each[::-1] for each in ids.split(",")) for ids in table["trainings"]
    ]
    write_ledger(finished, table)
    finished.journal.unlink()
    told = problems(finished, "--repair")
    assert "study.journal: is gone" in told
    assert not finished.journal.exists()


def test_a_ledger_that_does_not_fit_an_unvouched_configuration_is_left(
    finished: RunDirectory,
) -> None:
    finished.journal.unlink()
    finished.environment.unlink()
    edit(finished, "replicates: 2", "replicates: 3")
    before = contents(finished)
    told = problems(finished, "--repair")
    assert any("trials.parquet: doesn't fit sweep.yaml" in each for each in told)
    assert contents(finished) == before
    edit(finished, "replicates: 3", "replicates: 2")
    assert problems(finished, "--repair") == []


@pytest.mark.parametrize("left", [None, 0, 2])
def test_what_derives_from_a_lost_study_is_left_as_it_is(
    finished: RunDirectory, left: int | None
) -> None:
    before = contents(finished)
    lines = finished.journal.read_bytes().splitlines(keepends=True)
    finished.journal.unlink()
    if left is not None:
        finished.journal.write_bytes(b"".join(lines[:left]))
    trials = read_ledger(finished)
    (told,) = problems(finished)
    assert told.startswith("study.journal: ")
    result = doctor(finished, "--repair")
    assert result.exit_code == 0, result.stderr
    after = contents(finished)
    assert after.keys() == before.keys(), "nothing was put aside"
    for name in before.keys() - {"study.journal"}:
        assert after[name] == before[name], name
    assert len(read_trials(finished)) == len(trials)


def test_a_report_of_trials_that_only_records_tell_of_is_left(
    finished: RunDirectory, patients: dict[str, Patient]
) -> None:
    lines = finished.journal.read_bytes().splitlines(keepends=True)
    finished.journal.write_bytes(b"".join(lines[:-20]))
    finished.ledger.unlink()
    report = {path.name: path.read_bytes() for path in finished.report.iterdir()}
    doctor(finished, "--repair")
    assert {path.name: path.read_bytes() for path in finished.report.iterdir()} == report
    resume(finished)
    assert ranking_of(finished) == patients["finished"].ranking


@pytest.mark.parametrize("name", ["report", "traces", "logged", "checkpoints", "live"])
def test_what_is_no_folder_is_told_once_and_put_aside(finished: RunDirectory, name: str) -> None:
    shutil.rmtree(finished.path / name, ignore_errors=True)
    (finished.path / name).write_text("mine")
    assert problems(finished) == [f"{name}: is no folder"]
    result = doctor(finished, "--repair")
    assert result.exit_code == (1 if name == "traces" else 0), result.stderr
    assert not (finished.path / name).is_file()


@pytest.mark.parametrize(
    "name", ["study.journal", "driver.lock", "trials.parquet", "scores.npz", "report/report.md"]
)
def test_what_is_no_file_is_told_once_and_put_aside(finished: RunDirectory, name: str) -> None:
    path = finished.path / name
    path.unlink(missing_ok=True)
    path.mkdir()
    assert problems(finished) == [f"{name}: is no file"]
    result = doctor(finished, "--repair")
    assert result.exit_code == 0, result.stderr
    assert (finished.path / "damaged" / name).is_dir()
    assert len(read_trials(finished)) == len(read_ledger(finished))


def test_without_a_place_for_what_is_replaced_nothing_is_repaired(finished: RunDirectory) -> None:
    (finished.path / "damaged").write_text("mine")
    finished.ledger.write_bytes(b"PAR1")
    assert any(each.startswith("damaged: is no folder") for each in problems(finished))
    before = contents(finished)
    result = doctor(finished, "--repair")
    assert result.exit_code == 2
    assert "damaged: is no folder" in result.stderr
    assert contents(finished) == before


@pytest.mark.parametrize(
    "text", ["", "{}", '{"storage": "postgresql://a@127.0.0.1:1/b", "study": "small-1"}']
)
def test_a_stray_study_json_beside_a_whole_journal_is_put_aside(
    finished: RunDirectory, text: str
) -> None:
    trials = read_trials(finished)
    finished.study.write_text(text)
    (told,) = problems(finished)
    assert told.startswith("study.json: isn't the sweep's")
    assert problems(finished, "--repair") == []
    assert read_trials(finished) == trials
    assert (finished.path / "damaged" / "study.json").read_text() == text


def test_a_folder_among_what_loggers_noted_is_no_problem(finished: RunDirectory) -> None:
    (finished.path / "logged" / "mine").mkdir(parents=True)
    (found,) = findings(finished)
    assert (found["severity"], found["where"]) == ("note", "logged/mine")


def test_records_without_a_hash_are_counted(finished: RunDirectory) -> None:
    assert findings(finished) == []
    count = 0
    for record in list(known_records(finished).values())[:3]:
        told = asdict(record)
        del told["trace_sha256"]
        finished.record(record.training_id).write_text(json.dumps(told))
        count += 1
    (found,) = findings(finished)
    assert found["severity"] == "note"
    assert f"{count} of its" in found["what"]
    assert "carry no hash" in found["what"]


def test_a_metric_that_no_float_holds_is_of_one_record_only(finished: RunDirectory) -> None:
    one = next(iter(known_records(finished)))
    record = records.load(finished, one)
    assert record is not None
    told = asdict(record)
    told["history"][0]["metric"] = 10**400
    write_sealed(finished.record(one), told)
    assert problems(finished) == [
        f"traces/{one}.json: not the record of a training (metric is out of range)"
    ]
