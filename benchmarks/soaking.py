"""A sweep that is looked at from outside every second, from its first trial to its last."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.processes import Process, disk, object_store, processes

EVERY = 1.0
"""Seconds between two looks."""
DISK_EVERY = 10
"""Looks between two that count files as well."""
WORKERS = 2

_COMMAND = "from sweeps.cli import main; main()"


@dataclass(frozen=True)
class Look:
    """A sweep at a moment, ``seconds`` after its command: trials that have ended, its processes,
    bytes of its object store; now and then bytes and files of Ray's folder, of other temporary
    files and of the run directory.
    """

    seconds: float
    trials: int
    processes: list[Process]
    store: int
    disk: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Soak:
    """All looks while trials went on, and of each training its trial and the seconds in it."""

    looks: list[Look]
    trainings: list[tuple[int, float]]
    journal: bytes = b""
    scores: bytes = b""


def settings(trials: int, sampler: str, replicates: int) -> dict[str, Any]:
    """The default sweep, its trainings as short as they can be and still be scored."""
    example = Path(__file__).parent.parent / "examples" / "digits.yaml"
    given: dict[str, Any] = yaml.safe_load(example.read_text())
    given["space"]["architecture"] = {
        "mlp": {"hidden": {"int": [8, 32]}, "depth": [1, 2]},
        "cnn": {"channels": [2, 4]},
        "gru": {"hidden": {"int": [4, 12]}},
        "transformer": {"width": [8, 16], "depth": 1},
    }
    return given | {
        "name": "soak",
        "budget": {"epochs": 1, "batch_size": 64},
        "replicates": replicates,
        "trials": trials,
        "sampler": {"name": sampler},
    }


def soak(
    given: dict[str, Any],
    *,
    terminal: bool = False,
    reviewed: bool = True,
    keep: Callable[[Look], object] = lambda look: None,
) -> Soak:
    """Run the sweep as a command, drawing on a ``terminal`` or not, ``reviewed`` by somebody whose
    browser asks on and on. ``keep`` is called with every look as it is taken.
    """
    with contextlib.ExitStack() as stack:
        # Short: Ray has sockets in it, whose paths may have 107 characters.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        run, temporary = folder / "runs" / "sweep", folder / "t"
        temporary.mkdir()
        run.parent.mkdir()
        (folder / "soak.yaml").write_text(yaml.safe_dump(given))
        command = [sys.executable, "-c", _COMMAND, "run", str(folder / "soak.yaml")]
        command += ["--out", str(run), "--workers", str(WORKERS), "--json"]
        errors: Any = stack.enter_context((folder / "errors").open("wb"))
        if terminal:
            errors = stack.enter_context(_terminal())
        with subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            env=os.environ | {"TMPDIR": str(temporary), "TERM": "xterm-256color"},
        ) as driver:
            review = stack.enter_context(_review(run)) if reviewed else None
            looks = []
            for look in _looks(driver, run, temporary, given, review):
                keep(look)
                looks.append(look)
            assert driver.wait() == 0, (folder / "errors").read_text()[-2000:]
        records = [json.loads(path.read_bytes()) for path in (run / "traces").glob("*.json")]
        trainings = sorted((each["trial"], each["seconds"]) for each in records)
        journal, scores = (run / "study.journal").read_bytes(), (run / "scores.npz").read_bytes()
        return Soak(looks, trainings, journal, scores)


def _looks(
    driver: subprocess.Popen[bytes],
    run: Path,
    temporary: Path,
    given: dict[str, Any],
    review: subprocess.Popen[bytes] | None,
) -> Iterator[Look]:
    begun = time.monotonic()
    count = 0
    while driver.poll() is None:
        trials = _ended(run / "traces") // given["replicates"]
        found = processes(driver.pid)
        if review is not None:
            found += [Process(**vars(each) | {"role": "review"}) for each in processes(review.pid)]
        store = sum(object_store(each.pid) for each in found if each.role == "raylet")
        sizes = {}
        if count % DISK_EVERY == 0:
            every, ray = disk(temporary), disk(temporary / "ray")
            sizes = {"Ray's folder": ray, "temporary": (every[0] - ray[0], every[1] - ray[1])}
            sizes["run directory"] = disk(run)
        if trials < given["trials"]:
            yield Look(time.monotonic() - begun, trials, found, store, sizes)
        count += 1
        time.sleep(max(0.0, EVERY - (time.monotonic() - begun) % EVERY))


def _ended(traces: Path) -> int:
    """Trainings that have ended: the whole records that there are."""
    try:
        with os.scandir(traces) as files:
            return sum(file.name.endswith(".json") and file.name[0] != "." for file in files)
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _terminal() -> Iterator[int]:
    """A terminal that somebody looks at."""
    ours, theirs = pty.openpty()

    def read() -> None:
        # Raised once nobody has the other end open any more.
        with contextlib.suppress(OSError):
            while os.read(ours, 65536):
                pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield theirs
    finally:
        os.close(theirs)
        reader.join(10)
        os.close(ours)


@contextlib.contextmanager
def _review(run: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The review server over the folder of a run, and somebody who watches it."""
    command = [sys.executable, "-c", _COMMAND, "review", str(run.parent), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        address = server.stdout.readline().decode().strip()
        stop = threading.Event()
        watching = threading.Thread(target=_watch, args=(address, run, stop), daemon=True)
        watching.start()
        try:
            yield server
        finally:
            stop.set()
            watching.join(60)
            server.terminate()


def _watch(address: str, run: Path, stop: threading.Event) -> None:
    """Ask as the pages do: how far it is every 2 s, and in turn for the pages, the list of runs and
    a model.
    """
    api = f"api/runs/{run.name}"
    tag, model, turn = "", "", 0
    with httpx.Client(base_url=address, timeout=60) as client:
        while not stop.wait(2.0):
            if not run.exists():
                continue
            with contextlib.suppress(httpx.HTTPError):
                known = {"If-None-Match": tag} if tag else {}
                answer = client.get(f"{api}/live", headers=known)
                tag = answer.headers.get("etag", "")
                if answer.status_code == 200:
                    under_way = answer.json()["under_way"]
                    model = under_way[0]["model_id"] if under_way else model
                others = ["", "api/runs", f"runs/{run.name}/", f"{api}/models/{model or 'none'}"]
                client.get(others[turn % len(others)])
                turn += 1
