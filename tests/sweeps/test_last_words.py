"""What a process that dies in the middle of a training leaves, each time a real process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import last_words

PROCESS = """
import contextlib, ctypes, os, re, signal, sys, time
from pathlib import Path
from sweeps.last_words import Tail, Witness
witness = Witness(memory=50 * 2**20)
witness.begin(Path(sys.argv[1]))
with contextlib.redirect_stdout(Tail(witness.keep)), witness.at_most({at_most}):
    print("so far so good")
    print("Timeout (10 s) while fetching; Fatal Python error: none")
    print("Fatal Python error: Segmentation fault, as they say")
    def forward():
        {code}
    forward()
witness.end()
"""


def leave(path: Path, code: str, at_most: float | None = None) -> int:
    return subprocess.run(
        [sys.executable, "-c", PROCESS.format(code=code, at_most=at_most), str(path)],
        timeout=60,
        stderr=subprocess.DEVNULL,
    ).returncode


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("ctypes.string_at(0)", "the worker process died of SIGSEGV (segmentation fault)"),
        ("os.abort()", "the worker process died of SIGABRT (aborted)"),
        ("os.kill(os.getpid(), signal.SIGFPE)", "the worker process died of SIGFPE"),
        ("os.kill(os.getpid(), signal.SIGBUS)", "the worker process died of SIGBUS"),
        ("os.kill(os.getpid(), signal.SIGILL)", "the worker process died of SIGILL"),
    ],
)
def test_a_signal_is_named_with_the_place_in_the_code(
    tmp_path: Path, code: str, reason: str
) -> None:
    path = tmp_path / "live" / "a.words"
    assert leave(path, code) != 0
    left = last_words.take(path)
    assert left is not None
    assert left.reason.startswith(reason)
    assert left.tail.splitlines()[0] == "so far so good"
    assert "in forward" in left.tail
    assert "Extension modules" not in left.tail


@pytest.mark.parametrize("code", ["time.sleep(60)", 're.match("(a+)+$", "a" * 60 + "b")'])
def test_code_that_hangs_is_ended_even_where_it_holds_the_interpreter(
    tmp_path: Path, code: str
) -> None:
    path = tmp_path / "a.words"
    assert leave(path, code, at_most=0.5) == 1
    left = last_words.take(path, 0.25)
    assert left is not None
    assert left.reason == "took longer than limits.each_time (0.25 s)"
    assert "so far so good" in left.tail
    assert "in forward" in left.tail


def test_a_process_that_takes_too_much_memory_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.words"
    assert leave(path, "kept = [bytearray(b'x' * 2**20) for _ in range(90)]; time.sleep(60)") == 1
    left = last_words.take(path)
    assert left is not None
    assert left.reason.endswith("MiB of memory, more than limits.each_memory (50 MiB)")
    assert left.tail.splitlines()[0] == "so far so good"


def test_one_that_is_killed_leaves_what_it_printed_and_one_that_ends_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.words"
    assert leave(path, "os.kill(os.getpid(), signal.SIGKILL)") == -9
    left = last_words.take(path)
    assert left is not None
    # What it printed isn't taken for what ended it.
    assert left.reason == ""
    assert left.tail.splitlines()[0] == "so far so good"
    # Memory that was there before doesn't count.
    assert leave(path, "pass") == 0
    assert last_words.take(path) is None
    assert not list(tmp_path.iterdir())


def test_what_is_printed_without_end_fills_no_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.words"
    code = "[print(i, 'x' * 100) for i in range(20_000)]; os.kill(os.getpid(), signal.SIGKILL)"
    assert leave(path, code) == -9
    assert path.stat().st_size < 2 * last_words.MOST_BYTES
    left = last_words.take(path)
    assert left is not None
    assert left.tail.splitlines()[-1].startswith("19999 x")
