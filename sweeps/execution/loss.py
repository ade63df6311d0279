"""Whether the Ray that a sweep trains on is still there: its GCS, and the raylet of this machine.

Ray waits a minute for a GCS that was killed, and then ends this process from C++; for a raylet that
was killed it waits for ever, and the workers of one go on. So both are looked after. One that is
busy, or stopped for a while, is there.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray

from sweeps.exit_codes import UNREACHABLE
from sweeps.run_directory import resume_command

LOOK_SECONDS = 1.0
"""Between two looks."""

LOOKS = 3
"""So many in a row must have found a process gone."""

STUCK_SECONDS = 5.0
"""How long a call to Ray may still wait for what is gone before it is interrupted."""

INTERRUPTS = 3
"""How many it is given. Some calls look at none; Ray's C++ ends the process after a minute then."""


class RayLostError(ConnectionError):
    """The Ray that we were connected to is gone."""


class RayLost(BaseException):
    """Gets out of Tune's loop, which would ask a Ray that is gone for ever."""


class Presence:
    """Looks after the Ray that this process is connected to: ``gone`` says what of it is gone, and
    ``own`` whether this process has started it. ``stuck`` is called, in another thread, where a
    call to a Ray that is gone doesn't come back.
    """

    def __init__(self, stuck: Callable[[str], None]) -> None:
        self._stuck = stuck
        node = ray._private.worker.global_worker.node
        raylet = _process(node, "raylet") or _listening(node.raylet_socket_name)
        gcs = _process(node, "gcs_server") or _reachable(node.gcs_address)
        self._looks = {"its GCS": gcs, "the raylet of this machine": raylet}
        self._raylet = _process_id(node, "raylet")
        self.own = self._raylet is not None
        self._workers: dict[int, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_after, daemon=True, name="ray-presence")
        self.gone = ""
        self._thread.start()

    def require(self) -> None:
        """Raise RayLost once Ray is gone."""
        if self.gone:
            raise RayLost(self.gone)

    def close(self) -> None:
        """Look no more; of a Ray of our own that is gone, end what its raylet had started."""
        self._over.set()
        self._thread.join()
        if self.gone:
            self._end_workers()

    def _end_workers(self) -> None:
        for process, started in self._workers.items():
            if _started(process) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def _look_after(self) -> None:
        missed = dict.fromkeys(self._looks, 0)
        while not self._over.wait(LOOK_SECONDS):
            for name, there in self._looks.items():
                missed[name] = 0 if there() else missed[name] + 1
                if missed[name] >= LOOKS:
                    self.gone = name
                    self._interrupt()
                    return
            if self._raylet is not None:
                found = {process: _started(process) for process in _descendants(self._raylet)}
                # Those of a raylet that is gone are nobody's children.
                self._workers = found or self._workers

    def _interrupt(self) -> None:
        """Get the main thread out of a call to Ray that waits: the first interrupt may be Tune's,
        whose handler then leaves the next to Python's.
        """
        for _ in range(INTERRUPTS):
            if self._over.wait(STUCK_SECONDS):
                return
            _thread.interrupt_main()
        if not self._over.wait(STUCK_SECONDS):
            self._end_workers()
            if self.own:
                ray._private.worker.global_worker.node.kill_all_processes(
                    check_alive=False, allow_graceful=False
                )
            self._stuck(self.gone)


@contextlib.contextmanager
def present(address: str | None, run: Path) -> Iterator[Presence]:
    """Looks after the Ray that this process is connected to, at ``address`` or its own, for the
    sweep in the run directory ``run``.

    Raises RayLostError in place of what its loss led to. Where a call to Ray waits for it all the
    same, ends the process with what to do.
    """
    where = address or "this machine"

    def leave(gone: str) -> None:
        print(
            f"tracerank: Ray at {where} is gone: {gone} has ended; what was finished is stored; "
            f"go on with: {resume_command(run)}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(UNREACHABLE)

    presence = Presence(leave)
    try:
        yield presence
    except (RayLost, KeyboardInterrupt, Exception) as error:
        if not presence.gone:
            raise
        raise RayLostError(f"Ray at {where} is gone: {presence.gone} has ended") from error
    finally:
        presence.close()


def _process_id(node: Any, kind: str) -> int | None:
    """The id of a process of Ray that this one has started."""
    found = node.all_processes.get(kind)
    return found[0].process.pid if found else None


def _process(node: Any, kind: str) -> Callable[[], bool] | None:
    """Whether a process of Ray that this one has started is there."""
    found = node.all_processes.get(kind)
    return (lambda: found[0].process.poll() is None) if found else None


def _listening(path: str) -> Callable[[], bool]:
    """Whether the process is there that listens at a socket of this machine now. It notes whoever
    connects in its log, hence it is asked once who it is, where the system tells (Linux).
    """
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(path)
            peer = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except (OSError, AttributeError):
        return lambda: True
    process = struct.unpack("3i", peer)[0]
    started = _started(process)
    return lambda: _started(process) == started


def _reachable(address: str) -> Callable[[], bool]:
    """Whether connections are taken at an address; a process that is too busy to is there."""
    host, _, port = address.rpartition(":")

    def reach() -> bool:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except ConnectionRefusedError:
            return False
        except OSError:
            pass
        return True

    return reach


def _started(process: int) -> str:
    """When a process was started, which tells it from a later one of the same number; empty if it
    has ended, or where the system doesn't tell.
    """
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


def _descendants(process: int) -> list[int]:
    """The processes that one has started, and theirs; none where the system doesn't tell."""
    found: list[int] = []
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, file.read_text().split()):
                found += [child, *_descendants(child)]
    return found
