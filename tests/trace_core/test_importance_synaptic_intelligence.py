"""Synaptic intelligence against a loop in numpy, and the fall of the loss that it adds up to."""

import io
import math

import numpy as np
import pytest
import torch
from probed_models import assert_close, assert_equal

from trace_core import TraceError
from trace_core.importance import SynapticIntelligence

SHAPES = {"a.weight": (3, 4), "a.bias": (3,), "b": ()}


def path(steps, dtype=torch.float64, names=tuple(SHAPES)):
    """(before, after, gradients) of a random walk."""
    g = torch.Generator().manual_seed(0)

    def draw():
        return {n: torch.randn(SHAPES[n], generator=g, dtype=torch.float64) for n in names}

    theta, found = draw(), []
    for _ in range(steps):
        delta, gradient = draw(), draw()
        after = {name: theta[name] + 0.1 * delta[name] for name in names}
        found.append(
            tuple({n: t.to(dtype) for n, t in d.items()} for d in (theta, after, gradient))
        )
        theta = after
    return found


def follow(steps, xi=1e-3, scale=1.0):
    seen = SynapticIntelligence(xi)
    seen.restart(steps[0][0])
    for before, after, gradients in steps:
        seen.update(before, after, gradients, scale)
    return seen


def by_hand(steps, xi, scale=1.0):
    found = {}
    for name in steps[0][2]:
        omega = np.zeros(SHAPES[name])
        for before, after, gradients in steps:
            delta = after[name].double().numpy() - before[name].double().numpy()
            omega = omega - scale * gradients[name].double().numpy() * delta
        moved = steps[-1][1][name].double().numpy() - steps[0][0][name].double().numpy()
        found[name] = np.abs(omega) / (moved**2 + xi)
    return found


