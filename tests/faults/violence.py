"""The kinds of violence: each takes a `Scene` from the begin of a sweep to the end of its `resume`.

A kind is a function under `kind`, with the names of its sweeps (`sweeps_to_break.py`). What it
leaves is audited by `auditing.py`. It raises MissedError where it came too late, UnavailableError
where the machine lacks what it needs.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import struct
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import breaking_models
import postgres
from driving import (
    COMMAND_SECONDS,
    FAILED,
    INTERRUPTED,
    KILLED,
    LEAVING_SECONDS,
    NOT_FOUND,
    STOPPED,
    UNREACHABLE,
    USAGE,
    Command,
    Scene,
    UnavailableError,
    last,
    read_json,
)
from process_tree import role
from sweeps_to_break import EARLIER


@dataclass(frozen=True)
class Expected:
    """What becomes of a user's models that do harm: FAILED with a reason in which ``says`` is found
    (a pattern), COMPLETE as if nothing were, or either where ``either``.
    """

    state: str = "COMPLETE"
    says: str = ""
    either: bool = False


@dataclass(frozen=True)
class Kind:
    """A kind of violence: what it does to a sweep, and what is expected of broken models."""

    name: str
    about: str
    act: Callable[[Scene], None]
    sweeps: tuple[str, ...] = ("plain",)
    harm: str = ""
    expected: Expected | None = None
    limits: tuple[tuple[str, str], ...] = ()


KINDS: dict[str, Kind] = {}


def kind(*sweeps: str) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Register a kind under its function's name, done to sweeps of these names in turn."""

    def register(act: Callable[[Scene], None]) -> Callable[[Scene], None]:
        name = act.__name__.replace("_", "-")
        about = (act.__doc__ or name).strip()
        KINDS[name] = Kind(name, about, act, sweeps or ("plain",))
        return act

    return register


# ---- signals


def _kill(scene: Scene, command: Command, number: signal.Signals, *codes: int) -> None:
    scene.strike(command)
    command.send(number)
    scene.end(command, *codes, seconds=90)


@kind("plain", "together", "pruned", "replayed")
def kill_driver(scene: Scene) -> None:
    """SIGKILL of the driver"""
    command = scene.begin()
    scene.await_moment(command)
    _kill(scene, command, signal.SIGKILL, KILLED)
    scene.finish()


@kind("plain")
def kill_driver_at_its_start(scene: Scene) -> None:
    """SIGKILL of the driver in its first seconds, perhaps before there is a run directory"""
    command = scene.begin()
    delay = scene.random.uniform(0.2, 8.0)
    scene.note = f"after {delay:.2f} s"
    scene.pause(command, delay)
    _kill(scene, command, signal.SIGKILL, KILLED)
    if not (scene.run / "sweep.yaml").exists():
        # There is nothing to resume, and it says so; the same command begins it then.
        scene.end(scene.resume(), USAGE, NOT_FOUND)
        scene.end(scene.begin(), 0)
    scene.finish()


@kind("plain", "together")
def kill_driver_at_its_end(scene: Scene) -> None:
    """SIGKILL of the driver while it writes its report"""
    command = scene.begin()
    total = scene.sweep["trials"] * scene.sweep["replicates"]
    scene.await_that(command, lambda: len(scene.records()) >= total)
    delay = scene.random.uniform(0.0, 3.0)
    scene.note = f"{delay:.2f} s after the last record"
    scene.pause(command, delay)
    _kill(scene, command, signal.SIGKILL, KILLED)
    scene.finish()


@kind("plain", "together", "pruned")
def kill_group(scene: Scene) -> None:
    """SIGKILL of the driver's whole process group"""
    command = scene.begin()
    scene.await_moment(command)
    scene.strike(command)
    os.killpg(command.pid, signal.SIGKILL)
    scene.end(command, KILLED)
    scene.finish()


@kind("plain", "together")
def kill_everything(scene: Scene) -> None:
    """SIGKILL of the driver and of all its descendants at once, as a power cut"""
    command = scene.begin()
    scene.await_moment(command)
    scene.strike(command)
    for one in command.look():
        one.send(signal.SIGKILL)
    scene.end(command, KILLED)
    scene.finish()


