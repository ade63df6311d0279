"""Phases on real trainings, plain and with a planted change, and on made-up traces."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import mlp
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.planted_runs import PLANTS, SCHEDULES, Run, train
from trace_core import Trace, Tracer
from trace_core.phases import Phase, phases


@dataclass
class Made:
    """What phases are read from, made up: the public methods of a `Trace`, and no more."""

    rate: np.ndarray
    eta: np.ndarray
    gini: np.ndarray
    every: int = 1

    @property
    def steps(self):
        return self.every * np.arange(len(self.rate))

    def __len__(self):
        return len(self.rate)

    def change_rate(self, kind):
        assert kind == "rms"
        return self.rate

    def learning_rate(self):
        return self.eta

    def explainability(self, kind):
        assert kind == "gini"
        return self.gini


def made(length=400, seed=0, eta=0.1, **of):
    """A steady training: r follows η, with noise on both series."""
    random = np.random.default_rng(seed)
    eta = np.broadcast_to(eta, length).astype(float)
    rate = eta * np.exp(0.1 * random.standard_normal(length))
    return Made(rate, eta.copy(), 0.6 + 0.01 * random.standard_normal(length), **of)


def starts(trace):
    return [phase.start for phase in phases(trace)[1:]]


def assert_covers(found, trace):
    assert found[0].start == trace.steps[0]
    assert not found[0].schedule
    assert found[-1].stop == trace.steps[-1] + 1
    assert all(a.stop == b.start for a, b in itertools.pairwise(found))
    assert all(phase.start < phase.stop for phase in found)


# ---- real trainings


def run(number, plant="", schedule=None, at=0.0):
    """One of a list of short trainings that between them have every architecture and optimiser."""
    architecture, task = [
        ("mlp", "digits"),
        ("cnn", "digits"),
        ("gru", "digits"),
        ("transformer", "wine"),
        ("mlp", "breast_cancer"),
    ][number % 5]
    optimiser, rate = [("momentum", 0.03), ("adam", 3e-3), ("sgd", 0.1), ("adamw", 3e-3)][
        number % 4
    ]
    steps = (300, 400, 500)[number % 3]
    return Run(
        task=task,
        architecture=architecture,
        settings={"mlp": (("hidden", 32),), "transformer": (("width", 16), ("depth", 1))}.get(
            architecture, ()
        ),
        initialisation="default",
        optimiser=optimiser,
        learning_rate=rate,
        schedule=schedule or SCHEDULES[number % len(SCHEDULES)],
        batch=32,
        steps=steps,
        every=1,
        histogram_every=(1, 4)[number % 2],
        seed=1000 + number,
        plant=plant,
        at=int((at or 0.35 + 0.03 * number) * steps),
    )


@pytest.mark.slow
def test_planted_changes_are_found_where_they_are():
    """A sample: the evidence is what benchmarks/phase_penalty.py measures."""
    found = {}
    for number, plant in enumerate([*PLANTS, "labels"]):
        planted = run(number, plant)
        near = [abs(at - planted.at) <= 0.05 * planted.steps for at in starts(train(planted))]
        found[number, plant] = any(near)
    assert sum(found.values()) >= 9, found


@pytest.mark.slow
def test_plain_trainings_have_less_than_one_false_alarm():
    alarms = [len(starts(train(run(number)))) for number in range(12)]
    assert np.mean(alarms) <= 1, alarms


def test_layers_have_phases_of_their_own():
    trace = train(run(0, "labels", at=0.5))
    for layer in (trace, *trace.by_layer().values()):
        found = phases(layer)
        assert_covers(found, layer)
        assert min(abs(phase.start - 150) for phase in found) <= 15


def labels_change(c=1.0, steps=300, views=()):
    """The trace of an MLP whose labels change at step 150, at c times the learning rate on a loss
    divided by c, and those of other ``views`` of its parameters.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2 * c)
    tracers = [Tracer(view, optimizer) for view in (model, *(view(model) for view in views))]
    weights = torch.randn(16, 3)
    for step in range(steps):
        x = torch.randn(32, 16)
        y = ((x @ weights).argmax(1) + (step >= 150)) % 3
        optimizer.zero_grad()
        (cross_entropy(model(x), y) / c).backward()
        optimizer.step()
    return [tracer.trace() for tracer in tracers]


def test_the_scale_of_the_learning_rate_changes_nothing():
    # Powers of two leave the training as it is, to the last bit.
    wanted = phases(labels_change()[0])
    assert len(wanted) > 1
    for c in (2.0**-10, 8.0):
        assert phases(labels_change(c)[0]) == wanted


class Shuffled(nn.Module):
    """The same parameters in another order, under other names."""

    def __init__(self, model):
        super().__init__()
        for place, parameter in enumerate(reversed(list(model.parameters()))):
            self.register_parameter(f"p{place}", parameter)


def test_the_order_of_the_tensors_changes_nothing():
    trace, shuffled = labels_change(views=(Shuffled,))
    assert trace.sizes.tolist() == shuffled.sizes.tolist()[::-1]
    assert phases(trace) == phases(shuffled)
    assert len(phases(trace)) > 1


def test_a_stored_trace_has_the_same_phases(tmp_path):
    (trace,) = labels_change()
    trace.save(tmp_path / "t.npz")
    assert phases(Trace.load(tmp_path / "t.npz")) == phases(trace)


def test_a_training_that_diverges_has_phases_until_then():
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracer = Tracer(model, optimizer)
    for step in range(120):
        if step == 100:
            with torch.no_grad():
                model[3].weight[0, 0] = torch.inf
        optimizer.zero_grad()
        model(torch.randn(8, 16)).square().mean().backward()
        optimizer.step()
    trace = tracer.trace()
    assert not np.isfinite(trace.change_rate("rms")[100:]).any()
    assert_covers(phases(trace), trace)


