"""Parts of a model by the paths of its modules."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from trace_core import Trace, TraceError, Tracer
from trace_core.statistics import Statistic


def traced(steps: int = 12) -> Trace:
    """A fine-tuned model's names: embeddings and two blocks in a backbone, and a head."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)) for _ in range(2)]
    backbone = nn.Sequential(
        OrderedDict(embeddings=nn.Linear(4, 6), layer=nn.Sequential(*layers), norm=nn.LayerNorm(6))
    )
    model = nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(6, 3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracer = Tracer(model, optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    return tracer.trace()


def test_a_part_is_all_that_is_under_its_module() -> None:
    trace = traced()
    parts = trace.by_part()
    assert list(parts) == ["backbone", "head"]
    assert sorted((*parts["backbone"].tensors, *parts["head"].tensors)) == sorted(trace.tensors)
    assert parts["head"].tensors == ("head.weight", "head.bias")
    moved = [each.statistics[:, :, Statistic.SQ_DELTA].sum(axis=1) for each in parts.values()]
    np.testing.assert_allclose(sum(moved), trace.statistics[:, :, Statistic.SQ_DELTA].sum(axis=1))
    inner = trace.under("backbone.layer.1")
    assert inner.tensors == trace.block("backbone.layer.1").tensors
    np.testing.assert_array_equal(
        inner.explainability(), trace.block("backbone.layer.1").explainability()
    )
    np.testing.assert_array_equal(
        parts["head"].explainability(), trace.layer("head").explainability()
    )


def test_a_part_of_several_blocks_has_the_concentration_of_its_histogram() -> None:
    trace = traced()
    part = trace.under("backbone.layer")
    assert part.layer_names == trace.layer_names[1:5]
    whole, bound = part.explainability(), part.explainability_bound()
    known = np.isfinite(whole)
    assert known.any()
    assert (bound[known] > 0).all()
    for name in part.block_names:
        np.testing.assert_allclose(
            part.block(name).explainability(), trace.block(name).explainability(), atol=0.02
        )
    assert 0 < part.stability("directness") < 1
    assert 0 < part.stability() < 1


def test_an_unknown_module_is_refused_with_what_there_is() -> None:
    with pytest.raises(TraceError, match=r"unknown module .backbon. .did you mean .backbone."):
        traced(2).under("backbon")
