"""One driver at a time, and the next one after it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sweeps.jobs.lease import Lease, LostError
from sweeps.jobs.store import StorageError, Store
from sweeps.run_directory import RunDirectoryError

SILENT = 1.0


def alive(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its driver works on, and beats whenever another one waits."""
    sleep = time.sleep

    def beat_meanwhile(seconds: float) -> None:
        sleep(seconds)
        lease.beat()

    monkeypatch.setattr("sweeps.jobs.lease.time.sleep", beat_meanwhile)


def test_who_comes_second_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    first = Lease(store, silent_seconds=SILENT)
    alive(first, monkeypatch)
    with pytest.raises(RunDirectoryError, match="another driver works"):
        Lease(store, silent_seconds=SILENT)
    first.beat()


def test_what_is_let_go_of_is_taken_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    Lease(store, silent_seconds=60).release()
    begun = time.monotonic()
    Lease(store, silent_seconds=60)
    assert time.monotonic() - begun < 10


def test_who_is_silent_is_taken_for_dead(tmp_path: Path) -> None:
    store = Store(tmp_path)
    told: list[str] = []
    dead = Lease(store, told.append, silent_seconds=SILENT)
    assert not told
    second = Lease(store, told.append, silent_seconds=SILENT)
    assert len(told) == 1
    assert second.held
    # It wasn't: now it learns that it has lost, and takes nothing from the other.
    assert not dead.held
    with pytest.raises(LostError, match="taken this sweep over"):
        dead.beat()
    dead.release()
    time.sleep(SILENT / 4)
    second.beat()


def test_who_may_have_lost_it_may_not_write(tmp_path: Path) -> None:
    lease = Lease(Store(tmp_path), silent_seconds=SILENT)
    lease.require()
    time.sleep(SILENT * 0.6)
    with pytest.raises(StorageError, match="another driver may"):
        lease.require()
    lease.beat()
    lease.require()


def test_a_damaged_sign_of_life_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("driver.json", b"{")
    lease = Lease(store, silent_seconds=SILENT)
    lease.beat()
    assert lease.held
