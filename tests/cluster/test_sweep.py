"""A sweep as a job in a cluster whose machines share nothing, and what it survives."""

from __future__ import annotations

import contextlib
import io
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from namespaces import Cluster, Node

import sweeps
from sweeps.jobs.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHORT: dict[str, Any] = {
    "name": "short",
    "task": "digits",
    "budget": {"epochs": 2, "batch_size": 64},
    "replicates": 2,
    "trials": 8,
    "space": {
        "architecture": {"mlp": {"hidden": {"int": [8, 32], "log": True}, "depth": [1, 2]}},
        "init": ["default", "orthogonal"],
        "alpha": {"float": [0.0, 1.0]},
        "learning_rate": {"float": [1e-2, 3e-1], "log": True},
    },
    "sampler": {"name": "random", "seed": 5},
}
PACED = """
import math
import os
import time

from torch import nn

PAUSE = float(os.environ.get("PAUSE", "0.01"))


class Paced(nn.Sequential):
    def forward(self, inputs):
        if self.training:
            time.sleep(PAUSE)
        return super().forward(inputs)


def build(shape, hidden: int = 16):
    inputs = math.prod(shape.input_shape)
    layers = nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, shape.outputs)
    return Paced(nn.Flatten(), *layers)
"""
"""A model that trains no faster on a fast machine."""
SPACE = {
    **SHORT["space"],
    "architecture": {"paced:build": {"hidden": {"int": [8, 32], "log": True}}},
}
LONG: dict[str, Any] = {
    **SHORT,
    "name": "long",
    # 6,120 steps, more than a minute: what kills a node does it in the middle, on any machine.
    "budget": {"epochs": 90, "batch_size": 16},
    "replicates": 1,
    "trials": 4,
    "space": SPACE,
}


class Sweeping:
    """Somebody at the user's machine, with a folder of his own and a storage."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self.cluster = cluster
        self.folder = folder
        self.storage = cluster.s3.under(name)

    def do(self, *words: str | Path, timeout: float = 240) -> Any:
        return self.cluster.user.run(
            ["tracerank", *words],
            env={"TRACERANK_ADDRESS": self.cluster.address, "TRACERANK_STORAGE": self.storage},
            cwd=self.folder,
            timeout=timeout,
        )

    def submit(self, config: dict[str, Any], job: str, *options: str) -> None:
        (self.folder / "sweep.yaml").write_text(yaml.safe_dump(config))
        done = self.do("submit", "sweep.yaml", "--id", job, *options)
        assert (done.returncode, done.stdout) == (0, f"{job}\n"), done.stderr

    def wait(self, job: str) -> None:
        done = self.do("wait", job, timeout=400)
        assert done.returncode == 0, done.stderr + self.do("logs", job).stdout

    def fetch(self, job: str) -> sweeps.Sweep:
        done = self.do("fetch", job, "--out", f"runs/{job}")
        assert done.returncode == 0, done.stderr
        return sweeps.load(self.folder / done.stdout.strip())

    def stored(self, job: str, monkeypatch: pytest.MonkeyPatch) -> Store:
        for name, value in self.cluster.credentials.items():
            monkeypatch.setenv(name, value)
        return Store(self.storage).under(job)


@pytest.fixture
def sweeping(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Sweeping:
    return Sweeping(cluster, tmp_path, request.node.name)


def alone(config: dict[str, Any], folder: Path) -> sweeps.Sweep:
    """The same on one machine."""
    return sweeps.run(config, out=folder, workers=2, progress=False)


def records(sweep: sweeps.Sweep) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (sweep.path / "traces").glob("*.json")]


def await_progress(store: Store, count: int, above: dict[str, int] | None = None) -> dict[str, int]:
    """The steps in the stored checkpoints, once there are so many at least, and every training that
    has one is well on its way, and beyond what it had come to.
    """
    until = time.monotonic() + 240
    while time.monotonic() < until:
        steps = steps_of(store)
        on = [step > 100 + (above or {}).get(name, 0) for name, step in steps.items()]
        if len(on) >= count and all(on):
            return steps
        time.sleep(1)
    raise AssertionError(f"the trainings don't get on: {store.files()}")


def busy(cluster: Cluster) -> Node:
    """A worker node on which something is trained."""
    for node in cluster.workers:
        if any("TuneTraining" in title for title in node.pids.values()):
            return node
    raise AssertionError(f"nothing is trained: {cluster.worker_pids}")


def test_a_cluster_that_shares_nothing_ranks_as_one_machine_does(
    sweeping: Sweeping, tmp_path: Path
) -> None:
    begun = time.monotonic()
    sweeping.submit(SHORT, "short")
    submitted = time.monotonic()
    sweeping.wait("short")
    waited = time.monotonic()
    there = sweeping.fetch("short")
    print(
        f"submit {submitted - begun:.1f} s, wait {waited - submitted:.1f} s, "
        f"fetch {time.monotonic() - waited:.1f} s"
    )
    assert there.complete
    here = alone(SHORT, tmp_path / "here")
    pd.testing.assert_frame_equal(there.ranking, here.ranking)
    assert (there.path / "report" / "index.html").exists()
    # No secret, neither ours nor the cluster's, is in what was stored, or what Ray tells of it.
    secrets = [sweeping.cluster.token, *sweeping.cluster.credentials.values()]
    actors = json.dumps(sweeping.cluster.get("/api/v0/actors?detail=true&limit=1000"))
    assert "TuneTraining" in actors
    assert not any(secret in actors for secret in secrets if len(secret) > 10)
    for path in there.path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(secret.encode() in data for secret in secrets if len(secret) > 10)


def test_nodes_that_are_lost_cost_little(
    sweeping: Sweeping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker node killed in the middle of trainings, and added again; then the head."""
    cluster, store = sweeping.cluster, sweeping.stored("long", monkeypatch)
    (tmp_path / "paced.py").write_text(PACED)
    monkeypatch.chdir(tmp_path)
    sweeping.submit(LONG, "long")
    lost_with_worker = await_progress(store, LONG["trials"])
    busy(cluster).kill()
    cluster.await_loss(*(node for node in cluster.workers if not node.running))
    for node in cluster.workers:
        if not node.running:
            node.start(wait=False)
    # Those that were lost with it too.
    lost_with_head = await_progress(store, 1, above=lost_with_worker)
    cluster.await_nodes({node.address for node in cluster.nodes})
    cluster.head.kill()
    ended_before = {Path(name).stem for name in store.files("traces") if name.endswith(".json")}
    for node in cluster.workers:
        node.kill()
    cluster.heal()
    sweeping.submit(LONG, "long")
    sweeping.wait("long")
    there = sweeping.fetch("long")

    assert there.complete
    assert there.trials.index.tolist() == list(range(LONG["trials"]))
    assert set(there.trials["state"]) == {"COMPLETE"}
    resumed = {record["training_id"]: record["resumed"] for record in records(there)}
    print(f"at the loss of a worker {lost_with_worker}, of the head {lost_with_head}: {resumed}")
    # Those that a node took with it went on at the step that was stored last, or later; some were
    # lost with the worker, and once more with the head.
    assert any(len(steps) == 2 for steps in resumed.values())
    for name in lost_with_head.keys() - ended_before:
        assert resumed[name], f"{name} began anew"
        assert resumed[name][-1] >= lost_with_head[name]
    monkeypatch.setenv("PAUSE", "0")
    here = alone(LONG, tmp_path / "here")
    pd.testing.assert_frame_equal(there.ranking, here.ranking)


