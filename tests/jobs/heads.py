"""A Ray head of our own on this machine, which asks for a token."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import urllib3
from servers import free_port

TOKEN = "a-token-of-these-tests-0123456789abcdef"
START_SECONDS = 90.0


@dataclass(frozen=True)
class Head:
    address: str
    port: int


@contextlib.contextmanager
def head() -> Iterator[Head]:
    """Ends with all its processes, and leaves those of other heads alone."""
    # Its sockets' paths may not be long.
    scratch = Path(tempfile.mkdtemp(prefix="trk-", dir="/tmp"))
    port = free_port()
    binaries = Path(sys.executable).parent
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
    }
    environment.pop("PYTHONPATH", None)
    options = {
        "port": free_port(),
        "dashboard-port": port,
        "ray-client-server-port": free_port(),
        "dashboard-agent-listen-port": free_port(),
        "dashboard-agent-grpc-port": free_port(),
        "metrics-export-port": free_port(),
        "node-ip-address": "127.0.0.1",
        "dashboard-host": "127.0.0.1",
        "num-cpus": 2,
        "object-store-memory": 100_000_000,
        "temp-dir": scratch,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    with (scratch / "head.log").open("wb") as log:
        process = subprocess.Popen(
            [binaries / "ray", "start", "--head", "--block", "--disable-usage-stats", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        found = Head(f"http://127.0.0.1:{port}", port)
        _wait_for(found, process, scratch / "head.log")
        yield found
    finally:
        # Its children have sessions of their own; they end with it, or are ended here.
        children = _descendants(process.pid)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for pid in (process.pid, *children):
            if str(scratch) in _command(pid) or pid == process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def _wait_for(one: Head, process: subprocess.Popen[bytes], log: Path) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            answer = urllib3.request(
                "GET", f"{one.address}/api/jobs/", headers=headers, timeout=5, retries=False
            )
            if answer.status == 200:
                return
        time.sleep(0.3)
    raise AssertionError(f"no Ray head: {log.read_text()[-2000:]}")


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def _descendants(pid: int) -> list[int]:
    found = []
    for child in _children(pid):
        found += [child, *_descendants(child)]
    return found


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(word) for word in text.split()]
    return []
