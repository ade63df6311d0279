"""What is no file of a run directory is neither read nor written by any command: nothing that a
link leads to, and no pipe.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from inprocess import prepared, work_off

from sweeps.cli import main
from sweeps.listing import listing
from sweeps.results import rank_run
from sweeps.run_directory import RunDirectory

COMMANDS = [
    ["report"],
    ["doctor"],
    ["doctor", "--repair"],
    ["resume"],
    ["decide", "--check"],
    ["decide", "--model", "0" * 12, "--reason", "so", "--reviewer", "Ada"],
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run, config = prepared(tmp_path_factory.mktemp("runs") / "run", trials=2)
    work_off(run, config)
    rank_run(run)
    assert CliRunner().invoke(main, ["report", str(run.path)]).exit_code == 0
    return run.path


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(sound, tmp_path / "runs" / "run")
    return RunDirectory(tmp_path / "runs" / "run")


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    "name",
    [
        "driver.lock",
        "sweep.yaml",
        "environment.json",
        "study.journal",
        "decision.json",
        "decision.lock",
        "trials.parquet",
        "scores.npz",
        "logged",
        "checkpoints",
        "traces",
        "report",
        "damaged",
        "report/ranking.json",
        "report/index.html",
        "traces/a.json",
        "traces/study.journal.lock0.json",
        "wandb",
    ],
)
def test_no_link_is_followed(run: RunDirectory, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "0123456789ab.pt").write_text("mine")
    (outside / "file").write_text("TOPSECRET")
    link = run.path / name
    whole = link.is_dir() or name in ("logged", "checkpoints", "damaged", "wandb")
    if link.is_dir():
        shutil.rmtree(link)
    else:
        link.unlink(missing_ok=True)
    before = _content(outside)
    for target in [outside] if whole else [outside / "file", outside / "new"]:
        link.symlink_to(target)
        for command in COMMANDS:
            told = CliRunner().invoke(main, [command[0], str(run.path), *command[1:]])
            assert told.exit_code in (2, 4)
            assert "TOPSECRET" not in told.output
            assert not told.exception or isinstance(told.exception, SystemExit)
            if target.exists():
                assert f"{link}: is a link" in told.stderr
        listing("runs", run.path.parent)
        assert _content(outside) == before
        link.unlink()


@pytest.mark.parametrize(
    "name",
    [
        "environment.json",
        "study.journal",
        "study.json",
        "earlier.json",
        "scores.npz",
        "decision.json",
        "driver.lock",
        "report/ranking.json",
        "traces/a.json",
        "logged",
    ],
)
def test_no_pipe_is_opened(run: RunDirectory, name: str) -> None:
    (run.path / name).unlink(missing_ok=True)
    os.mkfifo(run.path / name)
    for command in COMMANDS:
        told = CliRunner().invoke(main, [command[0], str(run.path), *command[1:]])
        assert told.exit_code == 2
        assert f"{run.path / name}: is neither a file nor a folder" in told.stderr
    (listed,) = listing("runs", run.path.parent)
    assert "is neither a file nor a folder" in listed["note"]


def test_the_locks_of_a_journal_are_no_links_to_follow(run: RunDirectory) -> None:
    lock = Path(f"{run.journal}.lock")
    lock.symlink_to(run.journal)
    run.require_plain()
    lock.rename(f"{lock}0b5c")
    assert CliRunner().invoke(main, ["report", str(run.path)]).exit_code == 0


def test_the_links_of_a_logger_are_its_own(run: RunDirectory) -> None:
    folder = run.path / "wandb" / "offline-run-1" / "logs"
    folder.mkdir(parents=True)
    (run.path / "wandb" / "latest-run").symlink_to(folder.parent)
    (folder / "debug-core.log").symlink_to("/nowhere")
    for command in (["report"], ["resume"], ["doctor"]):
        told = CliRunner().invoke(main, [command[0], str(run.path), *command[1:]])
        assert told.exit_code == 0, told.stderr
    assert "wandb" not in told.stderr


def test_a_folder_that_cant_be_looked_at_hides_no_other_run(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run.path, run.path.with_name("second"))
    scandir = os.scandir

    def refused(folder: str | Path) -> object:
        if str(folder) == str(run.path / "traces"):
            raise PermissionError(13, os.strerror(13), str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    notes = {each["run"]: each["note"] for each in listing("runs", run.path.parent)}
    assert notes == {
        str(run.path): f"{run.path / 'traces'}: Permission denied",
        str(run.path.with_name("second")): "",
    }
