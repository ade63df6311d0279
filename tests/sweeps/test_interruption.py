"""Kill the driver at any moment: `resume` ends with every trial counted once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from inprocess import small

from sweeps import records
from sweeps.candidate import Candidate, Training
from sweeps.config import load_config
from sweeps.run_directory import RunDirectory
from sweeps.selection import read_trials

TRIALS = 40

# Writes the journal's nth batch of records but for half of the last, and kills its process group.
TORN_WRITE = """
import os, signal, sys
from sweeps.cli import main
from sweeps.selection import journal
count, whole = 0, journal._write
def torn(file, data, offset):
    global count
    count += 1
    if count < 6:
        return whole(file, data, offset)
    whole(file, data[:-20], offset)
    os.killpg(0, signal.SIGKILL)
journal._write = torn
main(sys.argv[1:])
"""


def start(
    *arguments: str, code: str = "from sweeps.cli import main; main()"
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def finish(process: subprocess.Popen[bytes], code: int = 0) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err.decode()
    assert b"Traceback" not in err, err.decode()
    return out.decode()


def configuration(path: Path, **changes: object) -> Path:
    space = small()["space"] | {"learning_rate": {"float": [0.1, 1.0]}}
    path.write_text(yaml.safe_dump(small(**{"trials": TRIALS, "space": space, **changes})))
    return path


def assert_consistent(run: RunDirectory) -> None:
    """Study, ledger, stored trainings and report agree id by id."""
    config = load_config(run.configuration)
    trials = read_trials(run)
    assert [trial.number for trial in trials] == list(range(config.trials))
    assert {trial.state for trial in trials} == {"COMPLETE"}
    ledger = pd.read_parquet(run.ledger)
    assert ledger.index.tolist() == [trial.number for trial in trials]
    expected = set()
    models = set()
    for trial, (_, row) in zip(trials, ledger.iterrows(), strict=True):
        candidate, _ = Candidate.from_parameters(config, trial.parameters)
        ids = [Training(candidate, seed).training_id for seed in range(config.replicates)]
        assert row["trainings"].split(",") == ids == trial.details["trainings"]
        assert row["model_id"] == candidate.model_id
        assert row["state"] == trial.state
        owners = {record.trial for one in ids if (record := records.load(run, one)) is not None}
        assert row["replayed"] == (trial.number not in owners)
        expected.update(ids)
        models.add(candidate.model_id)
    assert {path.stem for path in (run.path / "traces").glob("*.npz")} == expected
    assert not list((run.path / "checkpoints").glob("*"))
    ranking = json.loads((run.report / "ranking.json").read_text())
    named = [entry["model_id"] for entry in (*ranking["models"], *ranking["excluded"])]
    assert sorted(named) == sorted(models)
    assert ranking["trials"]["COMPLETE"] == config.trials
    assert ranking["trials"]["trained"] == int((~ledger["replayed"]).sum())


@pytest.mark.slow
def test_ten_kills_at_random_moments(tmp_path: Path) -> None:
    config = configuration(tmp_path / "sweep.yaml", loggers=["tensorboard"])
    run = RunDirectory(tmp_path / "run")
    moments = random.Random(7)
    begin = ("run", str(config), "--out", str(run.path), "--workers", "2")
    kill_after(start(*begin, code=TORN_WRITE), 120)
    assert run.journal.read_bytes()[-1:] != b"\n"
    left = []
    for _ in range(9):
        kill_after(start("resume", str(run.path), "--workers", "2"), moments.uniform(0.5, 14))
        left.append(sum(trial.state == "INTERRUPTED" for trial in read_trials(run)))
    assert any(left), "no kill hit a running trial"
    finish(start("resume", str(run.path), "--workers", "2"))
    assert_consistent(run)
    logged = sorted((run.path / "tensorboard").iterdir())
    assert [folder.name for folder in logged] == [f"trial-{number:05d}" for number in range(TRIALS)]
    for folder in logged:
        for each in (folder, folder / "seed_0", folder / "seed_1"):
            assert len(list(each.glob("events.*"))) == 1, each


@pytest.mark.slow
def test_signals_stop_it_cleanly_and_it_says_how_to_go_on(tmp_path: Path) -> None:
    config = configuration(tmp_path / "sweep.yaml", trials=24)
    run = RunDirectory(tmp_path / "run")
    verb = ("run", str(config), "--out", str(run.path))
    for name, code, word in (("SIGINT", 130, "interrupted"), ("SIGTERM", 3, "stopped")):
        process = start(*verb, "--workers", "2")
        verb = ("resume", str(run.path))
        await_trainings(run, process, 3)
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err.decode()
        assert word in err.decode()
        assert f"tracerank resume {run.path}" in err.decode()
        assert "Traceback" not in err.decode()
    # Ray's processes get this one as well.
    process = start(*verb, "--workers", "2")
    await_trainings(run, process, 3)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 3
    finish(start(*verb, "--workers", "2"))
    assert_consistent(run)


def await_trainings(run: RunDirectory, process: subprocess.Popen[bytes], count: int) -> None:
    """Return when so many more have ended than at first."""
    before = trainings(run)
    while trainings(run) < before + count and process.poll() is None:
        time.sleep(0.05)


def trainings(run: RunDirectory) -> int:
    return len(list((run.path / "traces").glob("*.json")))


@pytest.mark.slow
def test_one_worker_gives_the_same_sweep_twice_and_resume_extends_it(tmp_path: Path) -> None:
    config = configuration(tmp_path / "sweep.yaml", sampler={"name": "tpe", "seed": 5})
    runs = [RunDirectory(tmp_path / name) for name in ("first", "second")]
    for run, trials in zip(runs, ("14", "9"), strict=True):
        out = finish(
            start("run", str(config), "--out", str(run.path), "--workers", "1", "--trials", trials)
        )
        assert out.strip() == str(run.path)
    finish(start("resume", str(runs[1].path), "--workers", "1", "--trials", "14"))
    for run in runs:
        assert_consistent(run)
    first, second = runs
    assert [trial.parameters for trial in read_trials(first)] == [
        trial.parameters for trial in read_trials(second)
    ]
    for trace in (first.path / "traces").glob("*.npz"):
        assert trace.read_bytes() == (second.path / "traces" / trace.name).read_bytes()
    rankings = [(run.report / "ranking.json").read_bytes() for run in runs]
    assert rankings[0] == rankings[1]


def test_two_drivers_of_one_run_directory(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    path = configuration(tmp_path / "sweep.yaml")
    run.path.mkdir()
    run.configuration.write_text(load_config(path).dump())
    with run.driving():
        process = start("resume", str(run.path))
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"another sweep is running in it (process {os.getpid()})" in err.decode()
