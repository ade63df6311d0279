"""Sweeps on a real Ray cluster, whose nodes come and go, and which they share."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import prepared, small

from sweeps.config import SweepConfig
from sweeps.results import rank_run
from sweeps.run_directory import RunDirectory
from sweeps.sweep import drive

pytestmark = pytest.mark.slow

MODULE = '''
"""Models that take their time, whatever else the machine does."""
import time

from torch import nn


class Slow(nn.Module):
    def __init__(self, inputs, outputs, seconds):
        super().__init__()
        self.layer, self.seconds = nn.Linear(inputs, outputs), seconds

    def forward(self, batch):
        if self.training:
            time.sleep(self.seconds)
        return self.layer(batch)


def build(shape, seconds: float = 0.02):
    return Slow(shape.input_shape[0], shape.outputs, seconds)
'''


@contextlib.contextmanager
def cluster(*cpus: int, **first: Any) -> Iterator[Any]:
    """A Ray cluster on this machine, of nodes with so many CPUs; ends what it started."""
    # Not pytest's folder: the paths of Unix sockets are short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ray.cluster_utils import Cluster

            head = {"num_cpus": cpus[0], "include_dashboard": False, "temp_dir": folder}
            made = Cluster(initialize_head=True, head_node_args=head | first)
        try:
            for count in cpus[1:]:
                made.add_node(num_cpus=count)
            yield made
        finally:
            made.shutdown()


def configuration(folder: Path, name: str, **changes: Any) -> Path:
    """A sweep of trainings of about half a second, each of another model."""
    folder.mkdir(exist_ok=True)
    (folder / "slow_models.py").write_text(MODULE)
    space = {
        "architecture": {"slow_models:build": {}},
        "learning_rate": {"float": [0.01, 0.5], "log": True},
    }
    path = folder / f"{name}.yaml"
    settings = {"name": name, "replicates": 1, "space": space, **changes}
    path.write_text(json.dumps(small(**settings)))
    return path


@contextlib.contextmanager
def sweeping(path: Path, address: str) -> Iterator[tuple[subprocess.Popen[str], RunDirectory]]:
    """A sweep in a process of its own."""
    out = path.with_suffix("")
    code = "from sweeps.cli import main; main()"
    command = [sys.executable, "-c", code, "run", str(path), "--out", str(out)]
    log = out.with_suffix(".log")
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--ray-address", address], stdout=stderr, stderr=stderr, text=True
        )
    try:
        yield process, RunDirectory(out)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        print(log.read_text())


def spans(run: RunDirectory) -> list[tuple[float, float]]:
    """When each training that has ended began and ended, in order of their ends."""
    found = []
    for path in (run.path / "traces").glob("[!.]*.json"):
        record = json.loads(path.read_text())
        ended = path.stat().st_mtime
        found.append((ended - record["seconds"], ended))
    return sorted(found, key=lambda span: span[1])


def at_once(spans: list[tuple[float, float]], since: float, until: float) -> float:
    """How many trainings were under way on average."""
    during = [max(0.0, min(end, until) - max(begin, since)) for begin, end in spans]
    return sum(during) / (until - since)


def wait_until(
    process: subprocess.Popen[str], condition: Callable[[], bool], seconds: float = 180
) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)


def ranked(run: RunDirectory) -> list[tuple[str, float]]:
    models = rank_run(run).to_json()["models"]
    return [(model["model_id"], model["traceability"]) for model in models]


def test_two_sweeps_share_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = configuration(tmp_path, "long", trials=60)
    short = configuration(tmp_path, "short", trials=16, sampler={"name": "random", "seed": 1})
    with cluster(2) as ray_cluster, sweeping(long, ray_cluster.address) as (one, first):
        wait_until(one, lambda: len(spans(first)) >= 8)
        with sweeping(short, ray_cluster.address) as (two, second):
            came = time.time()
            assert two.wait(180) == 0
        left = time.time()
        assert one.wait(180) == 0
    before, ours = spans(first), spans(second)
    print("first", [round(end - came, 1) for _, end in before])
    print("second", [round(end - came, 1) for _, end in ours])
    # Within the first third of the time that it took, and without the other standing still.
    assert ours[0][1] < came + (left - came) * 0.75
    assert at_once(before, came, left) > 0.3
    begun, ended = ours[0][0], ours[-1][1]
    print(at_once(before, begun, ended), at_once(ours, begun, ended))
    rest = [end for _, end in before if end > left]
    print("rest", len(rest), at_once(before, ended + 10, before[-1][1]))
    assert (len(before), len(ours)) == (60, 16)
    monkeypatch.syspath_prepend(tmp_path)
    for path, run in ((long, first), (short, second)):
        alone, config = prepared(tmp_path / f"alone-{path.stem}", **json.loads(path.read_text()))
        from inprocess import work_off

        work_off(alone, config)
        assert ranked(run) == ranked(alone)
