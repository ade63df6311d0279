"""Ablation and permutation against copies of the model that are disturbed by hand."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from probed_models import MODELS, assert_unchanged, classify, make, make_probe, record
from small_models import Conv, Transformer, mlp
from torch import nn

from trace_core import TraceError
from trace_core.importance import PROBED, Probe, ablation_rises, permutation_rises
from trace_core.names import block_of, layer_of


def loss_of(model, probe):
    with torch.no_grad():
        return classify(model.eval()(probe.batch[0]), probe.batch).item()


def units_by_hand(model, unit):
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layer = layer_of(name)
            key = {"tensor": name, "layer": layer, "block": block_of(layer)}[unit]
            found.setdefault(key, []).append(name)
    return found


def disturbed(model, probe, names, change):
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name in names:
            parameter = model.get_parameter(name)
            parameter.copy_(change(parameter.clone()))
    return loss_of(model, probe)


@pytest.mark.parametrize("unit", ["tensor", "layer", "block"])
@pytest.mark.parametrize("name", MODELS)
def test_ablation_by_hand(unit, name):
    model, probe = make(MODELS[name]), make_probe()
    next(model.parameters()).requires_grad_(False)
    units = units_by_hand(model, unit)
    base = loss_of(copy.deepcopy(model), probe)
    found = ablation_rises(model, probe, unit=unit)
    assert list(found) == list(units)
    for key, names in units.items():
        wanted = disturbed(model, probe, names, torch.zeros_like) - base
        assert found[key] == pytest.approx(wanted, rel=1e-12, abs=1e-13), key


@pytest.mark.parametrize("unit", ["tensor", "layer", "block"])
@pytest.mark.parametrize("kind", [Conv, Transformer])
def test_permutation_by_hand(unit, kind):
    model, probe = make(kind), make_probe()
    base = loss_of(copy.deepcopy(model), probe)
    generator = torch.Generator().manual_seed(3)

    def shuffled(values):
        order = torch.randperm(values.numel(), generator=generator)
        return values.flatten()[order].view_as(values)

    wanted = {
        key: np.mean([disturbed(model, probe, names, shuffled) for _ in range(4)]) - base
        for key, names in units_by_hand(model, unit).items()
    }
    found = permutation_rises(model, probe, unit=unit, repeats=4, seed=3)
    assert found == pytest.approx(wanted, rel=1e-12, abs=1e-13)
    assert found != permutation_rises(model, probe, unit=unit, repeats=4, seed=4)


def test_shuffles_are_uniform():
    """The mean rise over many shuffles is that over all 24 orders of four weights."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    x = torch.randn(9, 4, dtype=torch.float64)
    probe = Probe(x, lambda outputs, batch: outputs.square().mean())
    weight = model.weight.detach()[0]
    losses = [
        (x @ weight[list(order)]).square().mean().item()
        for order in itertools.permutations(range(4))
    ]
    base = (x @ weight).square().mean().item()
    found = permutation_rises(model, probe, repeats=2000)[""]
    error = np.std(losses) / math.sqrt(2000)
    assert abs(found - (np.mean(losses) - base)) < 4 * error
    assert error < 0.1 * np.std(losses)


def test_equal_entries_cannot_be_shuffled():
    model = make(Conv)
    nn.init.zeros_(model.conv.bias)
    nn.init.ones_(model.norm.weight)
    found = permutation_rises(model, make_probe(), unit="tensor")
    assert found["conv.bias"] == found["norm.weight"] == 0
    assert ablation_rises(model, make_probe(), unit="tensor")["norm.weight"] != 0


@pytest.mark.parametrize("estimator", ["ablation", "permutation"])
@pytest.mark.parametrize("unit", ["tensor", "layer", "block"])
def test_importance_rolls_up_to_the_rise_of_each_unit(estimator, unit):
    model, probe = make(MODELS["tied"], seed=5), make_probe(seed=8)
    rises = {"ablation": ablation_rises, "permutation": permutation_rises}[estimator](
        model, probe, unit=unit
    )
    found = PROBED[estimator](model, probe, unit=unit)
    assert list(found) == [name for name, _ in model.named_parameters()]
    for key, names in units_by_hand(model, unit).items():
        together = torch.cat([found[name].flatten() for name in names])
        assert together.sum().item() == pytest.approx(max(rises[key], 0), rel=1e-12)
        assert (together == together[0]).all()


def test_a_fall_is_told_raw_and_floored_as_importance():
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    probe = Probe(
        torch.ones(3, 2, dtype=torch.float64), lambda outputs, batch: outputs.square().mean()
    )
    nn.init.ones_(model.weight)
    assert ablation_rises(model, probe) == {"": -4.0}
    assert not PROBED["ablation"](model, probe)["weight"].any()


def test_an_empty_parameter_is_a_unit_without_importance():
    model = nn.Linear(2, 1, dtype=torch.float64)
    model.register_parameter("none", nn.Parameter(torch.zeros(0, 3, dtype=torch.float64)))
    probe = Probe(
        torch.ones(3, 2, dtype=torch.float64), lambda outputs, batch: outputs.square().mean()
    )
    for estimator in ("ablation", "permutation"):
        assert PROBED[estimator](model, probe, unit="tensor")["none"].shape == (0, 3)


def test_the_same_noise_meets_every_disturbance():
    """A model with dropout that is always on is compared with itself under one mask."""
    model = make(mlp)
    probe = Probe(
        make_probe().batch,
        classify,
        lambda model, batch: nn.functional.dropout(model(batch[0]), 0.5, training=True),
    )
    nn.init.zeros_(model[0].bias)
    assert ablation_rises(model, probe, unit="tensor")["0.bias"] == 0


@pytest.mark.parametrize("estimator", ["ablation", "permutation"])
def test_weights_are_restored_to_the_bit_when_the_model_raises(estimator):
    model = make(Conv)
    with torch.no_grad():
        model.head.weight.view(torch.int64)[0, :2] = torch.tensor(
            [-0x8000000000000000, 0x7FF8000000000123]  # -0.0, and a NaN with a payload
        )
    head = model.head.weight.detach().clone()
    before = record(model)

    def refuse(model, batch):
        if model.head.weight.numpy(force=True).tobytes() != head.numpy().tobytes():
            raise FloatingPointError("disturbed")
        return model(batch[0])

    with pytest.raises(FloatingPointError, match="disturbed"):
        PROBED[estimator](model, Probe(make_probe().batch, classify, refuse))
    assert_unchanged(before, record(model))


def test_a_loss_that_is_no_number_stays_one():
    model = make(mlp)
    nn.init.constant_(model[3].bias, math.nan)
    rises = ablation_rises(model, make_probe(), unit="tensor")
    assert math.isnan(rises["0.weight"])
    assert PROBED["ablation"](model, make_probe(), unit="tensor")["0.weight"].isnan().all()


def test_settings_are_checked():
    model, probe = make(mlp), make_probe()
    for estimator in ("ablation", "permutation"):
        with pytest.raises(TraceError, match=r"unknown unit 'layers' .*did you mean 'layer'"):
            PROBED[estimator](model, probe, unit="layers")
    for repeats in (0, 1.5):
        with pytest.raises(TraceError, match=r"repeats is .*; it must be a whole number from 1"):
            PROBED["permutation"](model, probe, repeats=repeats)
