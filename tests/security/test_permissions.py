"""Who may read and write what we write, whatever the umask."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trace_core.durable import keep_from_others, make_folder, write_atomically

ROOT = Path(__file__).parent.parent.parent
UMASKS = (0o000, 0o022, 0o077)

PRIVATE = ("home/.ray", "home/.ray/auth_token", "caches/tracerank")
"""Nobody else may read these, nor what is in them."""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.slow
@pytest.mark.parametrize("umask", UMASKS, ids=oct)
def test_nobody_else_may_write_to_what_is_written(tmp_path: Path, umask: int) -> None:
    folder = tmp_path / "written"
    paths = ":".join([str(ROOT), str(ROOT / "tests" / "sweeps")])
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "writing.py", folder],
        env={**os.environ, "PYTHONPATH": paths},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modes = {
        str(path.relative_to(folder)): mode(path)
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink()
    }
    names = {Path(name).name for name in modes}
    assert {"study.journal", "trials.parquet", "index.html", "decision.json"} <= names
    assert {"driver.lock", "decision.lock", "scores.npz", "tensorboard.txt", "study.db"} <= names
    assert {"checkpoints", "live", "logged", "auth_token", "a.json", "winner.yaml"} <= names
    open_ones = {name: oct(each) for name, each in modes.items() if each & 0o022}
    assert open_ones == {}
    too_open = {name: oct(each) for name, each in modes.items() if each & umask}
    assert too_open == {}
    for name, each in modes.items():
        if any(name == one or name.startswith(f"{one}/") for one in PRIVATE[:2]):
            assert each & 0o077 == 0, name
    assert modes["caches/tracerank"] == 0o700


def test_a_file_is_made_as_the_umask_says_also_from_many_threads(tmp_path: Path) -> None:
    """Nobody asks for the umask, which would change it for the others meanwhile."""
    before = os.umask(0o027)
    try:

        def write(number: int) -> None:
            for each in range(20):
                write_atomically(tmp_path / f"{number}-{each}" / "file", b"a", durably=False)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {mode(path) for path in tmp_path.glob("*/file")} == {0o640}
        assert {mode(path) for path in tmp_path.glob("*-*")} == {0o750}
    finally:
        assert os.umask(before) == 0o027


def test_a_file_that_is_replaced_loses_what_others_might(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(0o666)
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"
    assert not mode(file) & 0o022


def test_no_temporary_file_is_left_or_followed(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file" / "folder")
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")


@pytest.mark.parametrize(("umask", "then"), [(0o000, 0o022), (0o002, 0o022), (0o077, 0o077)])
def test_a_program_of_ours_keeps_others_from_writing(umask: int, then: int) -> None:
    before = os.umask(umask)
    try:
        keep_from_others()
        assert os.umask(umask) == then
    finally:
        os.umask(before)
