"""What a training takes of a machine: threads, and a GPU or a part of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inprocess import ledger, prepared, small

from sweeps import api
from sweeps.candidate import Candidate, Training
from sweeps.config import SweepConfig
from sweeps.config_messages import ConfigError
from sweeps.config_sections import MOST
from sweeps.course import Course
from sweeps.sweep import drive


def candidate(**resources: Any) -> Candidate:
    config = SweepConfig.from_dict(small(resources=resources))
    parameters = config.space.draw(lambda name, dimension: getattr(dimension, "values", [0.5])[0])
    return Candidate.from_parameters(config, parameters)[0]


def test_threads_and_device_are_part_of_what_a_training_is() -> None:
    made = [candidate(), candidate(cpus=2), candidate(gpus=0.5), candidate(gpus=1)]
    assert [(each.threads, each.device) for each in made] == [
        *((1, "cpu"), (2, "cpu"), (1, "cuda"), (1, "cuda"))
    ]
    assert len({Training(each, 0).training_id for each in made}) == 3
    assert made[2].model_id == made[3].model_id


def test_a_training_has_as_many_threads_as_cpus() -> None:
    import torch

    before = torch.get_num_threads()
    try:
        for cpus in (2, 1):
            Course(candidate(cpus=cpus)).build(0)
            assert torch.get_num_threads() == cpus
    finally:
        torch.set_num_threads(before)


def test_workers_follow_from_the_cpus_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    for cpus, workers in ((1, 8), (3, 2), (16, 1)):
        config = SweepConfig.from_dict(small(resources={"cpus": cpus}))
        assert api.worker_count(None, config) == workers
        assert api.worker_count(5, config) == 5


@pytest.mark.parametrize("gpus", [-0.5, 1.5, True, "one", None, 4096])
def test_parts_of_gpus_that_cannot_be(gpus: Any) -> None:
    with pytest.raises(ConfigError, match=r"resources.gpus: got .*; must be a number from 0 to 1"):
        SweepConfig.from_dict(small(resources={"gpus": gpus}))


@pytest.mark.parametrize(
    ("memory", "amount"),
    [
        (0, 0),
        (10**9, 10**9),
        (2e9, 2 * 10**9),
        ("2GiB", 2**31),
        ("1.5 kB", 1500),
        ("512TiB", 2**49),
    ],
)
def test_amounts_of_memory(memory: Any, amount: int) -> None:
    config = SweepConfig.from_dict(small(resources={"memory": memory}))
    assert config.resources.memory == amount
    assert SweepConfig.from_dict(config.resolved()) == config
    assert config.resources.demand().get("memory", 0) == amount


@pytest.mark.parametrize("memory", [-1, 0.5, True, "much", "2", "2 XB", 2**50, None, "-1GB"])
def test_amounts_of_memory_that_cannot_be(memory: Any) -> None:
    with pytest.raises(ConfigError, match=r"resources.memory: got .*; must be bytes .*500MB"):
        SweepConfig.from_dict(small(resources={"memory": memory}))


@pytest.mark.parametrize(
    ("custom", "said"),
    [
        ([], r"got \[\]; must be a mapping of Ray's names"),
        ({"ssd": 0}, r"got 'ssd': 0; must be .* at least 0.0001, such as"),
        ({"ssd": True}, r"got 'ssd': True; must be"),
        ({"ssd": "one"}, r"got 'ssd': 'one'; must be"),
        ({"s s d": 1}, r"got 's s d': 1; must be"),
        ({3: 1}, r"got 3: 1; must be"),
        ({"node:1.2.3.4": 1}, r"got 'node:1.2.3.4': 1; must be"),
        ({"GPU": 1}, r"got 'GPU', which has a key of its own: resources.gpus"),
    ],
)
def test_custom_resources_that_cannot_be(custom: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"resources.custom: {said}"):
        SweepConfig.from_dict(small(resources={"custom": custom}))


def test_custom_resources_and_memory_are_no_part_of_what_a_training_is() -> None:
    asking = candidate(memory="1GB", custom={"ssd": 2, "accelerator_type:A100": 0.001})
    assert Training(asking, 0).training_id == Training(candidate(), 0).training_id


def test_a_cluster_has_the_room_that_it_has() -> None:
    config = SweepConfig.from_dict(small())
    assert api.worker_count(None, config, "10.0.0.1:6379") == MOST
    assert api.worker_count(3, config, "10.0.0.1:6379") == 3
    assert api.worker_count(None, SweepConfig.from_dict(small(workers=2)), "auto") == 2


@pytest.mark.slow
def test_a_machine_without_the_gpu_that_is_asked_for(tmp_path: Path) -> None:
    import ray
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    run, config = prepared(tmp_path / "run", trials=2, resources={"gpus": 0.25})
    with pytest.raises(
        ConnectionError,
        match=r"this machine has 2 CPUs, 0 GPUs, .*; .* needs .* 0\.25 GPUs \(resources",
    ):
        drive(run, config, workers=2, import_path=[])
    # A Ray that claims to have one: Tune places four trainings on it, and PyTorch sees none.
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        assert drive(run, config, workers=2, import_path=[]).complete
    finally:
        ray.shutdown()
    table = ledger(run, config)
    assert set(table["state"]) == {"FAILED"}
    assert table["reason"].str.contains("asks for a GPU, and PyTorch sees none").all()
