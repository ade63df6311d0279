"""A probe is checked when it is made, and no estimate on it leaves a trace."""

from collections import UserDict

import pytest
import torch
from probed_models import (
    MODELS,
    Branching,
    Encoded,
    Hiding,
    Noisy,
    assert_unchanged,
    classify,
    encoded_probe,
    make,
    make_probe,
    record,
)
from small_models import INPUTS, Conv, Recurrent, mlp, train
from torch import nn
from torch.nn.functional import cross_entropy

from trace_core import TraceError
from trace_core.importance import ESTIMATORS, IMPORTANCES, PROBED, Probe
from trace_core.importance.probe import call_model


def options(estimator):
    return {"repeats": 2} if estimator == "permutation" else {}


def estimate(estimator, model, probe):
    return PROBED[estimator](model, probe, **options(estimator))


# ---- the probe


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((), "there must be at least one"),
        ((torch.zeros(()),), "as first dimension"),
        ((torch.zeros(0, 2),), "from 1, as first dimension"),
        ((torch.zeros(3, 2), torch.zeros(4)), r"shapes \[\(3, 2\), \(4,\)\]"),
        ((torch.zeros(3), [1, 2, 3]), "holds a int; it must be a tensor, or a tuple"),
        ({"x": torch.zeros(3), "y": None}, "holds a NoneType"),
        (UserDict(x=torch.zeros(3)), r"holds a UserDict.*; pass dict\(batch\)"),
    ],
)
def test_a_batch_is_checked(batch, message):
    with pytest.raises(TraceError, match=message):
        Probe(batch, classify)


def test_functions_are_checked():
    with pytest.raises(TraceError, match="the probe's loss is 'mse'; it must be a function"):
        Probe(torch.zeros(3), "mse")
    with pytest.raises(TraceError, match="the probe's forward is None"):
        Probe(torch.zeros(3), classify, forward=None)


def test_samples_are_cut_through_the_whole_batch_and_copied():
    x, y = torch.arange(6.0).view(3, 2), torch.arange(3)
    probe = Probe({"x": x, "more": [y, (x,)]}, classify)
    part = probe.samples(1, 3)
    assert probe.size == 3
    assert torch.equal(part["x"], x[1:3])
    assert torch.equal(part["more"][0], y[1:3])
    assert torch.equal(part["more"][1][0], x[1:3])
    part["x"].zero_()
    assert x.sum() == 15


def test_the_model_is_called_as_its_batch_is():
    x, y = torch.arange(4.0).view(2, 2), torch.zeros(2)
    plain = nn.Identity()
    tensor, pair = Probe(x, classify), Probe([x, y], classify)
    assert torch.equal(tensor.forward(plain, tensor.batch), x)
    assert torch.equal(pair.forward(plain, pair.batch), x)
    named = Probe({"input": x, "labels": y}, classify)
    assert torch.equal(named.forward(plain, named.batch), x)


@pytest.mark.parametrize("estimator", ["fisher", "ablation", "permutation"])
def test_the_loss_is_a_scalar(estimator):
    for loss, found in (
        (lambda outputs, batch: cross_entropy(outputs, batch[1], reduction="none"), "shape"),
        (lambda outputs, batch: 0.5, "0.5"),
    ):
        with pytest.raises(TraceError, match=f"loss returned {found}.*; it must be a scalar"):
            estimate(estimator, make(mlp), Probe(make_probe().batch, loss))


@pytest.mark.parametrize("estimator", PROBED)
def test_only_trainable_parameters_are_estimated(estimator):
    model = make(Conv)
    model.conv.weight.requires_grad_(False)
    found = estimate(estimator, model, make_probe())
    assert list(found) == [n for n, p in model.named_parameters() if n != "conv.weight"]
    with pytest.raises(TraceError, match="no trainable parameters"):
        estimate(estimator, model.requires_grad_(False), make_probe())


@pytest.mark.parametrize("estimator", PROBED)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_estimates_have_the_parameters_shapes_and_at_least_single_precision(
    estimator, model, dtype
):
    built = make(MODELS[model], dtype)
    found = estimate(estimator, built, make_probe(3, dtype))
    assert list(found) == [name for name, _ in built.named_parameters()]
    for name, parameter in built.named_parameters():
        assert found[name].shape == parameter.shape
        assert found[name].dtype == torch.promote_types(dtype, torch.float32)
        assert not found[name].requires_grad
        assert (found[name] >= 0).all()
    if estimator in ("fisher", "mas"):
        assert all(c.sum() > 0 for c in found.values())


# ---- leaving no trace


@pytest.mark.parametrize("estimator", PROBED)
@pytest.mark.parametrize("model", [Conv, Noisy, Recurrent, nn.LSTM])
def test_nothing_is_changed(estimator, model):
    if model is nn.LSTM:
        torch.manual_seed(0)
        built = nn.LSTM(INPUTS, 3, dtype=torch.float64)
        probe = Probe(make_probe().batch, classify, lambda model, batch: model(batch[0])[0])
    else:
        built, probe = make(model), make_probe()
    x = probe.batch[0].clone()
    for parameter in list(built.parameters())[::2]:
        parameter.grad = torch.full_like(parameter, -0.0)
    next(built.children(), built).eval()  # modes may differ within a model
    before = record(built)
    estimate(estimator, built, probe)
    assert_unchanged(before, record(built))
    assert torch.equal(probe.batch[0], x)
    if model is nn.LSTM:
        assert all(a is b for a, b in zip(built._flat_weights, built.parameters(), strict=True))


