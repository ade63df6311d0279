"""The study in a journal, in SQLite and in PostgreSQL: real databases, and a real dashboard."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgres
import pytest
import yaml
from click.testing import CliRunner
from inprocess import ledger, prepared, small, work_off

from sweeps.cli import main
from sweeps.config import SweepConfig, load_config
from sweeps.config_messages import ConfigError
from sweeps.run_directory import RunDirectory, RunDirectoryError
from sweeps.selection import Study, read_trials

PASSWORD = "tell-nobody"
STORAGES = ["journal", "sqlite", "postgresql"]


@pytest.fixture(scope="session")
def socket_folder() -> Iterator[Path]:
    programs = postgres.programs()
    if programs is None:
        pytest.skip("PostgreSQL is not here: initdb was not found")
    with postgres.server(programs, PASSWORD) as folder:
        yield folder


@pytest.fixture
def database(socket_folder: Path) -> str:
    return f"postgresql://sweeps@/postgres?host={socket_folder}"


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "journal":
        return "journal"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/studies.db"
    return str(request.getfixturevalue("database"))


def test_an_interrupted_sweep_ends_as_an_undisturbed_one(tmp_path: Path, storage: str) -> None:
    sampler = {"name": "tpe", "seed": 3}
    undisturbed, config = prepared(tmp_path / "undisturbed", trials=14, sampler=sampler)
    work_off(undisturbed, config)
    run, config = prepared(tmp_path / "run", trials=14, sampler=sampler, storage=storage)
    assert read_trials(run) == []
    for at_most in (1, 2):
        # The last one is begun, and its driver dies.
        assert work_off(run, config, at_most).next("lost") is not None
    assert work_off(run, config).complete
    columns = ["state", "model_id", "alpha", "parameters", "trainings", "replayed", "metric"]
    found = ledger(run, config)
    assert found[columns].equals(ledger(undisturbed, config)[columns])
    assert found["started"].le(found["ended"]).all()
    assert run.journal.exists() == (storage == "journal")
    assert run.study.exists() != (storage == "journal")


def test_sweeps_of_one_configuration_in_one_storage_never_meet(
    tmp_path: Path, storage: str
) -> None:
    runs = [prepared(tmp_path / name, storage=storage, replicates=1) for name in ("a", "b")]
    conducting = [work_off(run, config, at_most=1) for run, config in runs]
    for each in conducting:
        each.study.flush()
    for run, config in runs:
        assert work_off(run, config).complete
        assert [trial.number for trial in read_trials(run, config)] == list(range(6))
        result = CliRunner().invoke(main, ["report", str(run.path), "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["trials"]["COMPLETE"] == 6


def test_runs_are_listed_whatever_their_storage(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, config = prepared(Path("runs/one"), storage=storage, replicates=1)
    work_off(run, config)
    result = CliRunner().invoke(main, ["list", "runs", "--json"])
    assert json.loads(result.stdout)[0]["complete"] == config.trials


def test_a_run_whose_database_is_gone_is_listed_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, kept in (("a", f"sqlite:///{tmp_path}/studies.db"), ("b", "journal")):
        run, config = prepared(Path(f"runs/{name}"), storage=kept, replicates=1, trials=2)
        work_off(run, config)
    (tmp_path / "studies.db").unlink()
    result = CliRunner().invoke(main, ["list", "runs", "--json"])
    gone, there = json.loads(result.stdout)
    assert gone["trials"] is None
    assert "cannot be reached" in gone["note"]
    assert (there["complete"], there["note"]) == (2, "")


def start(*arguments: str) -> subprocess.Popen[bytes]:
    code = "from sweeps.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def written(path: Path, **changes: Any) -> Path:
    space = small()["space"] | {"learning_rate": {"float": [0.1, 1.0]}}
    path.write_text(yaml.safe_dump(small(space=space, trials=20, **changes)))
    return path


@pytest.mark.slow
def test_two_sweeps_at_once_in_postgresql_and_one_of_them_killed(
    tmp_path: Path, database: str
) -> None:
    config = written(tmp_path / "sweep.yaml", storage=database)
    runs = [RunDirectory(tmp_path / name) for name in ("a", "b")]
    first, second = (
        start("run", str(config), "--out", str(run.path), "--workers", "1") for run in runs
    )
    while first.poll() is None and not list((runs[0].path / "traces").glob("*.json")):
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    left = read_trials(runs[0])
    assert any(trial.state == "INTERRUPTED" for trial in left)
    assert second.wait(300) == 0, second.communicate()[1].decode()
    second.communicate()
    again = start("resume", str(runs[0].path), "--workers", "1")
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0, err.decode()
    found = []
    for run in runs:
        trials = read_trials(run, load_config(run.configuration))
        assert [(trial.number, trial.state) for trial in trials] == [
            (number, "COMPLETE") for number in range(20)
        ]
        found.append([trial.parameters for trial in trials])
    assert found[0] == found[1]


def test_a_password_is_taken_from_its_file_and_kept_nowhere(
    tmp_path: Path, socket_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"postgresql://{postgres.GUARDED}@/postgres?host={socket_folder}"
    run, config = prepared(tmp_path / "run", storage=storage, replicates=1)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    with pytest.raises(ConnectionError, match="no password supplied"):
        Study(run, config)
    secrets = tmp_path / "pgpass"
    secrets.write_text(f"*:*:*:*:{PASSWORD}\n")
    secrets.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(secrets))
    assert work_off(run, config).complete
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql://me:tell-nobody@localhost/studies",
        "postgresql://me@localhost/studies?password=tell-nobody",
        "postgresql://me:tell-nobody@[localhost/studies",
        "postgresql://me:tell-nobody/x@localhost/studies",
        "postgresql://me:tell-nobody#x@localhost/studies",
        "mysql://me:tell-nobody@localhost/studies",
        "me:tell-nobody@localhost",
        {"url": "postgresql://me:tell-nobody@localhost/studies"},
    ],
)
def test_a_password_in_the_configuration_is_refused_and_not_repeated(
    tmp_path: Path, storage: Any
) -> None:
    path, out = tmp_path / "sweep.yaml", tmp_path / "run"
    written(path, storage=storage)
    result = CliRunner().invoke(main, ["run", str(path), "--out", str(out)])
    assert result.exit_code == 2
    assert "storage:" in result.stderr
    assert PASSWORD not in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        (3, "got 3; must be journal (a file in the run directory), sqlite:///PATH or postgresql"),
        ("jurnal", "got 'jurnal'; must be journal (a file in the run directory), sqlite"),
        ("sqlite://", "must be sqlite:///PATH, the path of a file"),
        ("sqlite:///:memory:", "must be sqlite:///PATH, the path of a file"),
        ("mysql://localhost/studies", "got a URL of 'mysql'; must be journal"),
        ("postgres://me@localhost/studies", "Did you mean postgresql?"),
    ],
)
def test_bad_storages(storage: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SweepConfig.from_dict(small(storage=storage))
    assert expected in str(caught.value)


def test_a_path_of_sqlite_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = SweepConfig.from_dict(small(storage="sqlite:///a b.db"))
    assert config.storage == f"sqlite:///{tmp_path}/a b.db"
    assert SweepConfig.from_dict(config.resolved()) == config


@pytest.mark.parametrize("kind", ["gone", "no server", "no folder"])
def test_a_database_that_cannot_be_reached(tmp_path: Path, kind: str) -> None:
    storage = {
        "gone": f"sqlite:///{tmp_path}/studies.db",
        "no server": "postgresql://me@127.0.0.1:1/studies",
        "no folder": f"sqlite:///{tmp_path}/none/studies.db",
    }[kind]
    run, config = prepared(tmp_path / "run", storage=storage, replicates=1)
    verbs = ["resume"]
    if kind == "gone":
        work_off(run, config)
        (tmp_path / "studies.db").unlink()
        verbs = ["report"]
    for verb in verbs:
        result = CliRunner().invoke(main, [verb, str(run.path)])
        assert result.exit_code == 5, result.output
        assert f"storage {storage} cannot be reached: " in result.stderr
        assert len(result.stderr.splitlines()) == 1
    # What was never there isn't held to.
    assert run.study.exists() == (kind == "gone")


def test_a_server_that_goes_away_during_a_sweep(tmp_path: Path) -> None:
    programs = postgres.programs()
    if programs is None:
        pytest.skip("PostgreSQL is not here: initdb was not found")
    with postgres.server(programs, PASSWORD) as folder:
        storage = f"postgresql://sweeps@/postgres?host={folder}"
        run, config = prepared(tmp_path / "run", storage=storage, replicates=1)
        study = Study(run, config)
        study.ask()
    for ask in (study.ask, study.trials, study.adopt):
        with pytest.raises(ConnectionError, match=r"storage postgresql.* cannot be reached"):
            ask()


@pytest.mark.parametrize("damage", ["no database", "other tables"])
def test_a_damaged_database(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "studies.db"
    run, config = prepared(tmp_path / "run", storage=f"sqlite:///{path}", replicates=1)
    work_off(run, config)
    if damage == "no database":
        path.write_bytes(b"nothing of the kind" * 100)
    else:
        path.write_bytes(b"")
    result = CliRunner().invoke(main, ["report", str(run.path)])
    assert result.exit_code in (2, 5), result.output
    assert isinstance(result.exception, SystemExit)
    assert str(path) in result.stderr


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"storage": "journal", "study": "a"}'])
def test_a_run_directory_that_does_not_say_where_its_study_is(tmp_path: Path, text: str) -> None:
    run, _ = prepared(tmp_path / "run")
    run.study.write_text(text)
    with pytest.raises(RunDirectoryError, match=r"study\.json: does not say where the study is"):
        read_trials(run)


def test_another_storage_than_the_sweep_began_with(tmp_path: Path, storage: str) -> None:
    run, config = prepared(tmp_path / "run", storage=storage, replicates=1)
    work_off(run, config)
    other = SweepConfig.from_dict(config.resolved() | {"storage": f"sqlite:///{tmp_path}/b.db"})
    run.configuration.write_text(other.dump())
    for verb in ("report", "resume"):
        result = CliRunner().invoke(main, [verb, str(run.path)])
        assert result.exit_code == 2
        assert f"storage changed since the sweep began; put it back to {storage}" in result.stderr


@contextlib.contextmanager
def dashboard(storage: str) -> Iterator[str]:
    """Optuna's dashboard on loopback: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    process = subprocess.Popen(
        [program, storage, "--host", "127.0.0.1", "--port", str(port), "--server", "wsgiref"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def answer(address: str) -> Any:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as reply:
                return json.load(reply)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_the_dashboard_reads_a_sweep_in_progress(tmp_path: Path, storage: str) -> None:
    run, config = prepared(tmp_path / "run", storage=storage, replicates=1)
    conducting = work_off(run, config, at_most=2)
    assert conducting.next("a") is not None
    address = str(run.journal)
    if storage != "journal":
        address = storage.replace("postgresql:", "postgresql+psycopg:")
    with dashboard(address) as page:
        name = "tracerank" if storage == "journal" else json.loads(run.study.read_text())["study"]
        studies = answer(f"{page}/api/studies")["study_summaries"]
        number = next(one["study_id"] for one in studies if one["study_name"] == name)
        seen = answer(f"{page}/api/studies/{number}?after=0")["trials"]
        told = read_trials(run)
        assert [trial["state"] for trial in seen] == [
            {"COMPLETE": "Complete", "INTERRUPTED": "Running"}[trial.state] for trial in told
        ]
        assert seen[-1]["state"] == "Running"
        for trial, expected in zip(seen, told, strict=True):
            assert {one["name"] for one in trial["params"]} == set(expected.parameters)
            if expected.values is not None:
                assert [float(value) for value in trial["values"]] == expected.values
        # It goes on under the reader's eyes.
        assert work_off(run, config).complete