def _kill_part(scene: Scene, name: str, number: signal.Signals = signal.SIGKILL) -> None:
    command = scene.begin()
    scene.await_moment(command)
    part = scene.await_part(command, name)
    scene.strike(command)
    part.send(number)
    scene.end(command, 0, FAILED, UNREACHABLE)
    scene.finish()


@kind("plain", "together", "pruned")
def kill_worker(scene: Scene) -> None:
    """SIGKILL of the actor that trains"""
    _kill_part(scene, "worker")


@kind("plain", "together", "pruned")
def terminate_worker(scene: Scene) -> None:
    """SIGTERM of the actor that trains, as Ray sends it on a node that goes"""
    _kill_part(scene, "worker", signal.SIGTERM)


@kind("plain", "together")
def kill_raylet(scene: Scene) -> None:
    """SIGKILL of the sweep's own raylet"""
    _kill_part(scene, "raylet")


@kind("plain", "together")
def kill_gcs(scene: Scene) -> None:
    """SIGKILL of the sweep's own Ray control store (GCS)"""
    _kill_part(scene, "gcs")


@kind("plain", "together", "pruned")
def kill_twice(scene: Scene) -> None:
    """SIGKILL of the driver, and of the `resume` that follows"""
    command = scene.begin()
    scene.await_moment(command, last=10)
    _kill(scene, command, signal.SIGKILL, KILLED)
    command = scene.resume()
    scene.pause(command, scene.random.uniform(0.5, 10.0))
    _kill(scene, command, signal.SIGKILL, KILLED)
    scene.finish()


def _stop(scene: Scene, number: signal.Signals, code: int, word: str) -> None:
    command = scene.begin()
    scene.await_moment(command)
    _kill(scene, command, number, code)
    if word not in command.errors or "tracerank resume" not in command.errors:
        scene.fail("other", f"{command.name}: doesn't say that it was {word}, and how to go on")
    scene.finish()


@kind("plain", "together")
def terminate(scene: Scene) -> None:
    """SIGTERM to the driver"""
    _stop(scene, signal.SIGTERM, STOPPED, "stopped")


@kind("plain", "together")
def interrupt(scene: Scene) -> None:
    """SIGINT to the driver"""
    _stop(scene, signal.SIGINT, INTERRUPTED, "interrupted")


@kind("plain")
def hang_up(scene: Scene) -> None:
    """SIGHUP to the driver, as of a terminal that is closed"""
    _stop(scene, signal.SIGHUP, STOPPED, "stopped")


# ---- halts


def _halt(scene: Scene, name: str) -> None:
    """Stop a part for a while, and let it go on."""
    command = scene.begin()
    scene.await_moment(command)
    seconds = 3.0 if scene.brief else scene.random.uniform(20.0, 60.0)
    if name == "driver":
        part = next(one for one in command.look() if one.pid == command.pid)
    else:
        part = scene.await_part(command, name)
    scene.strike(command)
    part.send(signal.SIGSTOP)
    scene.note += f", for {seconds:.0f} s"
    time.sleep(seconds)
    part.send(signal.SIGCONT)
    scene.end(command, 0, FAILED, UNREACHABLE)
    scene.finish()


@kind("plain", "together")
def halt_driver(scene: Scene) -> None:
    """SIGSTOP of the driver for up to a minute, then SIGCONT"""
    _halt(scene, "driver")


@kind("plain", "together")
def halt_worker(scene: Scene) -> None:
    """SIGSTOP of the actor that trains for up to a minute, then SIGCONT"""
    _halt(scene, "worker")


@kind("plain", "together")
def halt_raylet(scene: Scene) -> None:
    """SIGSTOP of the raylet for up to a minute, then SIGCONT"""
    _halt(scene, "raylet")


# ---- the disk, and descriptors


@contextlib.contextmanager
def _mounted(scene: Scene, size: str) -> Iterator[Path]:
    """A small file system of memory, in which the run directory is from now on."""
    disk = scene.folder / "disk"
    disk.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk))
    scene.on_close(subprocess.run, ["umount", "-l", str(disk)])
    scene.run = disk / "run"
    yield disk


