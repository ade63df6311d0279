"""The article's worked example, all 300 steps, to 1e-9 relative."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trace_core import Tracer
from trace_core.statistics import Statistic

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def expected():
    return json.loads((GOLDEN / "article_example.json").read_text())


class ArticleModel(nn.Module):
    def __init__(self, arrays):
        super().__init__()
        self.fc1 = nn.Linear(10, 20, dtype=torch.float64)
        self.fc2 = nn.Linear(20, 1, dtype=torch.float64)
        self.load_state_dict(
            {k[len("init.") :]: torch.from_numpy(v) for k, v in arrays.items() if k[:5] == "init."}
        )

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


def run(importance):
    with np.load(GOLDEN / "article_example.npz") as file:
        arrays = dict(file)
    model, losses = ArticleModel(arrays), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.from_numpy(arrays["X"]), torch.from_numpy(arrays["Y"])
    with Tracer(model, optimizer, importance=importance) as tracer:
        for step in range(300):
            batch = slice(step % 100 * 10, step % 100 * 10 + 10)
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return tracer.trace(), losses


@pytest.fixture(scope="module")
def traced():
    return run("taylor")


def series(expected, key):
    return np.array([step[key] for step in expected["steps"]])


def check(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=0)


def test_losses_and_order(traced, expected):
    trace, losses = traced
    assert list(trace.tensors) == expected["tensor_order"]
    assert trace.sizes.sum() == expected["N"]
    check(losses, series(expected, "loss"))


@pytest.mark.parametrize("reading", ["formula", "code"])
def test_change_rates_and_article_scores(traced, expected, reading):
    trace, kind = traced[0], {"formula": "elementwise", "code": "tensor_l1"}[reading]
    check(trace.change_rate(kind), series(expected, f"change_rate_{reading}"))
    wanted = series(expected, f"score_{reading}_alpha_0_5")
    check(trace.scores(0.5, "article", change_rate=kind), wanted)
    check(trace.score(0.5, "article", change_rate=kind), wanted.mean())


def test_explainability_is_one_over_n(traced, expected):
    check(traced[0].explainability("article"), series(expected, "explainability_code"))


def test_rate_of_each_tensor(traced, expected):
    trace = traced[0]
    found = [trace.tensor(name).change_rate("tensor_l1") for name in trace.tensors]
    check(np.stack(found, axis=1), series(expected, "per_tensor_rate"))


@pytest.mark.parametrize(
    ("importance", "key"), [("taylor", "sum_abs_taylor"), ("gradient", "sum_abs_grad")]
)
def test_sum_of_importances(traced, expected, importance, key):
    trace = traced[0] if importance == "taylor" else run(importance)[0]
    check(trace.statistics[:, :, Statistic.C].sum(axis=1), series(expected, key))
