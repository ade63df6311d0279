"""A run under violence: its folder, its commands, and what was seen of them.

A kind of violence (`violence.py`) is a function of a `Scene`: it begins the sweep, waits for the
moment, does what it does, and resumes until the sweep is done. What goes wrong on the way is noted
as a failure and goes on, so that the audit has something to look at.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from process_tree import Process, descendants, end_all, process, role

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

COMMAND_SECONDS = 400.0
"""How long a command may take before it counts as one that hangs."""
LEAVING_SECONDS = 20.0
"""How long a command's processes may be there after it has ended."""
LOOK_SECONDS = 0.3
"""How often it is looked what processes there are."""
RESUMES = 4
"""How often `resume` is tried before the run counts as lost."""

KILLED = -signal.SIGKILL
STOPPED, INTERRUPTED, FAILED, USAGE, NOT_FOUND, UNREACHABLE = 3, 130, 1, 2, 4, 5

NOISE = re.compile(
    r"Traceback \(most recent call last\)"
    r"|^\s+File \"[^\"]+\", line \d+"
    r"|\(raylet\)|\(gcs_server\)|core_worker|\.cc:\d+|\bE\d{4} \d\d:"
    r"|^\[\d{4}-\d\d-\d\d [^\]]* [EFCW] "
    r"|^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+\s+(ERROR|WARNING|INFO)"
    r"|Fatal Python error|\*\*\* SIG|stack trace",
    re.MULTILINE,
)
"""What isn't for a person: Python's tracebacks and Ray's log."""


START = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from sweeps.cli import main
main()
"""
"""The command, as in a terminal: what a shell starts in its background may ignore these."""


class MissedError(Exception):
    """The violence came too late: the sweep had ended."""


class UnavailableError(Exception):
    """The machine has not what a kind of violence needs."""


@dataclass
class Failure:
    """Something wrong: ``sort`` is lost, doubled, different or other."""

    sort: str
    text: str


class Command:
    """`tracerank` with arguments, as a process of a session of its own; its output goes to files,
    which its children may hold open as long as they like.
    """

    def __init__(
        self, folder: Path, name: str, arguments: list[str], environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env=dict(environment),
                start_new_session=True,
            )
        self._looked = 0.0
        self.seen: set[Process] = {one for one in [process(self.process.pid)] if one is not None}

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def look(self) -> list[Process]:
        """All processes that it has now; they are remembered."""
        self.seen.update(descendants(one.pid for one in self.seen if one.alive))
        return [one for one in self.seen if one.alive]

    def look_now_and_then(self) -> None:
        """Look, if it wasn't looked just now: that costs some milliseconds."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self.look()
            self._looked = time.monotonic()

    def part(self, name: str) -> Process | None:
        """Its ``gcs``, ``raylet`` or ``worker``, if it has one now."""
        return next((one for one in self.look() if role(one) == name), None)

    @property
    def errors(self) -> str:
        return self.err.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


