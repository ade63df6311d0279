"""What it costs a machine that people watch a sweep on it: clients that poll the review server.

The server is a process of its own over a folder with one sweep that runs meanwhile; its processor
time is read from the system before and after, so that the sweep's own isn't in it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.timing import markdown

CLIENTS = (0, 1, 50)
EVERY = 2.0
"""Seconds between two questions of a client."""
SECONDS = 60.0
SHARE_AIM = 5.0
"""Per cent of a core, with the most clients."""
LAG_AIM = 3.0
"""Seconds from a worker's telling to a page's showing it."""

_COMMAND = "from sweeps.cli import main; main()"


def table(clients: tuple[int, ...] = CLIENTS, seconds: float = SECONDS) -> str:
    """The cost by number of clients, as Markdown."""
    rows = [
        [
            "clients, each every 2 s",
            "the server's processor time",
            "aim",
            "answered as unchanged",
            "median answer",
            "slowest",
            "what is told is at most so old",
        ]
    ]
    with tempfile.TemporaryDirectory() as folder, _sweep(Path(folder)) as sweep:
        for count in clients:
            rows.append(_measured(Path(folder) / "runs", count, seconds, count == max(clients)))
        assert sweep.poll() is None, "the sweep ended before the measurement did"
    return markdown(rows)


class _sweep:  # noqa: N801  (used as a function is)
    """The default sweep, going on for as long as it is watched."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> subprocess.Popen[bytes]:
        example = Path(__file__).parent.parent / "examples" / "digits.yaml"
        given = yaml.safe_load(example.read_text()) | {"trials": 10_000}
        config = self._folder / "sweep.yaml"
        config.write_text(yaml.safe_dump(given))
        runs = self._folder / "runs"
        runs.mkdir()
        command = [sys.executable, "-c", _COMMAND, "run", str(config), "--out", str(runs / "sweep")]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + 120
        while not list(runs.glob("sweep/traces/*.json")):
            assert time.monotonic() < until, "no training has ended in two minutes"
            time.sleep(0.2)
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


def _measured(runs: Path, clients: int, seconds: float, busiest: bool) -> list[str]:
    command = [sys.executable, "-c", _COMMAND, "review", str(runs), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        address = server.stdout.readline().decode().strip()
        try:
            # The first answer imports, and ranks what there is.
            httpx.get(f"{address}runs/sweep/", timeout=60)
            begun, used = time.monotonic(), _processor_seconds(server.pid)
            told = asyncio.run(_poll(address, clients, seconds))
            wall = time.monotonic() - begun
            share = 100 * (_processor_seconds(server.pid) - used) / wall
        finally:
            server.send_signal(signal.SIGTERM)
    cell = f"{share:.1f}% of a core"
    aim = f"≤ {SHARE_AIM:.0f}%" if busiest else ""
    if not clients:
        return [str(clients), cell, aim, "", "", "", ""]
    times = [each["seconds"] for each in told]
    unchanged = statistics.mean(each["unchanged"] for each in told)
    ages = [each["age"] for each in told if each["age"] is not None]
    return [
        *(str(clients), cell, aim, f"{100 * unchanged:.0f}%"),
        f"{1e3 * statistics.median(times):.1f} ms",
        f"{1e3 * max(times):.0f} ms",
        f"{max(ages):.1f} s (aim {LAG_AIM - 1.5:.1f}, and 1.5 until a page asks)" if ages else "",
    ]


async def _poll(address: str, clients: int, seconds: float) -> list[dict[str, Any]]:
    """What each question took, and how long ago the newest of what was answered was told."""
    if not clients:
        await asyncio.sleep(seconds)
        return []
    found: list[dict[str, Any]] = []

    async def one(number: int) -> None:
        await asyncio.sleep(EVERY * number / clients)
        until, tag = time.monotonic() + seconds, ""
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            while time.monotonic() < until:
                begun = time.monotonic()
                answer = await client.get(
                    "api/runs/sweep/live", headers={"If-None-Match": tag} if tag else {}
                )
                took = time.monotonic() - begun
                told = (
                    [each["told"] for each in answer.json()["under_way"]]
                    if answer.status_code == 200
                    else []
                )
                age = time.time() - max(told) if told else None
                found.append({"seconds": took, "unchanged": answer.status_code == 304, "age": age})
                tag = answer.headers["etag"]
                await asyncio.sleep(max(0.0, EVERY - took))

    await asyncio.gather(*(one(number) for number in range(clients)))
    return found


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
