"""Sweeps on a real Ray cluster, whose nodes come and go, and which they share."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import ledger, prepared, small, work_off

from sweeps.config import load_config
from sweeps.run_directory import RunDirectory
from sweeps.selection import read_trials
from sweeps.sweep import drive

pytestmark = pytest.mark.slow

SECONDS = 0.02
"""What each step takes at least, on the cluster."""

MODULE = '''
"""Models that take their time on the cluster, whatever else the machine does."""
import os
import time

from torch import nn


class Slow(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, batch):
        if self.training:
            time.sleep(float(os.environ.get("SLOW_SECONDS", "0")))
        return self.layer(batch)


def build(shape):
    return Slow(shape.input_shape[0], shape.outputs)
'''


@contextlib.contextmanager
def cluster(*cpus: int, **first: Any) -> Iterator[Any]:
    """A Ray cluster on this machine, of nodes with so many CPUs; ends what it started."""
    # Not pytest's folder: the paths of Unix sockets are short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ray.cluster_utils import Cluster

            os.environ["SLOW_SECONDS"] = str(SECONDS)
            head = {"num_cpus": cpus[0], "include_dashboard": False, "temp_dir": folder}
            made = Cluster(initialize_head=True, head_node_args=head | first)
        try:
            for count in cpus[1:]:
                made.add_node(num_cpus=count)
            yield made
        finally:
            made.shutdown()
            del os.environ["SLOW_SECONDS"]


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


def assert_as_alone(path: Path, run: RunDirectory, folder: Path) -> None:
    """Every trial that was told is what it is where the sweep has a machine to itself."""
    config = load_config(path)
    told = {trial.number: trial for trial in read_trials(run) if trial.state == "COMPLETE"}
    alone, _ = prepared(folder, **json.loads(path.read_text()))
    work_off(alone, config, at_most=max(told) + 1)
    for trial in read_trials(alone):
        if trial.number in told:
            assert (trial.values, trial.details["trainings"]) == (
                told[trial.number].values,
                told[trial.number].details["trainings"],
            )
    known = {name for trial in told.values() for name in trial.details["trainings"]}
    assert len(known) == len(told)


def test_two_sweeps_share_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = configuration(tmp_path, "long", trials=2000)
    short = configuration(tmp_path, "short", trials=16, sampler={"name": "random", "seed": 1})
    with cluster(2) as ray_cluster, sweeping(long, ray_cluster.address) as (one, first):
        wait_until(one, lambda: len(spans(first)) >= 8)
        with sweeping(short, ray_cluster.address) as (two, second):
            assert two.wait(240) == 0
        left = time.time()
        # The first has both places again.
        wait_until(
            one, lambda: at_once(spans(first), max(left, time.time() - 4), time.time()) > 1.2
        )
    before, ours = spans(first), spans(second)
    begun, ended = ours[0][0], ours[-1][1]
    assert len(ours) == 16
    assert 0.3 < at_once(before, begun, ended) < 1.5
    assert at_once(ours, begun, ended) > 0.3
    monkeypatch.syspath_prepend(tmp_path)
    assert_as_alone(long, first, tmp_path / "alone-long")
    assert_as_alone(short, second, tmp_path / "alone-short")


def test_more_sweeps_than_places_take_turns(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        ray_cluster = stack.enter_context(cluster(1))
        made = [
            stack.enter_context(
                sweeping(configuration(tmp_path, name, trials=2000), ray_cluster.address)
            )
            for name in ("one", "two")
        ]
        # Both have got the place, and the first to have it once more.
        for _ in range(2):
            counts = [len(spans(run)) for _, run in made]
            for (process, run), count in zip(made, counts, strict=True):
                wait_until(process, lambda run=run, count=count: len(spans(run)) > count, 240)


def test_a_demand_that_no_node_can_meet(tmp_path: Path) -> None:
    with cluster(2, 1) as ray_cluster:
        for needs, said in (
            (
                {"cpus": 3},
                r"no node with room .* needs 3 CPUs \(resources\); .* 2 CPUs, .*; 1 CPU,",
            ),
            ({"custom": {"ssd": 1}}, r"needs 1 CPU, 1 ssd \(.* 2 CPUs, .* 0 ssd; 1 CPU, .* 0 ssd$"),
            ({"memory": "100TiB"}, r"needs 1 CPU, 1.02e\+05 GiB of memory"),
        ):
            run, config = prepared(tmp_path / "-".join(needs), resources=needs)
            with pytest.raises(ConnectionError, match=said):
                drive(run, config, workers=2, address=ray_cluster.address, import_path=[])


def test_places_come_and_go_while_a_sweep_runs(tmp_path: Path) -> None:
    path = configuration(tmp_path, "changing", trials=2000)
    with cluster(0) as ray_cluster:
        node = ray_cluster.add_node(num_cpus=1)
        with sweeping(path, ray_cluster.address) as (process, run):
            log = path.with_suffix(".log")
            wait_until(process, lambda: len(spans(run)) >= 4)
            another = ray_cluster.add_node(num_cpus=1)
            wait_until(process, lambda: at_once(spans(run), time.time() - 4, time.time()) > 1.2)
            for lost in (node, another):
                ray_cluster.remove_node(lost)
            wait_until(process, lambda: "no node of the cluster has room now" in log.read_text())
            count = len(spans(run))
            ray_cluster.add_node(num_cpus=1)
            wait_until(process, lambda: len(spans(run)) > count + 3)
    assert process.returncode == 3


def test_a_ray_of_our_own_has_what_is_asked_for(tmp_path: Path) -> None:
    needs = {"memory": "50MB", "custom": {"ssd": 0.5}}
    run, config = prepared(tmp_path / "run", trials=2, resources=needs)
    assert drive(run, config, workers=1, import_path=[]).complete
    assert set(ledger(run, config)["state"]) == {"COMPLETE"}
    # What was asked of a machine isn't part of what was trained on it.
    text = run.configuration.read_text().replace("50000000", "60000000")
    run.configuration.write_text(text)
    assert drive(run, load_config(run.configuration), workers=1, import_path=[]).complete
    for asked in ({"memory": "100TiB"}, {"custom": {"accelerator_type:TPU-V9": 0.001}}):
        run, config = prepared(tmp_path / next(iter(asked)), trials=2, resources=asked)
        with pytest.raises(ConnectionError, match=r"this machine has .*; a training needs .*"):
            drive(run, config, workers=1, import_path=[])