@dataclass
class Scene:
    """One run: ``run`` is its run directory, in ``folder``, which is its own."""

    folder: Path
    sweep: dict[str, Any]
    seed: int
    brief: bool = False
    """Whether what may be long is to be short, for tests."""
    harm: str = ""
    """What a user's broken models do."""
    environment: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    resumes: int = 0
    recovered: float | None = None
    """Seconds until the sweep had got on: see `_note_recovery`."""
    kept: dict[str, bytes] = field(default_factory=dict)
    """The records that were there when the violence was done."""
    note: str = ""
    _hung: int = 0
    _since: float | None = None
    _before: set[str] = field(default_factory=set)
    _undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.run = self.folder / "run"
        self.temporary = self.folder / "t"
        self.temporary.mkdir(parents=True)
        self.environment = {
            **os.environ,
            # No folder that other commands write to.
            "TMPDIR": str(self.temporary),
            "RAY_TMPDIR": str(self.folder / "r"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
            "COLUMNS": "200",
            **self.environment,
        }
        self.configuration = self.folder / "sweep.yaml"
        self.configure(self.sweep)

    def configure(self, sweep: dict[str, Any]) -> None:
        """Begin this sweep, and no other."""
        self.sweep = sweep
        self.configuration.write_text(yaml.safe_dump(sweep))

    # ---- commands

    def tracerank(self, *arguments: str, **environment: str) -> Command:
        """Start a command, with some variables set otherwise."""
        name = f"{len(self.commands)}-{arguments[0]}"
        command = Command(self.folder, name, list(arguments), self.environment | environment)
        self.commands.append(command)
        return command

    def begin(self, *options: str) -> Command:
        """Start the sweep."""
        where = ("--out", str(self.run), "--workers", "1")
        return self.tracerank("run", str(self.configuration), *where, *options)

    def resume(self, *options: str) -> Command:
        """Start `resume`, once."""
        if self.recovered is None and not self.resumes:
            self._since, self._before = time.monotonic(), {one.name for one in self.records()}
        self.resumes += 1
        return self.tracerank("resume", str(self.run), "--workers", "1", *options)

    def finish(self, *options: str) -> None:
        """Resume until the sweep is done; the last command may have brought it there already."""
        if self.commands and self.commands[-1].process.poll() == 0:
            return
        for _ in range(RESUMES):
            if self._hung > 1:
                # It would hang for ever, and others wait.
                break
            command = self.resume(*options)
            if self.end(command, 0, FAILED, UNREACHABLE) == 0:
                return
            self.fail("other", f"resume ended with {command.process.returncode}: {last(command)}")
        self.fail("lost", f"not done after {self.resumes} resumes")

    def end(self, command: Command, *codes: int, seconds: float = COMMAND_SECONDS) -> int:
        """Wait until a command has ended, and check its exit code and what it said."""
        deadline = time.monotonic() + seconds
        while not command.ended and time.monotonic() < deadline:
            command.look_now_and_then()
            if 0 in codes:
                self._note_recovery()
            time.sleep(0.05)
        if not command.ended:
            self.fail("other", f"{command.name}: hung for {seconds:.0f} s, and was killed")
            self._hung += 1
            command.send(signal.SIGKILL)
        code = command.process.wait()
        if 0 in codes:
            self._note_recovery(ended=code == 0)
        if code not in codes:
            self.fail("other", f"{command.name}: exit code {code}, not {codes}; {last(command)!r}")
        if code > 0 and not last(command):
            self.fail("other", f"{command.name}: exit code {code} without a word")
        return code

    # ---- moments

    def records(self) -> list[Path]:
        """Those of the trainings that have ended."""
        return sorted((self.run / "traces").glob("[!.]*.json"))

    def await_that(
        self, command: Command, condition: Callable[[], bool], seconds: float = COMMAND_SECONDS
    ) -> None:
        """Wait for something while a command runs; raises MissedError where it has ended first."""
        deadline = time.monotonic() + seconds
        while not condition():
            if command.ended:
                if command.process.returncode != 0:
                    self.fail("other", f"{command.name}: ended by itself: {last(command)!r}")
                raise MissedError("it had ended by then")
            if time.monotonic() > deadline:
                self.fail("other", f"{command.name}: nothing came of it in {seconds:.0f} s")
                raise MissedError("its moment never came")
            command.look_now_and_then()
            time.sleep(0.02)

    def await_moment(self, command: Command, first: int = 0, last: int | None = None) -> None:
        """Wait for a random moment: so many trainings have ended, and a part of a second more."""
        most = (self.sweep["trials"] * self.sweep["replicates"] * 2) // 3 if last is None else last
        count = self.random.randint(first, most)
        delay = self.random.uniform(0.0, 0.6)
        self.note = f"at record {count} + {delay:.2f} s"
        self.await_that(command, lambda: len(self.records()) >= count and self._begun())
        self.pause(command, delay)

    def await_part(self, command: Command, name: str) -> Process:
        """Wait until there is a ``gcs``, a ``raylet`` or a ``worker``, which are a while in
        coming.
        """
        found: list[Process] = []

        def there() -> bool:
            found.extend(one for one in [command.part(name)] if one is not None)
            return bool(found)

        self.await_that(command, there)
        return found[0]

    def pause(self, command: Command, seconds: float) -> None:
        """Wait, while a command runs."""
        until = time.monotonic() + seconds
        self.await_that(command, lambda: time.monotonic() >= until)

    def _begun(self) -> bool:
        return (self.run / "sweep.yaml").exists()

    def strike(self, command: Command) -> None:
        """The violence is done now: remember what there is. Raises MissedError if it is too
        late.
        """
        command.look()
        if command.ended:
            raise MissedError(f"it had ended with {command.process.returncode} by then")
        self.remember()

    def remember(self) -> None:
        """Remember what has ended: it may not be made again."""
        self.kept = {one.name: one.read_bytes() for one in self.records()}
        self._since, self._before = time.monotonic(), {*self.kept}

    def _note_recovery(self, *, ended: bool = False) -> None:
        """Whether it has recovered: the sweep has made one more training than before, or all. It
        counts from the violence where the sweep lived through it, else from when the first `resume`
        was started.
        """
        if self._since is None or self.recovered is not None:
            return
        new = (one for one in self.records() if one.name not in self._before)
        if ended or any(read_json(one)["state"] != "FAILED" for one in new):
            self.recovered = time.monotonic() - self._since

    # ---- aftermath

    def fail(self, sort: str, text: str) -> None:
        """Note a failure."""
        self.failures.append(Failure(sort, text))

    def on_close(self, undo: Callable[..., Any], *arguments: Any) -> None:
        """Call something when the run is over, whatever came of it; the last first."""
        self._undo.callback(undo, *arguments)

    def check_leftovers(self) -> None:
        """No process is left of any command, and no temporary file; no message is for machines.

        A Ray whose driver was killed may leave its two agents: they leave by themselves, minutes
        later.
        """
        seen = set()
        for command in self.commands:
            command.look()
            killed = command.process.returncode == KILLED
            seen |= {one for one in command.seen if not (killed and role(one) == "agent")}
        deadline = time.monotonic() + LEAVING_SECONDS
        while (left := [one for one in seen if one.alive]) and time.monotonic() < deadline:
            time.sleep(0.2)
        for one in left[:3]:
            self.fail("other", f"a process is left: {one.command[:100]}")
        litter = [each for each in sorted(self.temporary.iterdir()) if ours(each)]
        if litter:
            self.fail("other", f"left in the folder of temporary files: {litter[0].name}")
        for command in self.commands:
            found = NOISE.search(command.errors)
            if found is not None:
                line = command.errors[found.start() :].strip().splitlines()[0]
                self.fail("other", f"{command.name}: not for people: {line[:160]!r}")

    def close(self) -> None:
        """End everything, and put back what was changed."""
        for command in self.commands:
            command.look()
            end_all(command.seen)
            command.process.wait()
        self._undo.close()


def ours(path: Path) -> bool:
    """Whether a temporary file is of a sweep: not a library's cache."""
    return path.name.startswith(("tracerank", "tmp", "ray"))


def last(command: Command) -> str:
    """What a command said at its end."""
    lines = command.errors.strip().splitlines()
    return lines[-1][:300] if lines else ""


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


@contextlib.contextmanager
def scene(folder: Path, sweep: dict[str, Any], seed: int, **options: Any) -> Iterator[Scene]:
    """A run in a folder of its own, which is removed if all went well and the caller says so."""
    shutil.rmtree(folder, ignore_errors=True)
    made = Scene(folder, sweep, seed, **options)
    try:
        yield made
    finally:
        made.close()