@pytest.mark.parametrize("xi", [1e-3, 0.1])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_by_hand(xi, scale):
    steps = path(25)
    found = follow(steps, xi, scale).values(steps[-1][1])
    assert_close(found, by_hand(steps, xi, scale), rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_short_floats_are_summed_in_single_precision(dtype):
    steps = path(25, dtype)
    found = follow(steps).values(steps[-1][1])
    assert {c.dtype for c in found.values()} == {torch.float32}
    assert_close(found, by_hand(steps, 1e-3), rtol=2e-4)


def descend(rate, steps):
    """Gradient descent on ½ θᵀAθ: (fall of the loss, what the path integral sums to)."""
    g = torch.Generator().manual_seed(1)
    root = torch.randn(6, 6, generator=g, dtype=torch.float64)
    curvature = root @ root.T / 6
    theta = torch.randn(6, generator=g, dtype=torch.float64)
    start, seen = theta, SynapticIntelligence()
    seen.restart({"theta": theta})
    for _ in range(steps):
        gradient = curvature @ theta
        after = theta - rate * gradient
        seen.update({"theta": theta}, {"theta": after}, {"theta": gradient})
        theta = after
    fall = (start @ curvature @ start - theta @ curvature @ theta).item() / 2
    return fall, seen.path_integral()["theta"].sum().item()


def test_the_path_integral_sums_to_the_fall_of_the_loss():
    errors = []
    for rate, steps in ((1e-2, 100), (5e-3, 200), (2.5e-3, 400)):
        fall, total = descend(rate, steps)
        assert total > fall > 0.1
        errors.append(total / fall - 1)
    assert errors[-1] < 5e-3
    # A sum over left ends errs in proportion to the step.
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


def test_every_second_step_scaled_by_two_estimates_the_whole():
    g = torch.Generator().manual_seed(1)
    theta, rate = torch.randn(6, generator=g, dtype=torch.float64), 1e-3
    whole, half = SynapticIntelligence(), SynapticIntelligence()
    for step in range(200):
        after = theta - rate * theta
        for seen, scale in ((whole, 1.0), (half, 2.0)):
            if seen is whole or step % 2 == 0:
                seen.update({"t": theta}, {"t": after}, {"t": theta}, scale)
        theta = after
    assert_close(half.path_integral(), {"t": whole.path_integral()["t"].numpy()}, rtol=2e-3)


def test_a_restart_forgets_what_was_before():
    steps = path(20)
    seen = follow(steps[:10])
    seen.restart(steps[10][0])
    assert not any(omega.any() for omega in seen.path_integral().values())
    for step in steps[10:]:
        seen.update(*step)
    assert_close(seen.values(steps[-1][1]), by_hand(steps[10:], 1e-3), rtol=1e-10)
    seen.restart({"b": steps[0][0]["b"]})
    assert list(seen.path_integral()) == ["b"]


def test_a_parameter_that_comes_later_has_stood_still_until_then():
    steps = path(12)
    seen = SynapticIntelligence()
    seen.restart({"b": steps[0][0]["b"]})
    for step, (before, after, gradients) in enumerate(steps):
        names = ("b",) if step < 7 else ("b", "a.weight")
        seen.update(before, after, {name: gradients[name] for name in names})
    wanted = {"b": by_hand(steps, 1e-3)["b"], "a.weight": by_hand(steps[7:], 1e-3)["a.weight"]}
    last = {name: steps[-1][1][name] for name in wanted}
    assert_close(seen.values(last), wanted, rtol=1e-10)


def test_one_without_a_gradient_keeps_its_sum():
    steps = path(3)
    seen = follow(steps[:2])
    kept = seen.path_integral()["b"]
    before, after, gradients = steps[2]
    del gradients["b"]
    seen.update(before, after, gradients)
    assert torch.equal(seen.path_integral()["b"], kept)


def test_one_never_updated_has_none():
    found = SynapticIntelligence().values({"a": torch.ones(3), "n": torch.zeros(0, 2)})
    assert found["a"].tolist() == [0, 0, 0]
    assert found["n"].shape == (0, 2)
    assert SynapticIntelligence().values({}) == {}


def test_sparse_gradients_are_read():
    steps = path(4, names=("a.weight",))
    wanted = by_hand(steps, 1e-3)
    sparse = [(b, a, {n: t.to_sparse() for n, t in g.items()}) for b, a, g in steps]
    assert_close(follow(sparse).values(steps[-1][1]), wanted, rtol=1e-10)


def test_nothing_given_is_written_to_or_kept():
    steps = path(5)
    before = [[{n: t.clone() for n, t in d.items()} for d in step] for step in steps]
    seen = follow(steps)
    wanted = seen.values(steps[-1][1])
    assert_equal([list(step) for step in steps], before, "inputs")
    for step in steps[:-1]:
        for tensors in step:
            for tensor in tensors.values():
                tensor.fill_(math.nan)
    seen.values(steps[-1][1])["b"].fill_(-1)
    seen.path_integral()["b"].fill_(-1)
    assert_equal(seen.values(steps[-1][1]), wanted, "values")


def test_parameters_that_train_are_followed_without_a_graph():
    model = torch.nn.Linear(2, 1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    seen = SynapticIntelligence()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(3, 2)).square().mean().backward()
    optimizer.step()
    named = dict(model.named_parameters())
    seen.update(before, named, {name: p.grad for name, p in named.items()})
    for name, c in seen.values(named).items():
        assert not c.requires_grad
        wanted = 0.1 * named[name].grad ** 2
        torch.testing.assert_close(seen.path_integral()[name], wanted)


def test_a_state_goes_on_bitwise():
    steps = path(20)
    whole = follow(steps)
    half = follow(steps[:9])
    file = io.BytesIO()
    torch.save(half.state_dict(), file)
    file.seek(0)
    resumed = SynapticIntelligence()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for step in steps[9:]:
        resumed.update(*step)
        half.update(*step)  # a state is a copy: going on changes no other
    assert_equal(resumed.values(steps[-1][1]), whole.values(steps[-1][1]), "values")
    assert_equal(resumed.state_dict(), whole.state_dict(), "state")


def test_bad_input_is_told():
    for xi in (0, -1.0, math.nan, math.inf):
        with pytest.raises(TraceError, match=r"xi is .*; it must be a positive number"):
            SynapticIntelligence(xi)
    seen = SynapticIntelligence()
    with pytest.raises(TraceError, match="not the state of synaptic intelligence"):
        seen.load_state_dict({"omega": {}})
    with pytest.raises(TraceError, match=r"saved with xi 0.1; here it is 0.001"):
        seen.load_state_dict(SynapticIntelligence(0.1).state_dict())
    seen.restart({"a": torch.zeros(3)})
    with pytest.raises(TraceError, match=r"'a' has shape \(2,\) and had \(3,\) at the anchor"):
        seen.update({"a": torch.zeros(2)}, {"a": torch.zeros(2)}, {"a": torch.zeros(2)})
