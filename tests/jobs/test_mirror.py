"""The copy of a run directory: whole at the end, and of use whatever was killed when."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.jobs import mirror
from sweeps.jobs.mirror import Mirror, pull
from sweeps.jobs.store import StorageError, Store
from sweeps.run_directory import RunDirectoryError


class KilledError(Exception):
    pass


class Frail(Store):
    """A store whose user is killed after some writes and removals, or finds it silent then."""

    def __init__(self, uri: str | Path, after: int, error: type[Exception] = KilledError) -> None:
        super().__init__(uri)
        self.left = after
        self._error = error

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise self._error

    def write(self, name: str, data: bytes) -> None:
        self._spend()
        super().write(name, data)

    def remove(self, name: str) -> None:
        self._spend()
        super().remove(name)


class Sweep:
    """Writes a folder as a sweep does: what a training leaves, then a line of the journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        for name in ("traces", "checkpoints"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "sweep.yaml").write_text("name: some\n")

    def train(self) -> None:
        name = f"{self.count:012x}"
        (self.folder / f"checkpoints/{name}.pt").write_bytes(b"weights")
        (self.folder / f"traces/{name}.npz").write_bytes(random.Random(name).randbytes(50))
        (self.folder / f"traces/{name}.json").write_text(json.dumps({"trial": self.count}))
        (self.folder / f"checkpoints/{name}.pt").unlink()
        with (self.folder / "study.journal").open("a") as file:
            file.write(json.dumps({"told": name}) + "\n")
        self.count += 1


def told(folder: Path) -> list[str]:
    journal = folder / "study.journal"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [json.loads(line)["told"] for line in lines]


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def require_whole(folder: Path) -> None:
    """Every training that the journal tells of is there, with its trace."""
    for name in told(folder):
        assert (folder / f"traces/{name}.json").exists()
        assert (folder / f"traces/{name}.npz").read_bytes() == random.Random(name).randbytes(50)


def test_the_copy_is_the_run_directory(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    sweep = Sweep(tmp_path / "run")
    copy = Mirror(sweep.folder, store)
    for _ in range(5):
        sweep.train()
        copy.push()
        pull(store, tmp_path / "pulled")
        assert told(tmp_path / "pulled") == told(sweep.folder)
        require_whole(tmp_path / "pulled")
    assert store.files(mirror.SEGMENTS)
    copy.close()
    assert content(tmp_path / "store") == content(sweep.folder)
    pull(store, tmp_path / "anew")
    assert content(tmp_path / "anew") == content(sweep.folder)


def test_only_what_changed_is_sent(tmp_path: Path) -> None:
    store = Frail(tmp_path / "store", 1000)
    sweep = Sweep(tmp_path / "run")
    copy = Mirror(sweep.folder, store)
    sweep.train()
    copy.push()
    left = store.left
    copy.push()
    assert store.left == left
    sweep.train()
    copy.push()
    assert left - store.left == 3  # a trace, its record, a part of the journal
    again = Mirror(sweep.folder, store)
    left = store.left
    again.push()
    # The journal alone, put together, and the part of it that was apart.
    assert left - store.left == 2


def test_many_parts_of_the_journal_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "MOST_SEGMENTS", 3)
    store = Store(tmp_path / "store")
    sweep = Sweep(tmp_path / "run")
    copy = Mirror(sweep.folder, store)
    for _ in range(10):
        sweep.train()
        copy.push()
        assert len(store.files(mirror.SEGMENTS)) <= 3
        pull(store, tmp_path / "pulled")
        assert told(tmp_path / "pulled") == told(sweep.folder)


def test_a_line_that_is_being_written_is_left_for_later(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    sweep = Sweep(tmp_path / "run")
    copy = Mirror(sweep.folder, store)
    sweep.train()
    with (sweep.folder / "study.journal").open("a") as file:
        file.write('{"told": "half')
    copy.push()
    pull(store, tmp_path / "pulled")
    assert told(tmp_path / "pulled") == ["0" * 12]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lives=st.lists(st.integers(0, 14), max_size=6), last=st.integers(1, 3))
def test_whatever_is_killed_when(
    lives: list[int], last: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Drivers that die after some writes, each on a disk of its own: what a copy's journal tells of
    is there, and nothing that was told in a copy is ever lost.
    """
    base = tmp_path_factory.mktemp("lives")
    known: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mirror, "MOST_SEGMENTS", 2)
        for life, writes in enumerate([*lives, 10_000]):
            store = Frail(base / "store", writes)
            folder = base / f"disk{life}"
            folder.mkdir()
            with contextlib.suppress(FileNotFoundError):
                pull(store, folder)
            assert told(folder)[: len(known)] == known
            require_whole(folder)
            known = told(folder)
            sweep = Sweep(folder)
            sweep.count = len(known)
            try:
                copy = Mirror(folder, store)
                for _ in range(last):
                    sweep.train()
                    copy.push()
                copy.close()
            except KilledError:
                continue
    assert content(base / "store") == content(folder)


def test_a_silent_store_is_tried_again(tmp_path: Path) -> None:
    store = Frail(tmp_path / "store", 4, StorageError)
    sweep = Sweep(tmp_path / "run")
    copy = Mirror(sweep.folder, store)
    for _ in range(4):
        sweep.train()
    with pytest.raises(StorageError):
        copy.push()
    store.left = 1000
    copy.close()
    assert content(tmp_path / "store") == content(sweep.folder)


def test_no_write_without_a_permit(tmp_path: Path) -> None:
    left = [5]

    def permit() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StorageError("another driver may have it")

    store = Store(tmp_path / "store")
    sweep = Sweep(tmp_path / "run")
    copy = Mirror(sweep.folder, store, permit)
    for _ in range(4):
        sweep.train()
    with pytest.raises(StorageError, match="another driver"):
        copy.push()
    assert len(store.files()) <= 5
    left[0] = 1000
    copy.close()
    assert content(tmp_path / "store") == content(sweep.folder)


def test_a_journal_of_which_a_part_is_lost_is_not_begun_anew(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    sweep = Sweep(tmp_path / "run")
    copy = Mirror(sweep.folder, store)
    for _ in range(3):
        sweep.train()
        copy.push()
    store.write("study.journal", b"")
    with pytest.raises(RunDirectoryError, match="damaged"):
        pull(store, tmp_path / "pulled")


def test_checkpoints_of_what_has_ended_are_let_go_of(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    sweep = Sweep(tmp_path / "run")
    (sweep.folder / "checkpoints/some.pt").write_bytes(b"weights")
    copy = Mirror(sweep.folder, store)
    copy.push()
    pull(store, tmp_path / "pulled")
    assert (tmp_path / "pulled/checkpoints/some.pt").exists()
    (sweep.folder / "checkpoints/some.pt").unlink()
    sweep.train()
    copy.push()
    pull(store, tmp_path / "pulled")
    assert not (tmp_path / "pulled/checkpoints/some.pt").exists()


def test_a_checkpoint_that_vanishes_while_it_is_read(tmp_path: Path) -> None:
    class Late(Store):
        def read(self, name: str) -> bytes:
            if name.startswith("checkpoints/"):
                raise FileNotFoundError(name)
            return super().read(name)

    sweep = Sweep(tmp_path / "store")
    sweep.train()
    (sweep.folder / "checkpoints/some.pt").write_bytes(b"weights")
    pull(Late(tmp_path / "store"), tmp_path / "pulled")
    assert told(tmp_path / "pulled") == told(sweep.folder)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run directory"):
        pull(Store(tmp_path / "store"), tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