def _mount(*arguments: str) -> None:
    if os.geteuid() != 0:
        raise UnavailableError("mounting needs root")
    made = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if made.returncode != 0:
        raise UnavailableError(f"nothing can be mounted here: {made.stderr.strip()}")


@kind("plain", "together", "pruned")
def fill_disk(scene: Scene) -> None:
    """The disk is full for a while: nothing can be written until the `resume`"""
    with _mounted(scene, "24m") as disk:
        command = scene.begin()
        scene.await_moment(command)
        scene.strike(command)
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            size = 2**20
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2
        scene.end(command, FAILED, USAGE)
        if "space" not in last(command):
            scene.fail("other", f"{command.name}: doesn't name the full disk: {last(command)!r}")
        ballast.unlink()
        scene.finish()


@kind("plain")
def protect_folder(scene: Scene) -> None:
    """The run directory is read-only for a while"""
    with _mounted(scene, "64m"):
        command = scene.begin()
        scene.await_moment(command)
        scene.strike(command)
        # A mount of itself: a file system isn't made read-only while files are open for writing.
        _mount("--bind", str(scene.run), str(scene.run))
        _mount("-o", "remount,ro,bind", str(scene.run))
        scene.end(command, FAILED, USAGE)
        if "read-only" not in last(command).lower():
            scene.fail("other", f"{command.name}: doesn't name what it met: {last(command)!r}")
        subprocess.run(["umount", str(scene.run)], check=True)
        scene.finish()


def _limit_descriptors(scene: Scene, name: str) -> None:
    command = scene.begin()
    scene.await_moment(command)
    pid = command.pid if name == "driver" else scene.await_part(command, name).pid
    scene.strike(command)
    spare = scene.random.randint(0, 3)
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        limit = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1 + spare
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
    scene.note += f", {spare} left"
    scene.end(command, 0, FAILED, USAGE)
    scene.finish()


@kind("plain")
def no_descriptors_for_driver(scene: Scene) -> None:
    """The driver may open no file more"""
    _limit_descriptors(scene, "driver")


@kind("plain")
def no_descriptors_for_worker(scene: Scene) -> None:
    """The actor that trains may open no file more"""
    _limit_descriptors(scene, "worker")


# ---- what is deleted, moved or done at the same time


