"""The journal's chain: what was changed is found, other tools can read and write it, and a full
disk leaves it as it was.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweeps.selection.journal import BatchedJournal, ChainedJournal, ChainError, has_checksum

LOGS = [{"op_code": 8, "trial_id": n, "user_attr": {"of": "x" * n}} for n in range(8)]


def written(path: Path, logs: list[dict[str, Any]] = LOGS) -> BatchedJournal:
    journal = BatchedJournal(path)
    assert list(journal.read_logs(0)) == []
    journal.append_logs(logs)
    journal.flush()
    return journal


def read(path: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in log.items() if key != "checksum"}
        for log in ChainedJournal(path).read_logs(0)
    ]


def test_a_journal_goes_on_over_drivers_and_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = written(path, LOGS[:3])
    reader = ChainedJournal(path)
    assert len(list(reader.read_logs(0))) == 3
    journal.append_logs(LOGS[3:5])
    assert len(list(reader.read_logs(3))) == 0
    journal.flush()
    assert [log["trial_id"] for log in reader.read_logs(3)] == [3, 4]
    again = BatchedJournal(path)
    assert len(list(again.read_logs(0))) == 5
    again.append_logs(LOGS[5:])
    again.flush()
    assert [log["trial_id"] for log in reader.read_logs(5)] == [5, 6, 7]
    assert read(path) == LOGS
    assert all(map(has_checksum, path.read_bytes().splitlines(keepends=True)))


def test_optuna_itself_reads_and_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = BatchedJournal(path)
    ours = optuna.create_study(storage=JournalStorage(journal), study_name="s")
    ours.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    journal.flush()
    theirs = optuna.load_study(
        study_name="s", storage=JournalStorage(JournalFileBackend(str(path)))
    )
    assert [trial.params for trial in theirs.trials] == [trial.params for trial in ours.trials]
    theirs.set_user_attr("note", "by another tool")
    ours.set_user_attr("note too", "by us")
    journal.flush()
    seen = optuna.load_study(study_name="s", storage=JournalStorage(ChainedJournal(path)))
    assert seen.user_attrs == {"note": "by another tool", "note too": "by us"}
    lines = path.read_bytes().splitlines(keepends=True)
    assert [has_checksum(line) for line in lines[-3:]] == [True, False, True]
    assert len(seen.trials) == 3


def damages() -> Iterator[tuple[str, Any]]:
    yield "a line is gone", lambda lines: [*lines[:3], *lines[4:]]
    yield "the first is gone", lambda lines: lines[1:]
    yield "two changed places", lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]]
    yield "one stands there twice", lambda lines: [*lines[:3], lines[2], *lines[3:]]
    yield (
        "a checksum was taken off",
        lambda lines: [*lines[:3], lines[3][:-32] + b"}\n", *lines[4:]],
    )
    yield (
        "a figure was changed",
        lambda lines: [*lines[:3], lines[3].replace(b'id":3', b'id":7'), *lines[4:]],
    )
    yield "an empty line", lambda lines: [*lines[:3], b"\n", *lines[3:]]
    yield "no record", lambda lines: [*lines, b"[]\n"]
    yield "no JSON", lambda lines: [*lines, b"\0\0\0\n"]


@pytest.mark.parametrize(("what", "change"), list(damages()), ids=[what for what, _ in damages()])
def test_what_was_changed_is_found(tmp_path: Path, what: str, change: Any) -> None:
    path = tmp_path / "j"
    written(path)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(ChainError, match="line"):
        read(path)
    with pytest.raises(ChainError, match="line"):
        list(BatchedJournal(path).read_logs(0))


def test_every_bit_that_flips_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path)
    whole = path.read_bytes()
    last = len(b"".join(whole.splitlines(keepends=True)[:-1]))
    chosen = random.Random(1)
    for _ in range(500):
        place = chosen.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chosen.randrange(8)
        path.write_bytes(damaged)
        try:
            found = read(path)
        except ChainError:
            continue
        # The name of the last checksum, or the end of the last line, which is then torn.
        assert place > last
        assert [{key: log[key] for key in LOGS[0]} for log in found] == LOGS[: len(found)]
        assert len(found) >= len(LOGS) - 1


def test_lines_without_checksums_are_of_an_earlier_version(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text("".join(json.dumps(log) + "\n" for log in LOGS[:4]))
    journal = BatchedJournal(path)
    assert len(list(journal.read_logs(0))) == 4
    journal.append_logs(LOGS[4:])
    journal.flush()
    assert read(path) == LOGS
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"trial_id": 2', b'"trial_id": 3'))
    with pytest.raises(ChainError, match="line 5, or one before it"):
        read(path)


def test_a_torn_line_is_not_read_and_a_shorter_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    reader = ChainedJournal(path)
    assert len(list(reader.read_logs(0))) == 7
    path.write_bytes(whole)
    assert len(list(reader.read_logs(7))) == 1
    path.write_bytes(whole[:-5])
    with pytest.raises(ChainError, match="bytes"):
        list(reader.read_logs(8))


def test_a_journal_that_was_changed_under_its_writer_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = written(path)
    path.write_bytes(path.read_bytes()[:100])
    journal.append_logs(LOGS)
    with pytest.raises(ChainError):
        journal.flush()
    assert path.stat().st_size == 100


def test_what_another_tool_left_of_a_line_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = written(path)
    with path.open("ab") as file:
        file.write(b'{"op_code":8,"trial')
    journal.append_logs(LOGS[:1])
    journal.flush()
    assert read(path) == [*LOGS, LOGS[0]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system of 64 KiB can't be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


BIG = [{"op_code": 8, "user_attr": {"of": f"{n:0>900}"}} for n in range(80)]


def test_a_full_disk_leaves_the_journal_as_it_was_and_loses_nothing(small_disk: Path) -> None:
    path = small_disk / "j"
    journal = written(path)
    before = path.read_bytes()
    journal.append_logs(BIG)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            journal.flush()
        assert path.read_bytes() == before
        assert list(small_disk.iterdir()) == [path]
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    journal.flush()
    journal.flush()
    assert read(path) == [*LOGS, *BIG]


def test_what_could_not_be_taken_back_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    journal = written(path)
    journal.append_logs(BIG)
    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(30, "read-only")))
        with limited(path.stat().st_size + 5000), pytest.raises(OSError, match="File too large"):
            journal.flush()
        assert path.stat().st_size > 5000
    journal.flush()
    assert read(path) == [*LOGS, *BIG]


class limited:  # noqa: N801
    """No file of this process may become larger."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __enter__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)
        signal.signal(signal.SIGXFSZ, self._handler)
