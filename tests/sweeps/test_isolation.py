"""Whatever a training does to its process, the next one gives what it gives alone, to the bit."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from inprocess import small

from sweeps.candidate import Candidate, Training
from sweeps.config import SweepConfig
from sweeps.run_directory import RunDirectory
from sweeps.selection import read_trials
from sweeps.sweep import create, drive

MODULE = '''
import decimal, gc, os, random, resource, signal, subprocess, sys, threading, time, warnings
import numpy as np
import torch
from torch import nn

COUNT = 0
KEPT = []


def good(shape, width: int = 8):
    """Depends on all that an untidy training may have left."""
    global COUNT
    COUNT += 1
    KEPT.append(COUNT)
    scale = COUNT + len(KEPT) + len(os.environ.get("LEFT", "")) + torch.ones(1).element_size()
    scale += float(np.float64(random.random())) + float(np.random.rand()) + float(torch.rand(1))
    scale += torch.get_num_threads() + (os.getcwd() == "/") + ("/left" in sys.path)
    model = nn.Sequential(nn.Linear(shape.input_shape[0], width), nn.Tanh(), nn.Linear(width, 3))
    with torch.no_grad():
        model[0].weight.mul_(scale / 10)
    return model


def apart(shape):
    """A good one that can't be trained together with others; what it leaves is found."""
    if COUNT:
        raise RuntimeError(f"the process has built {COUNT} models before")
    return nn.Sequential(good(shape), nn.Dropout(0.1), nn.BatchNorm1d(3))


def untidy(shape, how: str = ""):
    global COUNT
    COUNT += 100
    KEPT.extend(range(50))
    HOW[how]()
    return good(shape)


def modes():
    torch.manual_seed(1234)
    random.seed(5)
    np.random.seed(6)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    torch.autograd.set_detect_anomaly(True)
    torch.set_flush_denormal(True)
    torch.nn.modules.module.register_module_forward_hook(lambda module, args, out: 2 * out)
    np.seterr(all="raise")
    warnings.simplefilter("error")
    os.environ["LEFT"] = "much"
    os.chdir("/")
    sys.path.insert(0, "/left")
    sys.setrecursionlimit(77)
    gc.disable()


def raises():
    modes()
    raise RuntimeError("the training raised")


def leaves():
    raise SystemExit(3)


def thread():
    def run():
        while True:
            torch.manual_seed(0)
            torch.set_default_dtype(torch.float64)
            time.sleep(0.001)

    open(os.path.join(os.path.dirname(__file__), "left_behind"), "w").write(str(os.getpid()))
    threading.Thread(target=run, name="left-behind").start()


def memory():
    kept = []
    limit = resource.getrlimit(resource.RLIMIT_AS)
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, limit[1]))
    while True:
        kept.append(np.ones(2**20))


def keeps():
    builtins = sys.modules["builtins"]
    builtins.kept = np.ones(2**27)


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


HOW = {name: thing for name, thing in list(globals().items()) if callable(thing)}
'''

REASONS = {
    "modes": None,
    "raises": "the training raised",
    "leaves": "SystemExit",
    "thread": None,
    "memory": "MemoryError",
    "keeps": None,
    "dies": "the worker process died",
}


def write_module(folder: Path) -> None:
    (folder / "untidy_models.py").write_text(MODULE)


def configuration(**changes: Any) -> dict[str, Any]:
    return small(replicates=1, **changes)


ALONE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sweeps.candidate import Training
from sweeps.worker import Worker
for text in sys.argv[3:]:
    process = os.fork()
    if not process:
        training = Training.from_json(text)
        Worker(Path(sys.argv[2]), text, training.training_id, 0, "alone").advance(1e9)
        os._exit(0)
    os.waitpid(process, 0)
"""


def alone(folder: Path, trainings: list[Training]) -> list[dict[str, Any]]:
    """What trainings give in a process each, which nothing else has used."""
    run = folder / "alone"
    run.mkdir()
    subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), str(run), *(t.to_json() for t in trainings)],
        check=True,
    )
    return [outcome(RunDirectory(run), training.training_id) for training in trainings]


def outcome(run: RunDirectory, training_id: str) -> dict[str, Any]:
    """What came of a training, less what names its run."""
    record = json.loads(run.record(training_id).read_text())
    assert record["state"] == "COMPLETE", record
    return {name: record[name] for name in ("history", "metric_test", "steps", "parameters")} | {
        "trace": run.trace(training_id).read_bytes()
    }


@pytest.mark.slow
def test_the_next_training_on_an_actor_gives_what_it_gives_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    hows = list(REASONS)
    # Untidy and good trainings take turns on one worker.
    points = [
        point
        for i, how in enumerate(hows)
        for point in (("untidy_models:untidy", how), ("untidy_models:good", 4 + i))
    ]
    config = SweepConfig.from_dict(
        configuration(
            trials=len(points),
            first=fixed(points),
            space={
                "architecture": {
                    "untidy_models:untidy": {"how": hows},
                    "untidy_models:good": {"width": {"int": [4, 4 + len(hows)]}},
                },
                "learning_rate": 0.1,
            },
        )
    )
    run = create(config, tmp_path / "run", [str(tmp_path)])
    result = drive(run, config, workers=1, import_path=[str(tmp_path)])
    assert result.complete
    left = int((tmp_path / "left_behind").read_text())
    deadline = time.monotonic() + 20
    while Path(f"/proc/{left}").exists():
        assert time.monotonic() < deadline, "a process that was not to be used again still runs"
        time.sleep(0.1)
    good = []
    for (architecture, value), trial in zip(points, read_trials(run), strict=True):
        candidate, _ = Candidate.from_parameters(config, trial.parameters)
        reason = REASONS[str(value)] if architecture.endswith(":untidy") else None
        assert trial.state == ("FAILED" if reason else "COMPLETE"), (value, trial.details)
        assert (reason or "") in trial.details["reason"]
        if architecture.endswith(":good"):
            good.append(Training(candidate, 0))
    assert len(good) == len(hows)
    for training, wanted in zip(good, alone(tmp_path, good), strict=True):
        assert outcome(run, training.training_id) == wanted


def fixed(points: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    names = {"untidy_models:untidy": "how", "untidy_models:good": "width"}
    return [
        {"architecture": architecture, f"{architecture}.{names[architecture]}": value}
        for architecture, value in points
    ]


@pytest.mark.slow
def test_replicates_trained_apart_each_give_what_they_give_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    space = {"architecture": "untidy_models:apart", "learning_rate": 0.1}
    config = SweepConfig.from_dict(small(replicates=3, trials=1, space=space))
    run = create(config, tmp_path / "run", [str(tmp_path)])
    drive(run, config, workers=1, import_path=[str(tmp_path)])
    (trial,) = read_trials(run)
    assert trial.state == "COMPLETE", trial.details
    candidate, _ = Candidate.from_parameters(config, trial.parameters)
    trainings = [Training(candidate, seed) for seed in range(3)]
    for training, wanted in zip(trainings, alone(tmp_path, trainings), strict=True):
        assert outcome(run, training.training_id) == wanted
        assert json.loads(run.record(training.training_id).read_text())["apart"]