@kind("plain")
def delete_derived(scene: Scene) -> None:
    """The report, the ledger or the kept scores are deleted while a finished sweep is extended"""
    trials = scene.sweep["trials"]
    command = scene.begin("--trials", str(trials // 2))
    scene.end(command, 0)
    command = scene.resume("--trials", str(trials))
    begun = trials // 2 * scene.sweep["replicates"]
    scene.await_moment(command, begun + 1, begun + 6)
    scene.strike(command)
    shutil.rmtree(scene.run / "report")
    for name in ("scores.npz", "trials.parquet"):
        if scene.random.random() < 0.7:
            (scene.run / name).unlink(missing_ok=True)
    if scene.random.random() < 0.5:
        command.send(signal.SIGKILL)
        scene.end(command, KILLED)
    else:
        scene.end(command, 0)
    scene.finish("--trials", str(trials))


@kind("plain")
def move(scene: Scene) -> None:
    """The driver is killed, and the run directory moved before the `resume`"""
    command = scene.begin()
    scene.await_moment(command)
    _kill(scene, command, signal.SIGKILL, KILLED)
    there = scene.folder / "elsewhere" / "moved"
    there.parent.mkdir()
    _settle(command)
    scene.run = scene.run.rename(there)
    scene.finish()


def _settle(command: Command) -> None:
    """Wait until the processes of a driver that was killed are gone too; but not for agents."""
    deadline = time.monotonic() + LEAVING_SECONDS
    while any(role(one) != "agent" for one in command.look()) and time.monotonic() < deadline:
        time.sleep(0.1)


@kind("plain")
def symlink(scene: Scene) -> None:
    """The run directory is a symbolic link; the driver is killed"""
    there = scene.folder / "linked"
    there.mkdir()
    scene.run.symlink_to(there)
    command = scene.begin()
    scene.await_moment(command)
    _kill(scene, command, signal.SIGKILL, KILLED)
    scene.finish()


def _refused(scene: Scene, command: Command) -> None:
    scene.end(command, USAGE, seconds=60)
    if "another sweep is running in it" not in command.errors:
        scene.fail("other", f"{command.name}: not a refusal: {last(command)!r}")


@kind("plain", "together")
def resume_twice(scene: Scene) -> None:
    """The driver is killed; two `resume`s are started at once"""
    command = scene.begin()
    scene.await_moment(command)
    _kill(scene, command, signal.SIGKILL, KILLED)
    both = [scene.resume(), scene.resume()]
    scene.resumes -= 1
    deadline = time.monotonic() + COMMAND_SECONDS
    while not any(one.ended for one in both) and time.monotonic() < deadline:
        time.sleep(0.05)
    refused, other = sorted(both, key=lambda one: not one.ended)
    _refused(scene, refused)
    scene.end(other, 0)
    scene.finish()


@kind("plain")
def resume_halted(scene: Scene) -> None:
    """`resume` while the driver is there, but halted"""
    command = scene.begin()
    scene.await_moment(command)
    scene.strike(command)
    command.send(signal.SIGSTOP)
    _refused(scene, scene.tracerank("resume", str(scene.run), "--workers", "1"))
    command.send(signal.SIGCONT)
    scene.end(command, 0)


@kind("earlier")
def upgrade(scene: Scene) -> None:
    """The run directory of an earlier version, stopped halfway, is resumed by this one"""
    with tarfile.open(EARLIER) as archive:
        archive.extractall(scene.run, filter="data")
    scene.remember()
    scene.finish()
    records = [read_json(record) for record in scene.records()]
    if not any(record["resumed"] for record in records):
        scene.fail("lost", "the training that had a checkpoint was begun anew")


# ---- the clock

SET_BACK = Path(__file__).with_name("set_back.c")


class Clock:
    """The wall clock of all commands from now on."""

    def __init__(self, scene: Scene) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise UnavailableError("a clock of its own needs a C compiler (cc)")
        library = scene.folder / "set_back.so"
        options = ["-O2", "-shared", "-fPIC", "-o", str(library), str(SET_BACK), "-ldl"]
        subprocess.run([compiler, *options], check=True)
        self._file = scene.folder / "clock"
        self._file.write_bytes(struct.pack("=q", 0))
        scene.environment |= {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self._file)}

    def set_back(self, hours: int) -> None:
        """For all processes at once."""
        # In place: it is mapped by them.
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", -3600 * hours))


@kind("plain")
def clock_back_between(scene: Scene) -> None:
    """The driver is killed, and the clock set back by hours to years before the `resume`"""
    clock = Clock(scene)
    command = scene.begin()
    scene.await_moment(command)
    _kill(scene, command, signal.SIGKILL, KILLED)
    _settle(command)
    hours = scene.random.choice([1, 24, 24 * 400])
    clock.set_back(hours)
    scene.note += f", {hours} h back"
    scene.finish()


@kind("plain")
def clock_back_meanwhile(scene: Scene) -> None:
    """The clock is set back by hours to years while the sweep runs"""
    clock = Clock(scene)
    command = scene.begin()
    scene.await_moment(command)
    scene.strike(command)
    hours = scene.random.choice([1, 24, 24 * 400])
    clock.set_back(hours)
    scene.note += f", {hours} h back"
    scene.end(command, 0)
    scene.finish()


# ---- the study's database


class Database:
    """A PostgreSQL server that can be stopped and started; its folder is that of its socket."""

    def __init__(self, scene: Scene) -> None:
        programs = postgres.programs()
        if programs is None:
            raise UnavailableError("PostgreSQL is not here (install the package 'postgresql')")
        self._programs = programs
        stack = contextlib.ExitStack()
        self.folder = stack.enter_context(postgres.server(programs, "tell-nobody"))
        scene.on_close(stack.close)
        self._process: subprocess.Popen[bytes] | None = None
        scene.on_close(self.stop)

    def stop(self) -> None:
        """At once, as of a machine that is shut down; nothing if it is stopped."""
        file = self.folder / "data" / "postmaster.pid"
        if not file.exists():
            return
        os.kill(int(file.read_text().split()[0]), signal.SIGINT)
        deadline = time.monotonic() + 30
        while file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._process is not None:
            self._process.wait(30)

    def start(self) -> None:
        """Again, over the same data."""
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", self.folder]
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self.folder / "data", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            **({"user": "postgres"} if os.geteuid() == 0 else {}),
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            status = self.folder / "data" / "postmaster.pid"
            with contextlib.suppress(OSError):
                if "ready" in status.read_text():
                    return
            time.sleep(0.05)


def _in_database(scene: Scene) -> Database:
    database = Database(scene)
    storage = f"postgresql://sweeps@/postgres?host={database.folder}"
    scene.configure(scene.sweep | {"storage": storage})
    return database


@kind("plain")
def stop_database(scene: Scene) -> None:
    """PostgreSQL, which has the study, is stopped while the sweep runs, and started for `resume`"""
    database = _in_database(scene)
    command = scene.begin()
    scene.await_moment(command)
    scene.strike(command)
    database.stop()
    scene.end(command, UNREACHABLE)
    scene.end(scene.resume(), UNREACHABLE)
    database.start()
    scene.finish()


@kind("plain")
def restart_database(scene: Scene) -> None:
    """PostgreSQL, which has the study, is stopped for some seconds and started again"""
    database = _in_database(scene)
    command = scene.begin()
    scene.await_moment(command)
    scene.strike(command)
    database.stop()
    time.sleep(scene.random.uniform(0.0, 4.0))
    database.start()
    scene.end(command, 0, UNREACHABLE)
    scene.finish()


@kind("plain")
def kill_driver_with_database(scene: Scene) -> None:
    """SIGKILL of the driver of a study in PostgreSQL"""
    _in_database(scene)
    command = scene.begin()
    scene.await_moment(command)
    _kill(scene, command, signal.SIGKILL, KILLED)
    scene.finish()


# ---- the user's code


def _harmed(scene: Scene) -> None:
    scene.environment[breaking_models.HOW] = scene.harm
    scene.end(scene.begin(), 0)
    scene.finish()


def _harms(
    name: str, about: str, state: str, says: str = "", *, either: bool = False, **limits: str
) -> None:
    sweeps = ("breaking", "breaking_together")
    expected = Expected(state, says, either)
    name_ = "user-" + name.replace("_", "-")
    KINDS[name_] = Kind(name_, about, _harmed, sweeps, name, expected, tuple(limits.items()))


_harms("raises", "raises an exception", "FAILED", r"ValueError: broken at step 9")
_harms("segfaults", "segfaults", "FAILED", r"SIGSEGV|signal 11")
_harms("aborts", "calls abort()", "FAILED", r"SIGABRT|signal 6")
_harms("leaks", "leaks up to its memory limit", "FAILED", r"each_memory|memory", each_memory="1GiB")
_harms("sleeps", "hangs, asleep", "FAILED", r"each_time|longer", each_time="8s")
_harms("hangs", "hangs, and holds Python's lock", "FAILED", r"each_time|longer", each_time="8s")
_harms("forks_and_goes_on", "forks; both go on", "FAILED", "", either=True)
_harms("forks_and_leaves", "forks; the child calls sys.exit", "COMPLETE", either=True)
_harms("forks_and_raises", "forks; the child raises", "COMPLETE", either=True)
_harms("exits", "calls sys.exit", "FAILED", r"SystemExit")
_harms("exits_at_once", "calls os._exit", "FAILED", r"without a word, 3 times: .*os\._exit")
_harms("interrupts", "raises KeyboardInterrupt", "FAILED", r"KeyboardInterrupt")
_harms("diverges", "gives NaN from a step on", "FAILED", r"diverged")
_harms("prints", "prints some 100 MB", "COMPLETE")
_harms("leaves_threads", "leaves threads that run", "COMPLETE")
_harms("leaves_children", "leaves processes that run", "COMPLETE")
_harms("closes_descriptors", "closes the descriptors 0 to 2", "COMPLETE", either=True)
_harms("deletes_its_folder", "goes to a folder and deletes it", "COMPLETE")