# ---- made-up traces


def test_one_phase_when_nothing_changes():
    assert phases(made()) == (Phase(0, 400, schedule=False),)
    assert phases(made(every=5)) == (Phase(0, 399 * 5 + 1, schedule=False),)


@pytest.mark.parametrize("of", ["rate", "gini"])
def test_a_change_of_either_series_begins_a_phase(of):
    trace = made(every=3)
    getattr(trace, of)[240:] *= 1.5
    found = phases(trace)
    assert_covers(found, trace)
    assert [phase.schedule for phase in found] == [False, False]
    assert abs(found[1].start - 720) <= 0.02 * 1200


def stepped(length=400, at=240, factor=0.1, seed=0):
    """The learning rate falls at once, the change rate doesn't."""
    trace = made(length, seed)
    trace.eta[at:] *= factor
    return trace


@pytest.mark.parametrize("factor", [0.1, 0.5, 4.0])
def test_a_bare_learning_rate_step_is_tagged(factor):
    for seed in range(5):
        found = phases(stepped(factor=factor, seed=seed))
        assert len(found) == 2
        assert abs(found[1].start - 240) <= 20
        assert found[1].schedule


def test_a_change_far_from_a_learning_rate_step_is_not_tagged():
    trace = stepped()
    trace.gini[120:] += 0.05
    assert [phase.schedule for phase in phases(trace)] == [False, False, True]
    trace.rate[240:] *= 0.1
    assert [phase.schedule for phase in phases(trace)] == [False, False]


def test_what_lies_within_five_percent_of_a_step_is_tagged_and_not_erased():
    for shift, tagged in ((-16, True), (16, True), (-28, False), (28, False)):
        trace = made()
        trace.eta[240:] *= 0.1
        trace.rate[240:] *= 0.1
        trace.gini[240 + shift :] += 0.1
        (change,) = phases(trace)[1:]
        assert abs(change.start - 240 - shift) <= 4
        assert change.schedule == tagged


def ramp(length):
    return np.minimum(1, np.arange(1, length + 1) / (0.1 * length))


@pytest.mark.parametrize(
    ("shape", "steps"),
    [
        (lambda n: np.ones(n), False),
        (lambda n: (1 + np.cos(np.pi * np.arange(n) / n)) / 2, False),
        (lambda n: (1 + np.cos(np.pi * np.arange(n) / (n - 1))) / 2, False),
        (ramp, False),
        (lambda n: ramp(n) * ramp(n)[::-1], False),
        (lambda n: np.arange(1, n + 1) ** -0.5, False),
        (lambda n: 0.99 ** np.arange(n), False),
        (lambda n: 0.95 ** (np.arange(n) // 10), False),
        (lambda n: 0.1 ** (np.arange(n) // (n // 3)), True),
        (lambda n: 0.5 ** (np.arange(n) // 20), True),
        (lambda n: (1 + np.cos(np.pi * (np.arange(n) % 50) / 50)) / 2, True),
    ],
)
def test_only_abrupt_schedules_have_steps(shape, steps):
    """A change is planted everywhere; where there is no step, none is tagged."""
    tagged = []
    for at in range(40, 400, 40):
        trace = made(eta=0.1 * shape(400), seed=at)
        trace.gini[at:] += 0.1
        tagged += [phase.schedule for phase in phases(trace)]
    assert any(tagged) == steps


def test_observations_where_nothing_moves_are_passed_over():
    trace = made()
    trace.rate[200:] *= 3
    wanted = phases(trace)
    assert len(wanted) == 2
    trace.rate[::7] = 0.0
    trace.eta[3::7] = 0.0
    trace.rate[5::70], trace.eta[6::70] = math.inf, math.nan
    assert len(phases(trace)) == 2
    assert abs(phases(trace)[1].start - wanted[1].start) <= 4


def test_the_gini_index_may_be_rare_or_missing():
    trace = made(1000)
    trace.gini[500:] += 0.1
    rare = np.where(np.arange(1000) % 32 == 0, trace.gini, np.nan)
    assert abs(starts(replace(trace, gini=rare))[0] - 500) <= 32
    never = replace(trace, gini=np.full(1000, np.nan))
    assert not starts(never)
    never.rate[300:] *= 2
    assert abs(starts(never)[0] - 300) <= 20


@pytest.mark.parametrize("length", [1, 2, 5, 23])
def test_a_short_trace_is_one_phase(length):
    trace = made(length)
    trace.gini[length // 2 :] += 0.3
    assert phases(trace) == (Phase(0, length, schedule=False),)


def test_no_observations_have_no_phases():
    assert phases(made(0)) == ()


VALUES = st.sampled_from([0.0, 1.0, 0.1, math.nan, math.inf, 1e-300, 1e300, -math.inf])


@given(
    st.integers(1, 260),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 259), st.integers(1, 260), VALUES)),
)
def test_no_trace_is_too_odd(length, odd):
    trace = made(length)
    for which, start, count, value in odd:
        (trace.rate, trace.eta, trace.gini)[which][start : start + count] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_covers(phases(trace), trace)


def test_a_long_trace_takes_seconds_at_most():
    trace = made(20_000)
    trace.rate[12_000:] *= 1.5
    phases(made(100))
    began = time.perf_counter()
    found = phases(trace)
    assert time.perf_counter() - began < 2
    assert abs(found[1].start - 12_000) <= 400