@pytest.mark.parametrize("estimator", PROBED)
def test_training_is_bitwise_the_same(estimator):
    outcomes = []
    for estimated in (False, True):
        model = make(Noisy, torch.float32)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        losses = []
        for step in range(4):
            if estimated:
                estimate(estimator, model, make_probe(3, torch.float32))
            losses += train(model, optimizer, 1, first=step)
        outcomes.append((losses, record(model)["values"], torch.get_rng_state()))
    (losses, values, generator), (losses_too, values_too, generator_too) = outcomes
    assert losses == losses_too
    assert torch.equal(generator, generator_too)
    assert_unchanged(values, values_too)


@pytest.mark.parametrize("estimator", PROBED)
def test_a_graph_in_flight_survives(estimator):
    gradients = []
    for estimated in (False, True):
        model, (x, y) = make(mlp).eval(), make_probe().batch
        loss = cross_entropy(model(x), y)
        if estimated:
            estimate(estimator, model, make_probe(seed=9))
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert_unchanged(dict(enumerate(gradients[0])), dict(enumerate(gradients[1])))


@pytest.mark.parametrize("estimator", PROBED)
def test_all_is_put_back_after_an_error(estimator):
    model, calls = make(Noisy), []

    def fail_late(model, batch):
        outputs = model(batch[0])
        calls.append(model.training)
        if len(calls) == 4:
            raise ArithmeticError("the model failed")
        return outputs

    before = record(model)
    with pytest.raises(ArithmeticError, match="the model failed"):
        estimate(estimator, model, Probe(make_probe().batch, classify, fail_late))
    assert calls == [False] * 4
    assert_unchanged(before, record(model))


@pytest.mark.parametrize("estimator", PROBED)
def test_hooks_on_gradients_are_the_trainings(estimator):
    model, fired = make(Recurrent), []
    wanted = estimate(estimator, model, make_probe())
    hook = model.head.weight.register_hook(fired.append)
    found = estimate(estimator, model, make_probe())
    assert not fired
    assert_unchanged(dict(wanted), dict(found))
    model.head(torch.ones(8, dtype=torch.float64)).sum().backward()
    assert len(fired) == 1
    hook.remove()


def in_bfloat16(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        return model(batch[0]).float()


@pytest.mark.parametrize("estimator", PROBED)
@pytest.mark.parametrize("kind", [mlp, Hiding, Branching])
@pytest.mark.parametrize("forward", [call_model, in_bfloat16])
def test_grad_mode_and_autocast_of_the_caller_dont_matter(estimator, kind, forward):
    model, x = make(kind, torch.float32), make_probe(4, torch.float32).batch
    probe = Probe(x, classify, forward)
    wanted = estimate(estimator, model, probe)
    with torch.no_grad():
        assert_unchanged(dict(wanted), dict(estimate(estimator, model, probe)))
    with torch.autocast("cpu", torch.bfloat16):
        model(x[0])  # autocast keeps the weights' casts from here on
        assert_unchanged(dict(wanted), dict(estimate(estimator, model, probe)))


@pytest.mark.parametrize("estimator", PROBED)
def test_a_batch_may_be_a_dict_and_outputs_have_logits(estimator):
    torch.manual_seed(0)
    model = Encoded().double()
    before = record(model)
    found = estimate(estimator, model, encoded_probe())
    assert_unchanged(before, record(model))
    assert found["embed.weight"].sum() > 0


@pytest.mark.parametrize("estimator", PROBED)
def test_wrappers_are_looked_through(estimator):
    model, probe = make(mlp), make_probe(4)
    wanted = dict(estimate(estimator, model, probe))
    compilations = []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend)
    compiled(probe.batch[0])
    assert len(compilations) == 1
    found = estimate(estimator, compiled, probe)
    assert_unchanged({f"_orig_mod.{name}": c for name, c in wanted.items()}, dict(found))
    inside = nn.Sequential(compiled, nn.Identity())
    found = estimate(estimator, inside, probe)
    assert_unchanged({f"0._orig_mod.{name}": c for name, c in wanted.items()}, dict(found))
    assert len(compilations) == 1


# ---- the registry


def test_the_registry_is_complete():
    assert {"uniform", "magnitude", "gradient", "taylor"} <= set(IMPORTANCES)
    stateful = {"synaptic_intelligence"}
    named = {name for name in IMPORTANCES if name in ESTIMATORS} | set(PROBED) | stateful
    assert set(ESTIMATORS) == named
    assert {name for name, needs in ESTIMATORS.items() if needs.probe} == set(PROBED)


@pytest.mark.parametrize("estimator", PROBED)
def test_passes_are_as_many_as_the_registry_says(estimator):
    calls = []
    probe = make_probe(5)
    counted = Probe(probe.batch, classify, lambda model, batch: calls.append(1) or model(batch[0]))
    model = make(Recurrent)
    known = {"B": 5, "U": 2, "R": 2}
    loop = {"method": "loop"} if estimator in ("fisher", "mas") else {}
    PROBED[estimator](model, counted, **options(estimator), **loop)
    formula = ESTIMATORS[estimator].forwards.replace("·", "*")
    assert len(calls) == eval(formula, {}, known)
