"""Whole sweeps on the real parts: Ray Tune, Optuna, torch, the page in Chromium."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from playwright.sync_api import sync_playwright
from test_interruption import finish, start

from sweeps import records
from sweeps.run_directory import RunDirectory

pytestmark = pytest.mark.slow

CHROMIUM = Path("/usr/bin/chromium")
MODEL_KEYS = {
    *("rank", "rank_low", "rank_high", "model_id", "architecture", "init", "settings"),
    *("traceability", "stability", "change_rate", "explainability", "article_score"),
    *("metric", "metric_best", "metric_test", "metric_name", "share_first", "p_first"),
    "replicates",
}
TRIAL_KEYS = {"COMPLETE", "PRUNED", "FAILED", "INTERRUPTED", "trained", "replayed"}

MISBEHAVING = """
import os
import torch
from torch import nn

def fine(shape): return nn.Sequential(nn.Flatten(), nn.Linear(shape.features, shape.outputs))
def careless(shape):
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    return fine(shape)
def surrogate(shape): raise ValueError("a name \\udcff that is no text")
def raises(shape): raise RuntimeError("this model was never meant to be")
def frozen(shape): return fine(shape).requires_grad_(False)
def narrow(shape): return nn.Sequential(nn.Flatten(), nn.Linear(shape.features, 2))

class _Faulty(nn.Module):
    def __init__(self, shape, fault):
        super().__init__()
        self.inner, self.fault, self.calls = fine(shape), fault, 0
    def forward(self, inputs):
        self.calls += self.training
        outputs = self.inner(inputs)
        return self.fault(outputs) if self.calls > 3 else outputs

def dies(shape): return _Faulty(shape, lambda outputs: os._exit(9))
def leaves(shape): return _Faulty(shape, lambda outputs: exit(3))
def nan(shape): return _Faulty(shape, lambda outputs: outputs * float("nan"))
def chatty(shape):
    print("a word before the end")
    return _Faulty(shape, lambda outputs: 1 / 0)
"""


def sweep(tmp_path: Path, code: int = 0, **changes: Any) -> RunDirectory:
    config = {
        "name": "real",
        "task": "digits",
        "budget": {"epochs": 2, "batch_size": 128},
        "replicates": 2,
    } | changes
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(config))
    run = RunDirectory(tmp_path / "run")
    finish(start("run", str(path), "--out", str(run.path), "--workers", "2"), code)
    return run


def ranking(run: RunDirectory) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((run.report / "ranking.json").read_text())
    return data


def test_every_architecture_and_initialisation_ends_in_an_offline_page(tmp_path: Path) -> None:
    inits = ["default", "xavier_uniform", "kaiming_normal", "orthogonal", "normal_002"]
    run = sweep(
        tmp_path,
        trials=7,
        space={
            "architecture": {
                "mlp": {"hidden": {"int": [16, 32]}},
                "cnn": {"channels": 8},
                "gru": {"hidden": 16},
                "transformer": {"width": 16, "depth": 1},
            },
            "init": inits,
            "alpha": {"float": [0.0, 1.0]},
            "learning_rate": 0.1,
            "momentum": 0.9,
        },
    )
    data = ranking(run)
    assert data["schema"] == 1
    assert set(data["trials"]) == TRIAL_KEYS
    assert data["trials"]["COMPLETE"] == 7
    assert data["models"]
    for model in data["models"]:
        assert set(model) == MODEL_KEYS
        numbers = [value for value in model.values() if isinstance(value, int | float)]
        assert all(math.isfinite(value) for value in numbers)
    ledger = pd.read_parquet(run.ledger)
    drawn = ledger["parameters"].map(json.loads)
    assert set(drawn.map(lambda each: each["architecture"])) == {"mlp", "cnn", "gru", "transformer"}
    assert set(drawn.map(lambda each: each["init"])) == set(inits)
    table = pd.read_parquet(run.report / "ranking.parquet")
    csv = pd.read_csv(run.report / "ranking.csv")
    assert table["model_id"].tolist() == [model["model_id"] for model in data["models"]]
    assert csv["traceability"].tolist() == [model["traceability"] for model in data["models"]]
    assert_offline(run.report / "index.html")
    again = tmp_path / "again"
    finish(start("run", str(run.report / "winner.yaml"), "--out", str(again)))
    (winner,) = ranking(RunDirectory(again))["models"]
    assert winner["model_id"] == data["models"][0]["model_id"]
    assert winner["traceability"] == data["models"][0]["traceability"]


def assert_offline(page: Path) -> None:
    if not CHROMIUM.exists():
        pytest.skip(f"needs a browser at {CHROMIUM}")
    requests: list[str] = []
    complaints: list[str] = []
    with sync_playwright() as driver:
        switches = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=switches)
        tab = browser.new_page()
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("console", lambda message: complaints.append(message.text))
        tab.goto(page.as_uri())
        assert tab.locator("h1").inner_text()
        browser.close()
    assert requests == [page.as_uri()]
    assert not complaints


def test_models_that_misbehave_fail_with_their_reason_and_the_sweep_goes_on(tmp_path: Path) -> None:
    (tmp_path / "misbehaving.py").write_text(MISBEHAVING)
    reasons = {
        "surrogate": "ValueError: a name \\udcff that is no text",
        "raises": "RuntimeError: this model was never meant to be",
        "frozen": "no trainable parameter",
        "narrow": "does not fit the task digits",
        "dies": "the worker process died",
        "leaves": "SystemExit: 3",
        "nan": "diverged: the training loss is nan at step 3",
        "chatty": "ZeroDivisionError",
    }
    builders = [f"misbehaving:{name}" for name in ("careless", "fine", *reasons)]
    run = sweep(
        tmp_path,
        trials=len(builders),
        space={"architecture": dict.fromkeys(builders), "learning_rate": 0.1},
    )
    ledger = pd.read_parquet(run.ledger)
    drawn = ledger["parameters"].map(lambda text: json.loads(text)["architecture"])
    ended = dict(zip(drawn.str.split(":").str[1], ledger.itertuples(), strict=True))
    assert ended["fine"].state == ended["careless"].state == "COMPLETE"
    assert "ActorDiedError" in ended["dies"].reason or "worker" in ended["dies"].reason
    for name, reason in reasons.items():
        assert ended[name].state == "FAILED"
        assert reason in ended[name].reason, ended[name].reason
    tails = [
        record.log_tail
        for one in ended["chatty"].trainings.split(",")
        if (record := records.load(run, one)) is not None
    ]
    assert "a word before the end" in tails[0]
    assert "ZeroDivisionError: division by zero" in tails[0]
    page = (run.report / "index.html").read_text()
    assert "this model was never meant to be" in page
    assert ranking(run)["trials"]["FAILED"] == len(reasons)


def test_a_sweep_in_which_every_trial_failed(tmp_path: Path) -> None:
    (tmp_path / "misbehaving.py").write_text(MISBEHAVING)
    space = {"architecture": {"misbehaving:raises": None}, "learning_rate": 0.1}
    run = sweep(tmp_path, code=1, trials=2, space=space)
    data = ranking(run)
    assert data["models"] == []
    assert data["trials"]["FAILED"] == 2
    assert "never meant to be" in data["excluded"][0]["reason"]
