"""What the driver keeps in the storage, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.config import SweepConfig
from sweeps.jobs import driver, lease, mirror
from sweeps.jobs import keeper as keeper_module
from sweeps.jobs.driver import STOPPED, UNREACHABLE, USAGE
from sweeps.jobs.keeper import Keeper
from sweeps.jobs.lease import Lease, LostError
from sweeps.jobs.store import StorageError, Store
from sweeps.run_directory import RunDirectory
from sweeps.selection import Study

CONFIG: dict[str, Any] = {
    "name": "small",
    "task": "digits",
    "budget": {"epochs": 1, "batch_size": 64},
    "trials": 3,
    "space": {"architecture": {"mlp": {"hidden": {"int": [8, 32]}}}},
    "sampler": {"name": "random", "seed": 1},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without waiting; the signal's handler is put back."""
    monkeypatch.setattr(keeper_module, "MIRROR_SECONDS", 0.05)
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    usual = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, usual)


def keeper(folder: Path, store: Store) -> Keeper:
    return Keeper(RunDirectory(folder), store, Lease(store), "some", "some--2")


def begin(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "sweep.yaml").write_text("name: some\n")


def test_what_is_in_the_stop_file_harms_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with keeper(tmp_path / "run", store).keeping():
        begin(tmp_path / "run")
        for odd in (b"", b"[]", b"null", b"{", b'{"attempt": ["some--2"]}', b'{"attempt": "some"}'):
            store.write("stop", odd)
            until = time.monotonic() + 10
            while store.exists("stop") and time.monotonic() < until:
                time.sleep(0.02)
            assert not store.exists("stop"), odd
    assert (store.told("progress.json") or {})["state"] == "ended"
    assert not store.exists("driver.json")


def test_a_signal_at_the_end_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while the last files are on their way."""
    store = Store(tmp_path / "store")
    signal.signal(signal.SIGTERM, driver._end)
    close = mirror.Mirror.close

    def interrupted(copy: mirror.Mirror) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        close(copy)

    monkeypatch.setattr(mirror.Mirror, "close", interrupted)
    with keeper(tmp_path / "run", store).keeping():
        begin(tmp_path / "run")
    assert store.read("sweep.yaml") == b"name: some\n"
    assert (store.told("progress.json") or {})["state"] == "ended"


def test_a_signal_at_the_end_is_heard_where_the_storage_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(copy: mirror.Mirror) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise StorageError("silent")

    monkeypatch.setattr(mirror.Mirror, "close", silent)
    keeping = keeper(tmp_path / "run", Store(tmp_path / "store")).keeping()
    with pytest.raises(StorageError, match="silent"), keeping:
        begin(tmp_path / "run")


def test_who_has_lost_the_sweep_says_so(tmp_path: Path) -> None:
    """Whatever it is at, and even as it ends by itself."""
    store = Store(tmp_path / "store")
    signal.signal(signal.SIGTERM, driver._end)

    def lose() -> None:
        with keeper(tmp_path / "run", store).keeping():
            begin(tmp_path / "run")
            store.write("driver.json", b'{"holder": "another"}')
            time.sleep(10)

    with pytest.raises(LostError, match="has written nothing"):
        lose()
    assert store.told("driver.json") == {"holder": "another"}


@pytest.mark.parametrize("error", [SystemExit(STOPPED), StorageError("silent")])
def test_a_driver_that_ends_before_it_has_begun_lets_go(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(store: Store, path: Path) -> None:
        raise error

    monkeypatch.setattr(keeper_module, "pull", pull)
    store = Store(tmp_path / "store")
    with pytest.raises(type(error)), keeper(tmp_path / "run", store).keeping():
        pass
    assert not store.exists("driver.json")


def drive(tmp_path: Path, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> int:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(CONFIG | changed))
    monkeypatch.setattr(driver, "_ROOT", tmp_path)

    def none(*arguments: object, **options: object) -> None:
        raise StorageError

    monkeypatch.setattr("sweeps.sweep.drive", none)
    arguments = ["--id", "some", "--attempt", "some", "--storage", str(tmp_path / "store")]
    return driver.main([*arguments, "--config", "job.yaml"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"budget": {"epochs": 2, "batch_size": 64}}, "budget changed since the sweep began"),
        ({"trials": 1}, "can be extended, not cut"),
    ],
)
def test_another_sweep_by_the_same_id_is_refused(
    changed: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The cluster that knew what the id stands for may be gone."""
    settings = SweepConfig.from_dict(CONFIG, "configuration")
    there = RunDirectory(tmp_path / "store" / "some")
    there.path.mkdir(parents=True)
    there.configuration.write_text(settings.dump())
    study = Study(there, settings)
    for _ in range(2):
        study.ask()
    study.flush()
    before = {path: path.read_bytes() for path in there.path.iterdir()}
    assert drive(tmp_path, changed, monkeypatch) == USAGE
    told = capsys.readouterr().err
    assert said in told
    assert "/tracerank-" not in told
    assert {path: path.read_bytes() for path in before} == before
    # With more trials it goes on.
    assert drive(tmp_path, {"trials": 4}, monkeypatch) == UNREACHABLE
    assert b"trials: 4" in there.configuration.read_bytes()
