"""Signals that come before anything is trained, or after: the sweep is stopped in order too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from inprocess import prepared, work_off

from sweeps.cli import main
from sweeps.handle import Sweep
from sweeps.run_directory import RunDirectory


def sent(number: signal.Signals) -> Any:
    def send(*arguments: Any, **named: Any) -> None:
        os.kill(os.getpid(), number)

    return send


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """What starts the tests may have these ignored."""
    usual = {
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, former in before.items():
        signal.signal(number, former)


@pytest.fixture
def all_trained(tmp_path: Path) -> RunDirectory:
    run, config = prepared(tmp_path / "run", trials=2)
    work_off(run, config)
    return run


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGTERM, 3, "stopped"),
        (signal.SIGHUP, 3, "stopped"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
@pytest.mark.parametrize("moment", ["sweeps.sweep.Study", "sweeps.sweep.KeptScores"])
def test_before_anything_is_trained(
    all_trained: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
    word: str,
    moment: str,
) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    monkeypatch.setattr(moment, sent(number))
    told = CliRunner().invoke(main, ["resume", str(all_trained.path)])
    assert told.exit_code == code
    assert f"{word}. Continue with: tracerank resume {all_trained.path}" in told.stderr
    now = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    assert now == before
    assert not all_trained.driven


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_when_the_study_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run, _ = prepared(tmp_path / "run", trials=2)
    monkeypatch.setattr("sweeps.sweep.Conductor.adopt", sent(number))
    told = CliRunner().invoke(main, ["resume", str(run.path)])
    assert told.exit_code == 3
    assert "stopped after 0 of 2 trials. Continue with: tracerank resume" in told.stderr


def test_while_it_reports(all_trained: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Sweep, "report", sent(signal.SIGTERM))
        told = CliRunner().invoke(main, ["resume", str(all_trained.path)])
    assert told.exit_code == 3
    assert f"stopped. Continue with: tracerank resume {all_trained.path}" in told.stderr
    assert not (all_trained.report / "index.html").exists()
    assert CliRunner().invoke(main, ["resume", str(all_trained.path)]).exit_code == 0
    assert (all_trained.report / "index.html").exists()


def test_a_terminal_that_is_closed_is_nothing_under_nohup(
    all_trained: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        report = Sweep.report

        def reported(self: Sweep, *arguments: Any) -> Any:
            os.kill(os.getpid(), signal.SIGHUP)
            return report(self, *arguments)

        monkeypatch.setattr(Sweep, "report", reported)
        assert CliRunner().invoke(main, ["resume", str(all_trained.path)]).exit_code == 0
    finally:
        signal.signal(signal.SIGHUP, before)
