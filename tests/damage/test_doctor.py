"""What the doctor says of a run directory, and what it does about it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from inprocess import conductor, ledger, prepared, work_off
from patients import Patient, copy, ranking_of, resume

from sweeps import records
from sweeps.cli import main
from sweeps.config import load_config
from sweeps.ledger import ledger_table, read_ledger
from sweeps.results import report_run
from sweeps.run_directory import RunDirectory
from sweeps.selection import read_trials


def doctor(run: RunDirectory | Path, *options: str) -> Result:
    path = run.path if isinstance(run, RunDirectory) else run
    return CliRunner().invoke(main, ["doctor", str(path), *options])


def findings(run: RunDirectory, *options: str) -> list[dict[str, Any]]:
    told = json.loads(doctor(run, "--json", *options).stdout)
    return list(told["findings"])


def problems(run: RunDirectory, *options: str) -> list[str]:
    found = findings(run, *options)
    return [f"{each['where']}: {each['what']}" for each in found if each["severity"] == "problem"]


@pytest.mark.parametrize("name", ["finished", "interrupted", "stored"])
def test_a_sound_run_is_healthy(patients: dict[str, Patient], tmp_path: Path, name: str) -> None:
    copy(patients[name].path, tmp_path / "run")
    result = doctor(tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'run'}\n"
    assert "problem" not in result.stderr
    assert ("complete" if name != "interrupted" else "interrupted") in result.stderr
    if name == "interrupted":
        assert "next: tracerank resume" in result.stderr


def test_what_is_no_run_directory_is_told_apart_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    assert doctor(tmp_path / "none").exit_code == 4
    result = doctor(tmp_path / "other")
    assert result.exit_code == 2
    assert "not a run directory" in result.stderr


def test_a_database_that_is_not_reached_is_told_as_such(
    patients: dict[str, Patient], tmp_path: Path
) -> None:
    run, config = prepared(
        tmp_path / "run", storage=f"sqlite:///{tmp_path}/studies.db", replicates=1, trials=1
    )
    work_off(run, config)
    (tmp_path / "studies.db").unlink()
    result = doctor(run)
    assert result.exit_code == 5
    assert "cannot be reached" in result.stderr


def test_a_run_that_a_process_drives_is_looked_at_and_not_repaired(
    interrupted: RunDirectory,
) -> None:
    with interrupted.driving():
        result = doctor(interrupted)
        assert result.exit_code == 0, result.stderr
        assert "a process drives this sweep now" in result.stderr
        refused = doctor(interrupted, "--repair")
    assert refused.exit_code == 2
    assert "another sweep is running in it" in refused.stderr


def test_it_loads_neither_torch_nor_ray(finished: RunDirectory) -> None:
    code = (
        "import sys\nfrom sweeps.cli import main\n"
        "try:\n    main(['doctor', sys.argv[1], '--repair'])\n"
        "except SystemExit as end:\n"
        "    print(end.code, 'torch' in sys.modules, 'ray' in sys.modules)"
    )
    checkpoint = finished.checkpoint("0123456789ab")
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_bytes(b"PK\3\4")
    done = subprocess.run(
        [sys.executable, "-c", code, str(finished.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 False False", done.stderr
    assert "checkpoints/0123456789ab.pt" in done.stderr


def test_a_run_of_an_earlier_version_is_healthy_and_says_what_can_not_be_known(
    finished: RunDirectory,
) -> None:
    for path in [*finished.path.glob("*.json"), *(finished.path / "traces").glob("*.json")]:
        told = json.loads(path.read_text())
        for new in ("sha256", "trace_sha256", "configuration"):
            told.pop(new, None)
        path.write_text(json.dumps(told))
    text = re.sub(r',"checksum":"[0-9a-f]{16}"', "", finished.journal.read_text())
    finished.journal.write_text(text)
    table = read_ledger(finished).drop(columns="constraint")
    table.to_parquet(finished.ledger)
    result = doctor(finished)
    assert result.exit_code == 0, result.stderr
    assert "have no checksum" in result.stderr
    resume(finished)
    assert problems(finished) == []


def test_a_run_that_was_moved_is_healthy(
    patients: dict[str, Patient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far").mkdir()
    monkeypatch.chdir(tmp_path / "far")
    copy(patients["finished"].path, Path("elsewhere"))
    assert doctor(Path("elsewhere")).exit_code == 0


def test_a_model_whose_module_is_gone_is_looked_at_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "modules" / "gone_by_then.py"
    module.parent.mkdir()
    module.write_text("from replicate_models import Counting as build\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(module.parent)
        space = {"architecture": "gone_by_then:build", "learning_rate": 0.1}
        run, config = prepared(tmp_path / "run", trials=1, replicates=1, space=space)
        work_off(run, config)
        report_run(run)
        sys.modules.pop("gone_by_then")
    module.unlink()
    trials = read_trials(run)
    assert problems(run) == []
    run.journal.unlink()
    run.configuration.unlink()
    assert problems(run, "--repair") == []
    assert read_trials(run) == trials


def test_a_report_at_another_alpha_is_compared_at_that(finished: RunDirectory) -> None:
    report_run(finished, 0.25)
    assert problems(finished) == []
    page = finished.report / "index.html"
    page.write_bytes(page.read_bytes()[:-100])
    assert problems(finished, "--repair") == []
    assert json.loads((finished.report / "ranking.json").read_text())["alpha"] == 0.25


def test_a_report_that_is_older_than_the_study_is_not_damaged(
    interrupted: RunDirectory, patients: dict[str, Patient]
) -> None:
    kept = {path.name: path.read_bytes() for path in interrupted.report.iterdir()}
    resume(interrupted)
    for name, data in kept.items():
        (interrupted.report / name).write_bytes(data)
    found = findings(interrupted)
    assert [each["severity"] for each in found] == ["note"], found
    assert "the first 3 trials" in found[0]["what"]
    page = interrupted.report / "index.html"
    page.write_bytes(page.read_bytes().replace(b"small", b"smell", 1))
    assert "report/index.html" in problems(interrupted)[0]
    assert problems(interrupted, "--repair") == []
    assert ranking_of(interrupted) == patients["finished"].ranking


def test_figures_that_flip_are_found_wherever_they_are(finished: RunDirectory) -> None:
    one = sorted((finished.path / "traces").glob("*.json"))[0]
    told = json.loads(one.read_text())
    digits = str(told["metric_test"])
    one.write_text(one.read_text().replace(digits, f"{digits[:-1]}{(int(digits[-1]) + 1) % 10}"))
    (said,) = [each for each in problems(finished) if one.name in each]
    assert "checksum" in said
    report = CliRunner().invoke(main, ["report", str(finished.path)])
    assert report.exit_code == 2
    assert f"tracerank doctor {finished.path}" in report.stderr


def test_traces_that_changed_places_are_found_by_doctor_and_report(
    finished: RunDirectory,
) -> None:
    one, other = sorted((finished.path / "traces").glob("*.npz"))[:2]
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert len([each for each in problems(finished) if "its record was made with" in each]) == 2
    report = CliRunner().invoke(main, ["report", str(finished.path)])
    assert report.exit_code == 2
    assert "is not the trace that its record was made with" in report.stderr


def test_a_journal_is_cut_and_gets_its_trials_back_as_they_were(
    finished: RunDirectory, patients: dict[str, Patient]
) -> None:
    config = load_config(finished.configuration)
    before = ledger(finished, config)
    trials = read_trials(finished)
    data = bytearray(finished.journal.read_bytes())
    lines = bytes(data).splitlines(keepends=True)
    data[len(b"".join(lines[: len(lines) // 3])) + 40] ^= 1
    finished.journal.write_bytes(data)
    refused = CliRunner().invoke(main, ["report", str(finished.path)])
    assert refused.exit_code == 2
    assert f"tracerank doctor {finished.path}" in refused.stderr
    result = doctor(finished, "--repair")
    assert result.exit_code == 0, result.stderr
    assert "taken from the ledger" in result.stderr
    assert ledger(finished, config).equals(before)
    assert read_trials(finished) == trials
    kept = finished.path / "damaged" / "study.journal"
    assert kept.read_bytes() == data
    # As many trials more come out as of the undamaged one.
    longer, shorter = RunDirectory(finished.path), RunDirectory(finished.path.with_name("whole"))
    copy(patients["finished"].path, shorter.path)
    for run in (longer, shorter):
        more = load_config(run.configuration, {"trials": 8})
        run.configuration.write_text(more.dump())
        resume(run)
    columns = ["state", "model_id", "alpha", "parameters", "trainings", "metric", "constraint"]
    assert ledger(longer, config)[columns].equals(ledger(shorter, config)[columns])


def test_a_journal_that_is_gone_is_made_again_from_the_ledger(finished: RunDirectory) -> None:
    trials = read_trials(finished)
    finished.journal.unlink()
    assert "study.journal: is gone" in problems(finished)
    assert problems(finished, "--repair") == []
    assert read_trials(finished) == trials


def test_the_end_of_a_journal_that_is_gone_is_seen_by_the_ledger(finished: RunDirectory) -> None:
    trials = read_trials(finished)
    lines = finished.journal.read_bytes().splitlines(keepends=True)
    finished.journal.write_bytes(b"".join(lines[:-20]))
    assert any("lacks what the ledger says" in each for each in problems(finished))
    assert problems(finished, "--repair") == []
    assert read_trials(finished) == trials


def test_an_interrupted_sweep_whose_journal_is_damaged_ends_as_it_would_have(
    interrupted: RunDirectory, patients: dict[str, Patient]
) -> None:
    lines = interrupted.journal.read_bytes().splitlines(keepends=True)
    interrupted.journal.write_bytes(b"".join([*lines[:9], b"garbage\n", *lines[10:]]))
    interrupted.ledger.unlink()
    result = doctor(interrupted, "--repair")
    assert result.exit_code == 1, "records of trials that the study lacks are left to resume"
    assert f"next: tracerank resume {interrupted.path}" in result.stderr
    resume(interrupted)
    assert problems(interrupted) == []
    assert ranking_of(interrupted) == patients["finished"].ranking


def test_a_configuration_that_is_lost_is_written_again(finished: RunDirectory) -> None:
    text = finished.configuration.read_text()
    finished.configuration.unlink()
    for command in ("report", "resume"):
        refused = CliRunner().invoke(main, [command, str(finished.path)])
        assert refused.exit_code == 2
        assert f"tracerank doctor {finished.path}" in refused.stderr
    assert problems(finished, "--repair") == []
    assert finished.configuration.read_text() == text
    finished.configuration.write_text(text[: text.index("architecture:")])
    refused = CliRunner().invoke(main, ["report", str(finished.path)])
    assert refused.exit_code == 2
    assert f"tracerank doctor {finished.path}" in refused.stderr
    assert problems(finished, "--repair") == []
    assert finished.configuration.read_text() == text


def test_keys_that_were_changed_by_hand_are_noted_and_decisive_ones_a_problem(
    finished: RunDirectory,
) -> None:
    text = finished.configuration.read_text()
    finished.configuration.write_text(f"{text}\n".replace("workers: null", "workers: 3"))
    found = findings(finished)
    assert [each["severity"] for each in found] == ["note"]
    assert "workers is 3, and was None" in found[0]["what"]
    finished.configuration.write_text(text.replace("replicates: 2", "replicates: 3"))
    assert "sweep.yaml: replicates changed since the sweep began" in problems(finished)
    assert problems(finished, "--repair") == []
    assert finished.configuration.read_text() == text


def test_a_damaged_decision_is_put_aside_with_what_can_be_read(finished: RunDirectory) -> None:
    data = finished.decisions.read_text().replace("steadiest", "sturdiest")
    finished.decisions.write_text(data)
    (found,) = [each for each in findings(finished) if each["where"] == "decision.json"]
    assert 'reviewer "Ada"' in found["remains"]
    assert "sturdiest" in found["remains"]
    assert (
        problems(finished, "--repair")
        == ["decision.json: is gone: decision.lock is there, which the first decision made"]
        or problems(finished) == []
    )
    assert (finished.path / "damaged" / "decision.json").read_text() == data
    assert not finished.decisions.exists()


def test_a_record_that_is_gone_is_left_to_resume(
    finished: RunDirectory, patients: dict[str, Patient]
) -> None:
    one = sorted((finished.path / "traces").glob("*.json"))[0]
    one.unlink()
    result = doctor(finished, "--repair")
    assert result.exit_code == 1
    assert f"next: tracerank resume {finished.path}" in result.stderr
    resume(finished)
    assert problems(finished) == []
    assert ranking_of(finished) == patients["finished"].ranking


def test_a_failed_trial_keeps_its_reason(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=1, replicates=1)
    conducting = conductor(run, config)
    while (work := conducting.next("lost")) is not None:
        (gone,) = work.ids
        conducting.died("lost", "Killed: signal 9")
    conducting.study.flush()
    report_run(run)
    before = records.load(run, gone)
    assert before is not None
    assert before.state == "FAILED"
    assert problems(run) == []
    run.record(gone).unlink()
    assert any("of trial 0, which is FAILED" in each for each in problems(run))
    assert problems(run, "--repair") == []
    again = records.load(run, gone)
    assert again is not None
    assert (again.state, again.reason, again.seed) == ("FAILED", before.reason, before.seed)


def test_a_study_is_found_in_its_database(patients: dict[str, Patient], tmp_path: Path) -> None:
    copy(patients["stored"].path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    text = run.study.read_text()
    trials = read_trials(run)
    for damaged in (None, "{}", text.replace("small-", "small_")):
        run.study.unlink()
        if damaged is not None:
            run.study.write_text(damaged)
        assert any(each.startswith("study.json") for each in problems(run))
        assert problems(run, "--repair") == []
        assert run.study.read_text() == text
        assert read_trials(run) == trials


def test_foreign_and_temporary_files_are_named_and_left_alone(finished: RunDirectory) -> None:
    foreign = [finished.path / "notes.txt", finished.path / "traces" / "copy of one.json"]
    left = finished.path / "traces" / ".0123456789ab.json.a1b2c3d4e5f60718"
    for path in (*foreign, left):
        path.write_text("mine")
    found = findings(finished)
    assert {each["where"] for each in found} == {
        "notes.txt",
        "traces/copy of one.json",
        "traces/.0123456789ab.json.a1b2c3d4e5f60718",
    }
    assert {each["severity"] for each in found} == {"note"}
    assert doctor(finished, "--repair").exit_code == 0
    assert all(path.exists() for path in (*foreign, left))


def test_hostile_names_do_not_reach_the_terminal(finished: RunDirectory) -> None:
    (finished.path / "a\x1b[31mred").touch()
    assert "\x1b" not in doctor(finished).stderr


def test_a_ledger_of_another_run_is_not_taken_for_this_one(
    finished: RunDirectory, patients: dict[str, Patient]
) -> None:
    before = read_trials(finished)
    other = patients["finished"].path.parent / "other" / "trials.parquet"
    shutil.copyfile(other, finished.ledger)
    assert any(each.startswith("trials.parquet") for each in problems(finished))
    assert problems(finished, "--repair") == []
    assert read_trials(finished) == before
    config = load_config(finished.configuration)
    assert read_ledger(finished).equals(ledger_table(before, config.objective_names()))


@pytest.mark.parametrize(
    ("name", "value"),
    [("trial", [1]), ("seed", "x"), ("history", ["x"]), ("history", 3), ("model_id", {})],
)
def test_what_no_sweep_writes_is_told_without_a_traceback(
    finished: RunDirectory, name: str, value: object
) -> None:
    one = sorted((finished.path / "traces").glob("*.json"))[0]
    told = json.loads(one.read_text()) | {name: value}
    del told["sha256"]
    one.write_text(json.dumps(told))
    result = doctor(finished)
    assert result.exit_code == 1
    assert f"traces/{one.name}" in result.stderr


def test_a_study_that_no_sweep_wrote_is_told_without_a_traceback(finished: RunDirectory) -> None:
    text = re.sub(r',"checksum":"[0-9a-f]{16}"', "", finished.journal.read_text())
    for number, (old, new) in enumerate(
        [
            ('"trainings":[', '"trainings":[7,'),
            ('"model":', '"mode":'),
            ('"metric":', '"metric":[],"m":'),
        ]
    ):
        assert old in text
        finished.journal.write_text(text.replace(old, new))
        result = doctor(finished)
        assert result.exit_code == 1, number
        assert isinstance(result.exception, SystemExit), number
