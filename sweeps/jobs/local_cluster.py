"""A Ray cluster on this machine for trying jobs out: ``make cluster``, until Ctrl-C.

A head without CPUs for trainings and two workers: three nodes, as on three machines, but all at the
loopback address. It asks for a token, as one that others can reach must. Everything it starts is a
child of this process and is ended with it, found by its number; what it writes is in one temporary
folder. It doesn't import Ray: the nodes are processes of ``ray start``.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from sweeps.jobs.credentials import ensure_token
from sweeps.jobs.errors import JobError
from trace_core.durable import keep_from_others

HOST = "127.0.0.1"
DASHBOARD_PORT = 8265
START_SECONDS = 180.0
END_SECONDS = 8.0
"""How long its processes have to end by themselves."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_CHILD_SUBREAPER = 36


class LocalClusterError(RuntimeError):
    """The cluster can't be started; the message says why."""


@dataclass(frozen=True)
class _Node:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


class LocalCluster:
    """The cluster's processes. ``cpus`` is of each worker; ``port`` the dashboard's."""

    def __init__(self, *, workers: int, cpus: int, port: int, token: str) -> None:
        self._token = token
        self._nodes: list[_Node] = []
        # Not where TMPDIR leads: a socket's path must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="tracerank-cluster-", dir="/tmp"))
        gcs, client = _free_port(), _free_port()
        self.url = f"http://{HOST}:{port}"
        self._wanted = 1 + workers
        # Three on one machine: what is one number a machine by default must be any free one.
        common = ["--node-ip-address", HOST, "--dashboard-agent-listen-port", "0"]
        common += ["--disable-usage-stats", "--block", "--object-store-memory", "200000000"]
        head = ["--head", "--port", str(gcs), "--num-cpus", "0", "--num-gpus", "0"]
        head += ["--ray-client-server-port", str(client)]
        head += ["--dashboard-host", HOST, "--dashboard-port", str(port)]
        worker = ["--address", f"{HOST}:{gcs}", "--num-cpus", str(cpus)]
        self._commands = {"head": [*head, *common]}
        for i in range(workers):
            # What GPUs there are the first one finds: the others would find the same.
            none = ["--num-gpus", "0"] if i else []
            self._commands[f"worker-{i + 1}"] = [*worker, *none, *common]

    def start(self, ended: threading.Event) -> None:
        """Start the nodes, and return when all of them are there, or when ``ended`` is set.

        Raises LocalClusterError if one of them ends, or it takes too long.
        """
        _adopt_orphans()
        program = [sys.executable, "-m", "ray.scripts.scripts", "start"]
        for number, (name, options) in enumerate(self._commands.items()):
            log, own = self.folder / f"{name}.log", self.folder / str(number)
            with log.open("wb") as file:
                process = subprocess.Popen(  # noqa: S603
                    [*program, *options, "--temp-dir", str(own)],
                    env=_environment(self.folder),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    # Ctrl-C is for us, who end them in order.
                    start_new_session=True,
                )
            self._nodes.append(_Node(name, process, log))
        deadline = time.monotonic() + START_SECONDS
        while not ended.is_set() and self._alive() < self._wanted:
            self.check()
            if time.monotonic() > deadline:
                raise LocalClusterError(f"not all nodes are there after {START_SECONDS:.0f} s")
            ended.wait(0.3)

    def check(self) -> None:
        """Raises LocalClusterError if a node has ended."""
        for node in self._nodes:
            if node.process.poll() is not None:
                said = node.log.read_text(errors="replace").strip()[-3000:]
                raise LocalClusterError(f"the {node.name} has ended by itself:\n{said}")

    def close(self) -> None:
        """End every process that was started, and theirs, and remove the folder."""
        for node in self._nodes:
            if node.process.poll() is None:
                node.process.terminate()
        deadline = time.monotonic() + END_SECONDS
        # A parent that is killed may just have had a child: so again, until there is none.
        while not self._childless():
            if time.monotonic() > deadline:
                for pid in _descendants():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _childless(self) -> bool:
        """Whether this process has no children left, after it was told of those that ended."""
        for node in self._nodes:
            node.process.poll()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        return False

    def _alive(self) -> int:
        request = urllib.request.Request(f"{self.url}/api/v0/nodes?detail=false")  # noqa: S310
        request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with _direct.open(request, timeout=10) as answer:
                rows = json.load(answer)["data"]["result"]["result"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return sum(row["state"] == "ALIVE" for row in rows)


# A proxy of the environment is for other machines than this one.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _environment(folder: Path) -> dict[str, str]:
    """That of the nodes: the user's, without what would lead them to another cluster."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return kept | {
        # Which they find where we have.
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Else it would leave a link in /tmp/ray.
        "RAY_TMPDIR": str(folder),
        # Jobs' "python" is this one.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _adopt_orphans() -> None:
    """Have the kernel give us the children of ours that end before theirs, so that all that was
    started stays below this process. Only Linux can; elsewhere Ray's own reaper must do.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _descendants() -> list[int]:
    """The numbers of the living processes below this one."""
    children: dict[int, list[int]] = {}
    for pid, parent, state in _processes():
        if not state.startswith("Z"):
            children.setdefault(parent, []).append(pid)
    found, waiting = [], [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _processes() -> Iterator[tuple[int, int, str]]:
    """Number, parent's number and state of every process."""
    if Path("/proc/self/stat").exists():
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    # The name, in brackets, may hold anything.
                    state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                    yield int(folder.name), int(parent), state
        return
    listing = subprocess.Popen(
        ["/bin/ps", "-A", "-o", "pid=,ppid=,state="], stdout=subprocess.PIPE, text=True
    )
    for line in listing.communicate()[0].splitlines():
        pid, parent, state = line.split()[:3]
        if int(pid) != listing.pid:
            yield int(pid), int(parent), state


def _what_to_type(url: str, cpus: int, workers: int) -> str:
    example = "examples/digits.yaml"
    return f"""
A Ray cluster runs on this machine: a head, and {workers} workers of {cpus} CPUs each.
The dashboard: {url} (it asks for the token)

In another terminal:

  tracerank submit {example} --address {shlex.quote(url)} --storage ./shared
  tracerank jobs --address {url}
  tracerank logs -f ID --address {url}
  tracerank wait ID --address {url}
  tracerank fetch ID --address {url}

Ctrl-C here ends the cluster, and the jobs on it."""


def main(arguments: list[str] | None = None) -> int:
    """Run the cluster in the foreground; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    here = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    each = max(1, here // 2)
    parser.add_argument("--workers", type=int, default=2, help="worker nodes (default: 2)")
    parser.add_argument("--cpus", type=int, default=each, help="of each worker (here: %(default)s)")
    parser.add_argument("--port", type=int, help=f"the dashboard's (default: {DASHBOARD_PORT})")
    given = parser.parse_args(arguments)
    keep_from_others()
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    usual = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        return _run(given.workers, given.cpus, given.port, ended)
    except (LocalClusterError, JobError) as error:
        _tell(f"The cluster: {error}")
        return 1
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _run(workers: int, cpus: int, wanted: int | None, ended: threading.Event) -> int:
    port = wanted or DASHBOARD_PORT
    if not _is_free(port):
        if wanted:
            raise LocalClusterError(f"port {port} is in use; name another one, or none")
        port = _free_port()
        _tell(f"Port {DASHBOARD_PORT} is in use: this cluster's is {port}")
    token = ensure_token(os.environ, Path.home(), _tell)
    cluster = LocalCluster(workers=workers, cpus=cpus, port=port, token=token.value)
    try:
        _tell(f"Starting a Ray cluster of {1 + workers} nodes, which takes some seconds ...")
        cluster.start(ended)
        if not ended.is_set():
            _tell(_what_to_type(cluster.url, cpus, workers))
            print(cluster.url, flush=True)
        while not ended.wait(1):
            cluster.check()
        _tell("\nEnding the cluster ...")
    finally:
        cluster.close()
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
