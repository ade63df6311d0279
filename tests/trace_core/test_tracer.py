"""The tracer sees every step as it was, and disturbs none."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import INPUTS, Conv, Recurrent, Tied, Transformer, mlp, train
from torch import nn

from trace_core import Trace, TraceError, Tracer
from trace_core.statistics import DISPLACEMENT, Statistic
from trace_core.storage import to_arrays
from trace_core.top import TopLists

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
}
MODELS = {"mlp": mlp, "conv": Conv, "gru": Recurrent, "transformer": Transformer, "tied": Tied}


def make(model=mlp, optimizer="sgd"):
    torch.manual_seed(0)
    built = model()
    return built, OPTIMIZERS[optimizer](built.parameters())


def trace_of(steps=12, model=mlp, **settings):
    built, optimizer = make(model)
    with Tracer(built, optimizer, **settings) as tracer:
        train(built, optimizer, steps)
    return tracer.trace()


def assert_same(one: Trace, other: Trace):
    left, right = to_arrays(one), to_arrays(other)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name, strict=True)
    assert (one.tensors, one.layers, one.anchors) == (other.tensors, other.layers, other.anchors)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seldom", [False, True])
def test_an_observation_may_close_the_tracer(several, seldom):
    """In the middle of the hooks that PyTorch calls, ours before and after others."""
    model = mlp()
    parts = [model[0], model[3]] if several else [model]
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in parts]
    calls = []

    def stop(observation):
        if observation.step == 2:
            tracer.close()

    first = optimizers[0]
    first.register_step_post_hook(lambda *_: calls.append("earlier"))
    kept = len(first._optimizer_step_pre_hooks), len(first._optimizer_step_post_hooks) + 1
    with Tracer(model, optimizers, on_observation=stop) as tracer:
        first.register_step_post_hook(lambda *_: calls.append("later"))
        for step in range(6):
            for optimizer in optimizers[: 1 if seldom else 2]:
                train(model, optimizer, 1, first=step)
    assert calls == ["earlier", "later"] * 6
    assert len(tracer.trace()) == 3
    assert kept == (len(first._optimizer_step_pre_hooks), len(first._optimizer_step_post_hooks))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_training_is_bitwise_the_same(model, optimizer):
    outcomes = []
    for traced in (False, True):
        built, step = make(MODELS[model], optimizer)
        tracer = Tracer(built, step, on_observation=lambda _: None) if traced else None
        losses = train(built, step, 15)
        outcomes.append((losses, built.state_dict(), step.state_dict(), torch.get_rng_state()))
        if tracer is not None:
            assert len(tracer.trace()) == 15
    (plain, weights, state, random), (losses, weights_too, state_too, random_too) = outcomes
    assert plain == losses
    assert torch.equal(random, random_too)
    for name, tensor in weights.items():
        assert torch.equal(tensor, weights_too[name])
    for index, entry in state["state"].items():
        for name, value in entry.items():
            assert value is None or torch.equal(value, state_too["state"][index][name])


def test_gradients_are_untouched_and_hooks_go():
    model, optimizer = make()
    tracer = Tracer(model, optimizer)
    model(torch.ones(2, INPUTS)).sum().backward()
    before = [parameter.grad.clone() for parameter in model.parameters()]
    optimizer.step()
    assert all(map(torch.equal, before, (p.grad for p in model.parameters())))
    tracer.close()
    tracer.close()
    optimizer.step()
    assert len(tracer.trace()) == 1


@pytest.mark.parametrize("settings", [{}, {"every": 3}])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_statistics_are_those_of_the_step(name, settings):
    model, optimizer = make(optimizer=name)
    tracer = Tracer(model, optimizer, **settings)
    train(model, optimizer, 3)
    theta = [p.detach().double() for p in model.parameters()]
    theta = [t.clone() for t in theta]
    train(model, optimizer, 1, first=3)
    rows = tracer.trace().statistics[-1]
    for row, before, parameter in zip(rows, theta, model.parameters(), strict=True):
        after, gradient = parameter.detach().double(), parameter.grad.double()
        assert row[Statistic.COUNT] == parameter.numel()
        assert row[Statistic.SQ_DELTA] == pytest.approx(((after - before) ** 2).sum().item())
        assert row[Statistic.C] == pytest.approx((before * gradient).abs().sum().item())


def test_every_k_is_a_subsample():
    full, third = trace_of(20), trace_of(20, every=3)
    assert third.steps.tolist() == [0, 3, 6, 9, 12, 15, 18]
    np.testing.assert_array_equal(third.statistics, full.statistics[::3])
    for kind in ("gini", "hoyer"):
        np.testing.assert_array_equal(third.explainability(kind), full.explainability(kind)[::3])
    path = np.sqrt(full.statistics[::3, :, Statistic.SQ_DELTA].sum(axis=1)).sum()
    moved = math.sqrt(full.statistics[18, :, DISPLACEMENT].sum())
    assert third.stability("directness") == pytest.approx(moved / (3 * path))


def test_histograms_are_taken_by_observations_not_by_steps():
    trace = trace_of(12, every=2, histogram_every=2)
    assert trace.steps[trace.histogram.observations].tolist() == [0, 4, 8]


@pytest.mark.parametrize("anchors", [(0,), (0, 4)])
def test_directness_is_exact_from_each_anchor(anchors):
    model, optimizer = make()
    points = [nn.utils.parameters_to_vector(model.parameters()).detach().double()]
    tracer = Tracer(model, optimizer, anchors=anchors)
    for step in range(10):
        train(model, optimizer, 1, first=step)
        points.append(nn.utils.parameters_to_vector(model.parameters()).detach().double())
    trace = tracer.trace()
    for start in anchors:
        for stop in (start + 1, 8, 10):
            path = sum((points[i + 1] - points[i]).norm() for i in range(start, stop))
            wanted = ((points[stop] - points[start]).norm() / path).item()
            found = trace.window(start, stop).stability("directness")
            assert found == pytest.approx(wanted, rel=1e-7)  # float32 moves
    with pytest.raises(TraceError, match=f"step 2.*anchors at: {', '.join(map(str, anchors))}"):
        trace.window(2, 9).stability("directness")


def test_learning_rates_follow_groups_and_schedule():
    model, _ = make()
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[3].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    tracer = Tracer(model, optimizer)
    for step in range(4):
        train(model, optimizer, 1, first=step)
        schedule.step()
    trace = tracer.trace()
    assert trace.learning_rates[:, 0] == pytest.approx([0.1, 0.1, 0.05, 0.05])
    share = np.array([204, 39]) / 243
    assert trace.learning_rate()[0] == pytest.approx(share @ [0.1, 0.4])
    assert trace.layer("3").learning_rate()[2] == pytest.approx(0.2)


def test_frozen_and_foreign_tensors_are_left_out():
    model, _ = make()
    model[0].bias.requires_grad_(False)
    optimizer = torch.optim.SGD([model[0].weight, model[0].bias, model[3].weight], lr=0.1)
    with Tracer(model, optimizer) as tracer:
        train(model, optimizer, 2)
        model[3].weight.requires_grad_(False)
        train(model, optimizer, 3, first=2)
    trace = tracer.trace()
    assert trace.active.tolist() == [12 * INPUTS + 36] * 2 + [12 * INPUTS] * 3
    assert (trace.active + trace.inactive == sum(p.numel() for p in model.parameters())).all()
    assert not trace.tensor("0.bias").statistics[:, :, :DISPLACEMENT].any()
    assert trace.explainability("article")[-1] == 1 / (12 * INPUTS)
    rested = trace.tensor("3.weight").statistics[:, 0, DISPLACEMENT]
    assert rested[1] > 0
    assert (rested[2:] == rested[1]).all()
    assert np.isfinite(trace.score(0.5, "article"))


def test_a_parameter_may_join_the_optimizer_later():
    model, _ = make()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    tracer = Tracer(model, optimizer)
    train(model, optimizer, 2)
    before = model[3].weight.detach().clone()
    optimizer.add_param_group({"params": model[3].parameters()})
    train(model, optimizer, 2, first=2)
    moved = ((model[3].weight.detach() - before).double() ** 2).sum().item()
    displacement = tracer.trace().tensor("3.weight").statistics[:, 0, DISPLACEMENT]
    assert displacement[:2].tolist() == [0, 0]
    assert displacement[-1] == pytest.approx(moved)


def test_tied_weights_count_once():
    trace = trace_of(2, Tied)
    assert trace.tensors.count("first.weight") == 1
    assert "second.weight" not in trace.tensors
    assert trace.active[0] == sum(p.numel() for p in Tied().parameters())


def test_a_closure_is_followed():
    model, optimizer = make()
    tracer = Tracer(model, optimizer)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(2, INPUTS)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert tracer.trace().active.tolist() == [243]


def test_sparse_gradients_are_read():
    embedding = nn.Embedding(10, 4, sparse=True)
    optimizer = torch.optim.SGD(embedding.parameters(), lr=0.1)
    tracer = Tracer(embedding, optimizer, importance="gradient")
    embedding(torch.tensor([1, 1, 3])).sum().backward()
    optimizer.step()
    assert tracer.trace().statistics[0, 0, Statistic.C] == 12


@pytest.mark.parametrize("settings", [{}, {"every": 2, "histogram_every": 3, "anchors": (0, 8)}])
@pytest.mark.parametrize("stop", [0, 7, 10])
def test_a_resumed_training_has_the_same_trace(settings, stop):
    whole = trace_of(16, **settings)
    model, optimizer = make()
    tracer = Tracer(model, optimizer, **settings)
    train(model, optimizer, stop)
    file = io.BytesIO()
    random = torch.get_rng_state()
    torch.save([model.state_dict(), optimizer.state_dict(), tracer.state_dict(), random], file)
    file.seek(0)
    weights, state, traced, random = torch.load(file, weights_only=True)
    again, again_optimizer = make()
    again.load_state_dict(weights)
    again_optimizer.load_state_dict(state)
    resumed = Tracer(again, again_optimizer, **settings)
    resumed.load_state_dict(traced)
    torch.set_rng_state(random)
    train(again, again_optimizer, 16 - stop, first=stop)
    assert_same(resumed.trace(), whole)


def test_a_state_of_other_settings_is_refused():
    state = Tracer(*make()).state_dict()
    with pytest.raises(TraceError, match="saved with every 1; this tracer has 2"):
        Tracer(*make(), every=2).load_state_dict(state)


@pytest.mark.parametrize("histogram_every", [1, 7, 60])
def test_the_live_observation_is_the_traces_last(histogram_every):
    model, optimizer = make()
    seen = []
    tracer = Tracer(model, optimizer, histogram_every=histogram_every, on_observation=seen.append)
    assert tracer.latest is None
    train(model, optimizer, 63)
    trace = tracer.trace()
    assert [observation.step for observation in seen] == trace.steps.tolist()
    for alpha in (0.0, 0.3, 1.0):
        live = [observation.score(alpha) for observation in seen]
        np.testing.assert_allclose(live, trace.scores(alpha), rtol=1e-12)
        article = [observation.score(alpha, "article") for observation in seen]
        np.testing.assert_allclose(article, trace.scores(alpha, "article"), rtol=1e-12)
    assert seen[-1].score(0.3) == tracer.latest.score(0.3)
    with pytest.raises(TraceError, match="did you mean 'gini'"):
        seen[-1].score(explainability="ginni")


def test_what_is_recorded_reaches_back_as_far_as_scores_do():
    tracer = Tracer(*(made := make()), every=2, histogram_every=60)
    assert len(tracer.recorded()) == 0
    train(*made, 160)
    trace = tracer.trace()
    assert_same(tracer.recorded(), replace(trace, top=TopLists.none()))
    for step, first in ((158, 30), (119, 11), (118, 0), (1, 0), (400, 31)):
        part = tracer.recorded(step)
        assert part.steps.tolist() == trace.steps[first:].tolist()
        new = np.flatnonzero(trace.steps >= step)
        for alpha in (0.0, 0.3, 1.0):
            wanted = trace.scores(alpha)[new]
            np.testing.assert_allclose(part.scores(alpha)[new - first], wanted, rtol=1e-12)
    with pytest.raises(TraceError, match=r"step is 1\.5; it must be a whole number"):
        tracer.recorded(1.5)


def test_what_was_handed_out_stays():
    model, optimizer = make()
    tracer = Tracer(model, optimizer)
    train(model, optimizer, 5)
    early = tracer.trace()
    kept = {name: array.copy() for name, array in to_arrays(early).items()}
    train(model, optimizer, 40, first=5)
    for name, array in to_arrays(early).items():
        np.testing.assert_array_equal(array, kept[name])


def test_anchors_by_default_below_ten_million(monkeypatch):
    assert trace_of(1).anchors == (0,)
    monkeypatch.setattr("trace_core.anchors.EXACT_BELOW_ELEMENTS", 100)
    assert trace_of(1).anchors == ()


def test_a_step_without_any_gradient_is_recorded_as_nothing():
    model, optimizer = make()
    tracer = Tracer(model, optimizer)
    optimizer.step()
    train(model, optimizer, 10)
    trace = tracer.trace()
    assert trace.active[0] == 0
    assert trace.left_out("steadiness").tolist() == [1] + [0] * 10
    assert math.isnan(trace.change_rate("rms")[0])
    assert math.isfinite(trace.score())


def test_refusals():
    model, optimizer = make()
    other = mlp()
    with pytest.raises(TraceError, match="owns none of the model's parameters"):
        Tracer(other, optimizer)
    with pytest.raises(TraceError, match="no trainable parameters"):
        Tracer(nn.ReLU(), optimizer)
    with pytest.raises(TraceError, match=r"unknown importance 'tailor' \(did you mean 'taylor'"):
        Tracer(model, optimizer, importance="tailor")
    with pytest.raises(TraceError, match="every is 0"):
        Tracer(model, optimizer, every=0)
    with pytest.raises(TraceError, match=r"anchors has 3; .* multiple of every=2"):
        Tracer(model, optimizer, every=2, anchors=(0, 3))
    phases = nn.ParameterDict({"angle": nn.Parameter(torch.zeros(2, dtype=torch.complex64))})
    with pytest.raises(TraceError, match=r"'angle' is torch\.complex64"):
        Tracer(phases, torch.optim.SGD(phases.parameters(), lr=1))


def test_a_changed_parameter_is_named():
    model, optimizer = make()
    Tracer(model, optimizer)
    train(model, optimizer, 2)
    model.double()
    with pytest.raises(
        TraceError, match=r"'0\.weight' is .*float64 .* at step 2 and was .*float32"
    ):
        optimizer.step()
