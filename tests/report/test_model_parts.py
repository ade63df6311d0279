"""The parts of a model in the report: head and backbone apart, and each block."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from sweeps.report.parts import parts
from trace_core import Trace, Tracer

KINDS = {"stability": "steadiness", "change_rate": "rms", "explainability": "gini"}


def traced(model: nn.Module, features: int = 6, steps: int = 15) -> Trace:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    tracer = Tracer(model, optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, features)).square().mean().backward()
        optimizer.step()
    return tracer.trace()


def fine_tuned() -> nn.Module:
    torch.manual_seed(0)
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3)))
    backbone = nn.Sequential(OrderedDict(embed=nn.Linear(6, 6), layer=blocks))
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(6, 3)))


def test_head_and_backbone_stand_apart_and_the_blocks_below() -> None:
    found = parts(traced(fine_tuned()), KINDS)
    names = [(row["name"], row["depth"]) for row in found]
    assert names == [
        ("backbone", 0),
        ("backbone, the rest", 1),
        ("backbone.layer.0", 1),
        ("backbone.layer.1", 1),
        ("backbone.layer.2", 1),
        ("head", 0),
    ]
    outer = [row for row in found if row["depth"] == 0]
    inner = [row for row in found if row["depth"] == 1]
    assert sum(row["share"] for row in outer) == pytest.approx(1, abs=1e-3)
    assert sum(row["share"] for row in inner) == pytest.approx(outer[0]["share"], abs=1e-3)
    assert sum(row["parameters"] for row in outer) == 4 * 42 + 21
    assert all(0 < row["stability"] < 1 and 0 < row["explainability"] < 1 for row in found)


def test_what_is_frozen_has_no_scores() -> None:
    model = fine_tuned()
    model.get_submodule("backbone").requires_grad_(False)
    backbone = parts(traced(model), KINDS)[0]
    assert backbone["parameters"] == 0
    assert backbone["share"] == 0
    assert backbone["stability"] is None
    assert backbone["explainability"] is None


def test_a_model_of_single_layers_has_no_parts_beside_them() -> None:
    torch.manual_seed(0)
    assert parts(traced(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))), KINDS) == []
