"""Command lines made from the commands there are: each with values that its options take, and
others.

No sweep is driven: that is left out at its outermost boundary. No cluster is there: addresses are
of a port at which nothing listens.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any
from unittest import mock

import click
import run_files
import sandbox
from checkpoint_files import safe, tensors
from click.testing import CliRunner
from fuzzing import Kind, Outcome
from hostile_values import TEXTS
from hypothesis import strategies as st

from sweeps import exit_codes
from sweeps.cli import main
from sweeps.handle import Sweep

CODES = {
    *(exit_codes.DONE, exit_codes.FAILED, exit_codes.USAGE, exit_codes.STOPPED),
    *(exit_codes.NOT_FOUND, exit_codes.UNREACHABLE, exit_codes.INTERRUPTED),
}
ARGUMENTS = [
    text for text in TEXTS if "\0" not in text and "\ud800" not in text and len(text) < 9000
]
"""What a shell can give a program, but for half pairs, which stand for bytes that are no text."""


@functools.cache
def closed_port() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


CONFIGURATION = """
name: small
task: wine
budget: {epochs: 6, batch_size: 32}
replicates: 2
trials: 3
space: {architecture: {mlp: {hidden: [4, 8], depth: 1}}, learning_rate: 0.3}
sampler: {name: random}
"""


@functools.cache
def place() -> Path:
    """What command lines name, as it is before each."""
    path = sandbox.root() / "commands"
    path.mkdir()
    (path / "good.yaml").write_text(CONFIGURATION)
    (path / "bad.yaml").write_text("name: a\nspce: \x1b[31m\n")
    (path / "token").write_text("a" * 32)
    (path / "token").chmod(0o600)
    (path / "series").mkdir()
    for number in range(2):
        (path / "series" / f"step-{number}.safetensors").write_bytes(safe(tensors(number)))
    shutil.copytree(run_files.good(), path / "run")
    (path / "empty").mkdir()
    return path


PATHS = (
    *(
        "good.yaml",
        "bad.yaml",
        "run",
        "run/sweep.yaml",
        "series",
        "series/step-0.safetensors",
        "empty",
    ),
    *(
        "series/step-1.safetensors",
        "gone",
        "gone/too.yaml",
        "token",
        "new",
        "/dev/null",
        "/proc/self/mem",
    ),
)
TYPICAL = (
    "0",
    "1",
    "2",
    "-1",
    "0.5",
    "1e999",
    "nan",
    "99999999999999999999",
    "std",
    "spaces",
    "tasks",
    "runs",
)
IDS = ("a", "small-1", "a/b", ".", "x" * 101)


def _values(name: str) -> st.SearchStrategy[str]:
    """What an option or argument is given: mostly of its kind."""
    kinds: dict[str, tuple[str, ...]] = {
        "address": (
            f"127.0.0.1:{closed_port()}",
            f"http://127.0.0.1:{closed_port()}",
            "http://[::1]:1",
        ),
        "ray_address": (f"127.0.0.1:{closed_port()}", "127.0.0.1:x", "127.0.0.1:99999999"),
        "host": ("127.0.0.1", "256.1.1.1", "localhost"),
        "storage": ("store", "file:///gone", "nowhere://x", "s3://user:secret@b/x", "a://b?c=d"),
        "id": IDS,
        "config": ("good.yaml",),
        "run_dir": ("run",),
        "checkpoints": ("series/step-0.safetensors", "series/step-1.safetensors", "series"),
        "what": ("spaces", "tasks", "runs"),
        "folder": (".",),
        "out": ("new",),
        "html": ("new.html",),
        "trials": ("3", "4"),
        "workers": ("1",),
    }
    fitting = st.sampled_from(kinds.get(name.removeprefix("job_"), PATHS))
    others = st.one_of(
        st.sampled_from(PATHS),
        st.sampled_from(TYPICAL),
        st.sampled_from(ARGUMENTS),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
    )
    return st.integers(0, 5).flatmap(lambda number: fitting if number else others)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """The arguments of one command line."""
    name = draw(st.sampled_from(sorted(main.commands)))
    command = main.commands[name]
    line = [name] if draw(st.integers(0, 19)) else [draw(st.sampled_from(ARGUMENTS))]
    # A cluster of this machine's, or its environment's, is never asked.
    reaches = any(option.name == "address" for option in command.params)
    if reaches:
        line += ["--address", f"127.0.0.1:{closed_port()}"]
    for option in command.params:
        given = isinstance(option, click.Argument) or draw(st.integers(0, 3)) == 0
        if not given or (option.name == "address" and draw(st.booleans())):
            continue
        takes = abs(option.nargs) if not getattr(option, "is_flag", False) else 0
        values = [draw(_values(option.name or "")) for _ in range(takes)]
        if option.nargs == -1:
            values = draw(st.lists(_values("checkpoints"), max_size=3))
        flag = [] if isinstance(option, click.Argument) else [draw(st.sampled_from(option.opts))]
        line += [*flag, *values]
    if draw(st.integers(0, 9)) == 0:
        line.insert(
            draw(st.integers(0, len(line))), draw(st.sampled_from(["--", "--gone", "-h", "-x", ""]))
        )
    return line


def check(line: list[str]) -> Outcome:
    folder = sandbox.scratch("commands") / "here"
    shutil.copytree(place(), folder)
    kept = Path.cwd()
    os.chdir(folder)
    environment = {name: None for name in os.environ if name.startswith(("RAY_", "TRACERANK_"))}
    environment |= {"HOME": str(folder), "TRACERANK_CACHE": str(sandbox.root() / "cache")}
    try:
        with _apart():
            answer = CliRunner().invoke(main, line, env=environment)
    finally:
        os.chdir(kept)
    error = answer.exception
    assert error is None or isinstance(error, SystemExit), repr(error)
    assert answer.exit_code in CODES, answer.exit_code
    assert "Traceback" not in answer.output
    for text in (answer.stdout, answer.stderr):
        odd = {c for c in text if not c.isprintable() and c not in "\n\t"}
        assert not odd, f"{sorted(odd)!r} in {text[-400:]!r}"
    if answer.exit_code != exit_codes.DONE:
        assert answer.stderr.strip(), "it ended without a word"
        assert len(answer.stderr) < 20_000
    if answer.exit_code == exit_codes.USAGE:
        assert not answer.stdout, answer.stdout
    if (
        "--json" in line
        and answer.exit_code == exit_codes.DONE
        and "-h" not in line
        and answer.stdout
    ):
        json.loads(answer.stdout.splitlines()[-1])
    return "accepted" if answer.exit_code == exit_codes.DONE else "refused"


def _apart() -> Any:
    """Neither drives a sweep nor serves one."""
    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch("sweeps.api.drive_directory", _finished))
    stack.enter_context(mock.patch("uvicorn.Server.run", return_value=None))
    stack.enter_context(mock.patch("sweeps.jobs.client.PAUSES", ()))
    return stack


def _finished(directory: Any, *_: Any, **__: Any) -> Sweep:
    """The finished run directory in place of the one that would be driven."""
    shutil.copytree(run_files.good(), directory.path, dirs_exist_ok=True)
    return Sweep(directory.path)


KINDS = [Kind("command lines", lines(), check, 0.02, place)]
