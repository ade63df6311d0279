"""What can't be written, what was changed meanwhile, and processes that aren't the one that trains:
none of them becomes a result.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inprocess import conductor, make_all, prepared, work_off

from sweeps import records
from sweeps.api import drive_directory
from sweeps.course import Course
from sweeps.group import Group
from sweeps.results import rank_run
from sweeps.run_directory import RunDirectory
from sweeps.selection import read_trials
from sweeps.storing import UnwrittenError, storing
from trace_core import durable


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_fails_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, config = prepared(tmp_path / "run", trials=1)
    conducting = conductor(run, config)
    work = conducting.next("a")
    assert work is not None
    texts = [training.to_json() for training in work.trainings]
    group = Group(run.path, texts, work.ids, work.trial, "a")
    with monkeypatch.context() as patched:
        patched.setattr(durable.os, "fsync", full)
        with pytest.raises(UnwrittenError, match=r"traces/\w+\.npz: No space left on device"):
            group.advance(1e9)
    assert not list((run.path / "traces").glob("*"))
    assert not list((run.path / "traces").glob(".*"))
    make_all(run, work)
    assert all(records.ended(run, name) for name in work.ids)


def test_a_full_disk_ends_the_sweep_with_what_to_do_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = prepared(tmp_path / "run", trials=2)
    work_off(run, config)
    with monkeypatch.context() as patched:
        patched.setattr(durable.os, "fsync", full)
        with pytest.raises(
            UnwrittenError, match=r"study\.journal: No space left on device; .* tracerank resume "
        ):
            drive_directory(run, config, 1, None, [], progress=False)
    sweep = drive_directory(run, config, 1, None, [], progress=False)
    assert sweep.complete


def test_only_the_sweeps_own_files_are_meant() -> None:
    with pytest.raises(UnwrittenError, match=r"^file: No such"), storing():
        open("file").close()


@pytest.mark.parametrize("replicates", [1, 3])
@pytest.mark.parametrize("moment", ["before", "meanwhile", "raising"])
def test_a_process_that_was_forked_writes_nothing_and_comes_back_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replicates: int, moment: str
) -> None:
    run, config = prepared(tmp_path / "run", trials=1, replicates=replicates)
    conducting = conductor(run, config)
    work = conducting.next("a")
    assert work is not None
    texts = [training.to_json() for training in work.trainings]
    group = Group(run.path, texts, work.ids, work.trial, "a")
    others: list[int] = []
    rate = Course.learning_rate

    def fork(*given: Any) -> float:
        if not others:
            others.append(os.fork())
            if moment == "raising" and not others[0]:
                raise SystemExit
        return rate(*given)

    if moment == "before":
        others.append(os.fork())
    else:
        # As a user's code would, in the middle of a step.
        monkeypatch.setattr(Course, "learning_rate", fork)
    try:
        ended = group.advance(0.0)
    except BaseException:
        if not others[0]:
            os._exit(6)
        raise
    if not others[0]:
        # It may not come so far.
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(others[0], 0)[1]) == 0
    assert not ended
    assert not list((run.path / "traces").glob("*"))
    assert group.advance(1e9)
    assert all(records.ended(run, name) for name in work.ids)


def test_a_checkpoint_of_which_a_bit_changed_is_not_gone_on_from(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=1, replicates=1)
    conducting = conductor(run, config)
    work = conducting.next("a")
    assert work is not None
    texts = [training.to_json() for training in work.trainings]
    group = Group(run.path, texts, work.ids, work.trial, "a")
    while not group.advance(0.0) and group._worker is not None:
        if (progress := group._worker.progress) is not None and progress.step >= 3:
            break
    group.save()
    checkpoint = run.checkpoint(work.ids[0])
    whole = checkpoint.read_bytes()
    with zipfile.ZipFile(checkpoint) as archive:
        weights = max(archive.infolist(), key=lambda member: member.file_size)
    # The last byte of a tensor: PyTorch would read it, and train on from another number.
    place = whole.index(archive_bytes := zipfile.ZipFile(checkpoint).read(weights.filename))
    place += len(archive_bytes) - 1
    checkpoint.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
    make_all(run, work)
    record = records.ended(run, work.ids[0])
    assert record is not None
    assert record.resumed == []
    anew = run.trace(work.ids[0]).read_bytes()
    run.record(work.ids[0]).unlink()
    checkpoint.write_bytes(whole)
    make_all(run, work)
    record = records.ended(run, work.ids[0])
    assert record is not None
    assert record.resumed == [3]
    assert run.trace(work.ids[0]).read_bytes() == anew
    # And so is one of another training, under this one's name.
    run.record(work.ids[0]).unlink()
    checkpoint.with_name("other.pt").write_bytes(whole)
    renamed = replace(work.trainings[0], seed=1)
    run.checkpoint(renamed.training_id).write_bytes(whole)
    make_all(run, replace(work, trainings=(renamed,)))
    record = records.ended(run, renamed.training_id)
    assert record is not None
    assert record.resumed == []


def test_trainings_of_different_versions_are_told_of(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=2)
    work_off(run, config)
    assert not any("versions" in warning for warning in rank_run(run).ranking.warnings)
    name = next((run.path / "traces").glob("*.json")).stem
    record = records.load(run, name)
    assert record is not None
    assert record.made_with.startswith("torch ")
    records.save(run, replace(record, made_with="torch 1.0, numpy 1.0"))
    (warning,) = (each for each in rank_run(run).ranking.warnings if "versions" in each)
    assert "1 with torch 1.0, numpy 1.0; " in warning


def test_the_scratch_folder_of_a_driver_that_was_killed_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run, _ = prepared(tmp_path / "run")
    with run.scratch() as folder:
        note = next(run.path.glob(".scratch*")).read_text()
    assert not folder.exists()
    assert not list(run.path.glob(".scratch*"))
    folder.mkdir()
    elsewhere = tmp_path / "run" / "tracerank-x"
    elsewhere.mkdir()
    of = "\n" + note.partition("\n")[2]
    for named in (f"{folder}\n{tmp_path}", f"{elsewhere}{of}", f"{tmp_path}{of}"):
        (run.path / ".scratch.txt").write_text(named)
        run.sweep_out()
        assert folder.exists()
    (run.path / ".scratch.txt").write_text(note)
    copied = RunDirectory(shutil.copytree(run.path, tmp_path / "copy"))
    copied.sweep_out()
    assert folder.exists()
    moved = RunDirectory(run.path.rename(tmp_path / "moved"))
    moved.sweep_out()
    assert not (moved.path / ".scratch.txt").exists()
    assert not folder.exists()
    elsewhere = moved.path / "tracerank-x"
    assert elsewhere.exists()
    assert tmp_path.exists()


def test_a_scratch_folder_that_cant_be_removed_now_is_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run, _ = prepared(tmp_path / "run")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd")))
    spare = []
    with run.driving():
        with run.scratch() as folder:
            (folder / "sweep" / "trial").mkdir(parents=True)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most + 2, limits[1]))
            with contextlib.suppress(OSError):
                while True:
                    spare.append(os.open(tmp_path, os.O_RDONLY))
        assert folder.exists()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in spare:
            os.close(descriptor)
    assert not folder.exists()
    assert not (run.path / ".scratch.txt").exists()


def test_a_trace_that_was_damaged_is_made_again_and_no_result(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=2)
    work_off(run, config)
    whole = {path: path.read_bytes() for path in (run.path / "traces").glob("*.npz")}
    damaged = next(iter(whole))
    damaged.write_bytes(whole[damaged][:-7] + b"1234567")
    assert records.ended(run, damaged.stem) is None
    again = conductor(run, config)
    for trial in read_trials(run):
        again.restore(trial)
    work = again.next("a")
    assert work is not None
    assert damaged.stem in work.ids
    make_all(run, work)
    again.ended("a")
    assert again.next("b") is None
    assert {path: path.read_bytes() for path in whole} == whole
    assert {trial.state for trial in read_trials(run)} == {"COMPLETE"}
