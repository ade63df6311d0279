"""Odd but honest use: what optimisers and loops do to parameters, and states of other models."""

import math

import numpy as np
import pytest
import torch
from observing import PASSES, gini, passes
from small_models import INPUTS, mlp, train
from torch import nn

from trace_core import TraceError, Tracer
from trace_core.importance import Probe
from trace_core.statistics import DISPLACEMENT, Statistic


class Stepper(torch.optim.Optimizer):
    """Calls ``move`` on each parameter."""

    def __init__(self, parameters, move, lr=0.1):
        super().__init__(parameters, {"lr": lr})
        self.move = move

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                self.move(parameter)


def descend(parameter):
    parameter.data.add_(parameter.grad, alpha=-0.1)


def one_matrix():
    torch.manual_seed(0)
    model = nn.Linear(8, 6, bias=False)
    return model, model.weight


def backward(model, dtype=torch.float32):
    model.zero_grad()
    model(torch.ones(2, 8, dtype=dtype)).square().mean().backward()


@pytest.mark.parametrize("every", [1, 2])
def test_a_step_made_of_the_base_classes_step_is_one_step(every):
    torch.optim.SGD(mlp().parameters(), lr=0.1)  # from here on PyTorch hooks the base class too

    class Decayed(torch.optim.SGD):
        def step(self, closure=None):
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    parameter.mul_(0.9)
            super().step(closure)

    torch.manual_seed(0)
    model = mlp()
    optimizer = Decayed(model.parameters(), lr=0.1)
    tracer = Tracer(model, optimizer, every=every)
    moved = []
    for step in range(6):
        before = nn.utils.parameters_to_vector(model.parameters()).detach().double()
        if step == 3:  # a step that fails is none
            with pytest.raises(RuntimeError, match="no loss"):
                optimizer.step(fail)
        train(model, optimizer, 1, first=step)
        after = nn.utils.parameters_to_vector(model.parameters()).detach().double()
        moved.append((after - before * (0.9 if step == 3 else 1)).square().sum().item())
    trace = tracer.trace()
    assert trace.steps.tolist() == list(range(0, 6, every))
    np.testing.assert_allclose(
        trace.statistics[:, :, Statistic.SQ_DELTA].sum(axis=1), moved[::every], rtol=1e-4
    )


def fail():
    raise RuntimeError("no loss")


@pytest.mark.parametrize("way", PASSES)
def test_a_parameter_named_twice_in_a_group_counts_once(way):
    model, weight = one_matrix()
    with pytest.warns(UserWarning, match="duplicate"):
        optimizer = torch.optim.SGD([weight, weight], lr=0.1)
    with passes(way):
        tracer = Tracer(model, optimizer, importance="magnitude")
        before = weight.detach().double().abs().numpy().ravel()
        backward(model)
        optimizer.step()
    trace = tracer.trace()
    assert trace.histogram.counts.sum() == trace.active[0] == 48
    assert trace.explainability()[0] == pytest.approx(gini(before), rel=1e-5)


def test_an_optimizer_may_have_no_learning_rate():
    model, weight = one_matrix()
    optimizer = Stepper([weight], descend, lr=None)
    tracer = Tracer(model, optimizer)
    backward(model)
    optimizer.step()
    assert math.isnan(tracer.trace().learning_rates[0, 0])


def test_a_learning_rate_may_be_learned():
    model, weight = one_matrix()
    rate = torch.tensor(0.25, requires_grad=True)
    optimizer = Stepper([weight], descend, lr=rate)
    tracer = Tracer(model, optimizer)
    backward(model)
    optimizer.step()
    assert tracer.trace().learning_rates.tolist() == [[0.25]]


def turn(parameter):
    parameter.data = parameter.data.t().contiguous().t()


def shorten(parameter):
    parameter.data = parameter.data[:2]


def narrow(parameter):
    parameter.data = parameter.data.half()


@pytest.mark.parametrize("way", PASSES)
@pytest.mark.parametrize("change", [turn, shorten, narrow])
@pytest.mark.parametrize("at", [0, 2])
def test_a_step_that_changes_a_parameters_form_is_refused(way, change, at):
    model, weight = one_matrix()
    optimizer = Stepper([weight], descend)
    with passes(way):
        tracer = Tracer(model, optimizer)
        for _ in range(at):
            backward(model)
            optimizer.step()
        backward(model)
        optimizer.move = change
        with pytest.raises(TraceError, match=rf"'weight' is .* at step {at} and was \(6, 8\)"):
            optimizer.step()
        assert len(tracer.trace()) == at