def steps_of(store: Store) -> dict[str, int]:
    """The steps that the stored checkpoints hold, by training."""
    found = {}
    for name in store.files("checkpoints"):
        with contextlib.suppress(FileNotFoundError):
            state = torch.load(io.BytesIO(store.read(name)), weights_only=True)
            found[Path(name).stem] = state["step"]
    return found


def test_two_sweeps_share_the_cluster(sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch) -> None:
    """Submitted at once: both get on, and neither's results are the other's."""
    (sweeping.folder / "paced.py").write_text(PACED)
    monkeypatch.chdir(sweeping.folder)
    # A second or so each: the first goes on until the second has long begun.
    many = {**LONG, "budget": {"epochs": 2, "batch_size": 16}}
    both = {
        f"seed-{seed}": {**many, "trials": trials, "sampler": {"name": "random", "seed": seed}}
        for seed, trials in ((1, 80), (2, 20))
    }
    for name, config in both.items():
        sweeping.submit(config, name)
    for name in both:
        sweeping.wait(name)
    there = {name: sweeping.fetch(name) for name in both}
    first, second = (sweep.trials["ended"].sort_values() for sweep in there.values())
    print(f"the first had ended {(first < second.iloc[0]).sum()} trials when the second ended one")
    # Neither waits for the other's end.
    assert second.iloc[0] < first.iloc[-1]
    assert first.iloc[0] < second.iloc[-1]
    trained = {name: {each["training_id"] for each in records(there[name])} for name in both}
    for name, sweep in there.items():
        assert trained[name] == set(",".join(sweep.trials["trainings"]).split(","))
        assert (sweep.trials["state"] == "COMPLETE").all()
    assert len(trained["seed-1"] | trained["seed-2"]) > len(trained["seed-1"])
