"""A worker on another node than the driver's: what it writes travels through Ray.

The run directory is on the driver's disk. A worker elsewhere trains in a folder of its own, an
`Outpost`, and hands each file that it has written to an actor on the driver's node, the `Courier`,
which puts it into the run directory before the driver hears that the training has ended. So nodes
share no folder, and workers need no access to any storage.

Checkpoints are sent while the training goes on, each only once the last has arrived, and so seldom
that sending takes a small part of the time: what is large, or finds the driver busy, is sent less
often.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trace_core.durable import write_atomically

NAMESPACE = "tracerank-couriers"
"""Ray's namespace of these actors."""

SHARE = 0.1
"""Most of a training's time that its checkpoint may be on its way."""

_FOLDERS = ("traces", "checkpoints", "live")


class _Courier:
    """Writes what workers send into the run directory at ``run``; holds nothing itself."""

    def __init__(self, run: str) -> None:
        self._run = Path(run)

    def take(self, files: dict[str, bytes], gone: list[str]) -> None:
        """Put files into their places, in order, then remove those that are gone."""
        for name, data in files.items():
            write_atomically(self._run / name, data, durably=not name.startswith("live/"))
        for name in gone:
            (self._run / name).unlink(missing_ok=True)

    def give(self, names: list[str]) -> dict[str, bytes]:
        """Those of the files that are there."""
        found = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[name] = (self._run / name).read_bytes()
        return found


@contextlib.contextmanager
def receiving(run: Path) -> Iterator[dict[str, str]]:
    """Take in what workers on other nodes send, meanwhile; gives what these have to know."""
    here = ray.get_runtime_context().get_node_id()
    name = f"courier-{secrets.token_hex(6)}"
    courier = (
        ray.remote(_Courier)
        .options(
            name=name,
            namespace=NAMESPACE,
            num_cpus=0,
            max_concurrency=8,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
        )
        .remote(str(run.resolve()))
    )
    try:
        yield {"node": here, "courier": name}
    finally:
        ray.kill(courier)


class Outpost:
    """The part of a run directory that a worker needs, on a node that doesn't have it."""

    def __init__(self, courier: str) -> None:
        self._courier = ray.get_actor(courier, namespace=NAMESPACE)
        self.path = Path(tempfile.mkdtemp(prefix="tracerank-"))
        self._sent: dict[str, tuple[int, int]] = {}
        self._on_its_way: ray.ObjectRef | None = None
        self._begun = 0.0
        self._next = 0.0

    def fetch(self, names: Iterable[str]) -> None:
        """Begin anew, with those of the driver's files that are there."""
        for folder in _FOLDERS:
            shutil.rmtree(self.path / folder, ignore_errors=True)
        for name, data in ray.get(self._courier.give.remote(list(names))).items():
            write_atomically(self.path / name, data, durably=False)
        self._sent = self._here()

    def send(self) -> None:
        """Send what was written since the last time, if that has arrived and it is time to."""
        if self._arrived() and time.monotonic() >= self._next:
            self._send()

    def send_all(self) -> None:
        """Send what was written since the last time, and wait until it has arrived."""
        if self._on_its_way is not None:
            ray.get(self._on_its_way)
        self._send()
        if self._on_its_way is not None:
            ray.get(self._on_its_way)
            self._on_its_way = None

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _arrived(self) -> bool:
        if self._on_its_way is None:
            return True
        done, _ = ray.wait([self._on_its_way], timeout=0)
        if not done:
            return False
        # Raises what went wrong there.
        ray.get(self._on_its_way)
        self._on_its_way = None
        took = time.monotonic() - self._begun
        self._next = time.monotonic() + took * (1 / SHARE - 1)
        return True

    def _send(self) -> None:
        here = self._here()
        changed = [name for name, written in here.items() if self._sent.get(name) != written]
        gone = [name for name in self._sent if name not in here]
        if not changed and not gone:
            return
        # A trace before its record, which says that it is there.
        changed.sort(key=lambda name: (not name.endswith(".npz"), name))
        files: dict[str, bytes] = {}
        for name in changed:
            with contextlib.suppress(FileNotFoundError):
                files[name] = (self.path / name).read_bytes()
        self._sent = here
        self._begun = time.monotonic()
        self._on_its_way = self._courier.take.remote(files, gone)

    def _here(self) -> dict[str, tuple[int, int]]:
        found = {}
        for folder in _FOLDERS:
            with contextlib.suppress(FileNotFoundError), os.scandir(self.path / folder) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        status = entry.stat()
                        found[f"{folder}/{entry.name}"] = (status.st_mtime_ns, status.st_size)
        return found


def outpost(place: dict[str, Any] | None) -> Outpost | None:
    """The outpost that a worker on this node needs; None where the run directory is here."""
    if place is None or place["node"] == ray.get_runtime_context().get_node_id():
        return None
    return Outpost(place["courier"])