@pytest.mark.parametrize("every", [1, 2])
def test_a_parameter_cut_short_in_its_place_is_refused(every):
    model, weight = one_matrix()
    optimizer = torch.optim.SGD([weight], lr=0.1)
    Tracer(model, optimizer, every=every)
    for _ in range(2 * every):
        backward(model)
        optimizer.step()
    weight.grad = None
    shorten(weight)  # the address is the same
    backward(model)
    with pytest.raises(TraceError, match=r"'weight' is \(2, 8\)"):
        optimizer.step()


def test_a_state_of_another_dtype_is_refused_and_changes_nothing():
    model, weight = one_matrix()
    optimizer = torch.optim.SGD([weight], lr=0.1)
    tracer = Tracer(model, optimizer)
    backward(model)
    optimizer.step()
    state = tracer.state_dict()
    tracer.close()
    model.double()
    other = Tracer(model, optimizer)
    with pytest.raises(TraceError, match=r"'weight' of dtype torch.float32; it has torch.float64"):
        other.load_state_dict(state)
    assert len(other.trace()) == 0
    backward(model, torch.float64)
    optimizer.step()
    assert other.trace().steps.tolist() == [0]


def test_a_state_fits_another_memory_layout():
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 3)
    start = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        model(torch.ones(1, 3, 5, 5)).square().mean().backward()
        optimizer.step()

    tracer = Tracer(model, optimizer)
    step()
    state = tracer.state_dict()
    tracer.close()
    model.to(memory_format=torch.channels_last)
    resumed = Tracer(model, optimizer)
    resumed.load_state_dict(state)
    step()
    assert resumed.trace().statistics[-1, 0, DISPLACEMENT] == pytest.approx(
        (model.weight - start).square().sum().item(), rel=1e-5
    )


def test_a_damaged_state_is_refused_and_changes_nothing():
    model, weight = one_matrix()
    optimizer = torch.optim.SGD([weight], lr=0.1)
    tracer = Tracer(model, optimizer)
    backward(model)
    optimizer.step()
    state = tracer.state_dict()
    backward(model)
    optimizer.step()
    for arrays in ({}, {**state["arrays"], "steps": torch.tensor([-3])}):
        with pytest.raises(TraceError, match=r"the state is damaged \(.*steps"):
            tracer.load_state_dict({**state, "arrays": arrays})
    assert tracer.trace().steps.tolist() == [0, 1]


@pytest.mark.parametrize("given", [None, nn.Linear(2, 2), [None], "adam"])
def test_what_is_no_optimizer_is_named(given):
    with pytest.raises(TraceError, match=r"optimizer has a \w+; give a torch.optim.Optimizer"):
        Tracer(mlp(), given)


@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("second_rests", [False, True])
def test_rounds_between_observations_are_not_observed(every, second_rests):
    torch.manual_seed(0)
    model = mlp()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(model[3].parameters(), lr=0.1)
    tracer = Tracer(model, [first, second], every=every, anchors=(0, every))
    moved = []
    for step in range(9):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        second.zero_grad()
        train(model, first, 1, first=step)
        if not (second_rests and step % 4 == 3):
            second.step()
        pairs = zip(model.parameters(), before, strict=True)
        moved.append([(now - then).double().square().sum().item() for now, then in pairs])
    trace = tracer.trace()
    assert trace.steps.tolist() == list(range(0, 9, every))
    np.testing.assert_allclose(trace.statistics[..., Statistic.SQ_DELTA], moved[::every], rtol=1e-4)


@pytest.mark.parametrize("way", PASSES)
def test_an_optimizer_may_rest_at_an_anchor(way):
    torch.manual_seed(0)
    model = mlp()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(model[3].parameters(), lr=0.1)
    start = model[3].weight.detach().clone()
    with passes(way):
        tracer = Tracer(model, [first, second], anchors=(0, 3))
        for step in range(6):
            second.zero_grad()
            if step == 3:
                there = model[3].weight.detach().clone()
            train(model, first, 1, first=step)
            if step != 3:
                second.step()
    row = tracer.trace().tensor("3.weight").statistics[-1, 0, DISPLACEMENT:]
    wanted = [(model[3].weight - place).square().sum().item() for place in (start, there)]
    np.testing.assert_allclose(row, wanted, rtol=1e-5)


def test_what_a_probe_left_out_has_no_importance():
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.randn(8, INPUTS), torch.arange(8) % 3
    probe = Probe(batch, lambda outputs, samples: nn.functional.cross_entropy(outputs, samples[1]))
    tracer = Tracer(model, optimizer, importance="fisher", probe=probe, histogram_every=2)
    train(model, optimizer, 2)
    model(batch[0]).square().sum().backward()
    model[3].bias.requires_grad_(False)  # its gradient is still there, and so it moves
    optimizer.step()
    rows = tracer.trace().tensor("3.bias").statistics[:, 0]
    assert rows[2, Statistic.COUNT] == 3
    masses = rows[:, Statistic.C]
    assert masses[0] > 0
    assert np.isnan(masses[1])
    assert masses[2] == 0
