"""A sweep as a job in a cluster beside the same on one machine: what a trial costs on top of its
trainings, and what the driver needs of memory.

The cluster's machines are Linux namespaces on this one (`tests/cluster/namespaces.py`): a head
without CPUs for trainings and two workers with one each, an S3-compatible server, nothing shared.
All of it has the same cores as the sweep that runs alone, the nodes' own daemons included. Needs
root, and `ip`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

import sweeps
from benchmarks.timing import markdown

TRIALS = 1000
WORKERS = 2
AIM = 1.5
"""The cluster's, as a multiple of the one machine's: overhead of a trial, and driver's memory."""

_HARNESS = Path(__file__).parent.parent / "tests" / "cluster"
_COMMAND = "from sweeps.cli import main; main()"


def table(trials: int = TRIALS) -> str:
    """Both, as Markdown."""
    sys.path.insert(0, str(_HARNESS))
    from namespaces import Cluster

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "sweep.yaml"
        config.write_text(yaml.safe_dump(_settings(trials)))
        with Cluster(cpus=WORKERS // 2) as cluster:
            there = _in_cluster(cluster, config, folder / "there")
            # The cluster's daemons are beside both.
            here = _alone(config, folder / "here")
    rows = [
        [
            f"{trials:,} trials, {WORKERS} trainings at once",
            "training of a trial",
            "overhead of a trial",
            "driver's memory",
        ]
    ]
    for label, (training, overhead, memory) in (("one machine", here), ("cluster, S3", there)):
        rows.append([label, f"{training:.3f} s", f"{overhead:.3f} s", f"{memory / 2**20:.0f} MiB"])
    ratios = [ours / alone for ours, alone in zip(there[1:], here[1:], strict=True)]
    rows.append(["ratio", "", *(f"{ratio:.2f} (aim ≤ {AIM})" for ratio in ratios)])
    return markdown(rows)


def _settings(trials: int) -> dict[str, Any]:
    return {
        "name": "short",
        "task": "digits",
        "budget": {"epochs": 3, "batch_size": 64},
        "replicates": 1,
        "trials": trials,
        "space": {
            "architecture": {"mlp": {"hidden": 32, "depth": 1}},
            "learning_rate": {"float": [0.01, 0.1]},
        },
        "sampler": {"name": "random", "seed": 0},
    }


def _cost(sweep: sweeps.Sweep) -> tuple[float, float]:
    """Seconds of training a trial, and those that a worker spent on a trial beside them: from the
    first trial's end to the last's, so that no start is in it.
    """
    trials = sweep.trials.sort_values("ended")
    took = (trials["ended"].iloc[-1] - trials["ended"].iloc[0]).total_seconds()
    later = trials.iloc[1:]
    training = float(later["seconds"].mean())
    return training, took * WORKERS / len(later) - training


def _alone(config: Path, out: Path) -> tuple[float, float, int]:
    """Seconds of training and of overhead a trial, and bytes of the driver's memory."""
    command = [sys.executable, "-c", _COMMAND, "run", str(config), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--workers", str(WORKERS)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    memory = _Peak(lambda: [process.pid])
    assert process.wait() == 0
    return *_cost(sweeps.load(out)), memory.stop()


def _in_cluster(cluster: Any, config: Path, out: Path) -> tuple[float, float, int]:
    """As `_alone`."""

    def do(*words: str | Path, timeout: float = 60) -> None:
        done = cluster.user.run(
            ["tracerank", *words], env={"TRACERANK_ADDRESS": cluster.address}, timeout=timeout
        )
        assert done.returncode == 0, done.stderr

    do("submit", config, "--id", "bench", "--storage", cluster.s3.under("runs"))
    memory = _Peak(
        lambda: [
            pid
            for pid, title in cluster.head.pids.items()
            if "sweeps.jobs.driver" in title and not title.startswith(("sh ", "/bin/sh"))
        ]
    )
    do("wait", "bench", timeout=7200)
    peak = memory.stop()
    do("fetch", "bench", "--out", out, timeout=600)
    return *_cost(sweeps.load(out)), peak


class _Peak:
    """The most memory that a process held, read from the system now and then."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(2.0):
            for pid in self._pids():
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                for line in status.splitlines():
                    if line.startswith("VmHWM"):
                        self._peak = max(self._peak, int(line.split()[1]) * 1024)

    def stop(self) -> int:
        """Bytes."""
        self._over.set()
        self._thread.join()
        return self._peak


if __name__ == "__main__":
    begun = time.monotonic()
    print(table(int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS))
    print(f"{time.monotonic() - begun:.0f} s")
