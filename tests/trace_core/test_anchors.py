"""What is kept at anchors: sketches that know distances, and lists of single parameters."""

import itertools
import math

import numpy as np
import pytest
import torch
from observing import PASSES, passes
from small_models import INPUTS, mlp, train
from torch import nn

from trace_core import Trace, TraceError, Tracer
from trace_core.sketch import sketch, width
from trace_core.statistics import DISPLACEMENT


def large():
    return nn.Sequential(nn.Linear(1000, 1000), nn.Tanh(), nn.Linear(1000, 10))


def train_large(model, optimizer, steps):
    stream = torch.Generator().manual_seed(3)
    for _ in range(steps):
        x = torch.randn(16, 1000, generator=stream)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), torch.arange(16) % 10).backward()
        optimizer.step()


def vector(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().double()


@pytest.mark.parametrize("structure", ["random", "one_column", "low_rank", "sparse"])
def test_a_sketch_knows_lengths(structure):
    rng = np.random.default_rng(0)
    shape = (1024, 1024)
    values = {
        "random": rng.normal(size=shape),
        "one_column": np.where(np.arange(1024) == 5, rng.normal(size=(1024, 1)), 0),
        "low_rank": np.outer(rng.normal(size=1024), rng.normal(size=1024)),
        "sparse": rng.normal(size=shape) * (rng.random(shape) < 0.01),
    }[structure].ravel()
    counters = width(values.size)
    errors = [
        (sketch(values, position) ** 2).sum() / (values**2).sum() - 1 for position in range(40)
    ]
    expected = math.sqrt(2 / min(counters, np.count_nonzero(values)))
    assert np.abs(np.mean(errors)) < 3.5 * expected / math.sqrt(40)
    assert np.std(errors) < 2 * expected


def test_a_sketch_is_linear_and_depends_on_nothing_but_the_position():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 70_001))
    for position in (0, 7):
        np.testing.assert_allclose(
            sketch(a, position) - sketch(b, position), sketch(a - b, position), atol=1e-9
        )
        np.testing.assert_array_equal(sketch(a, position), sketch(a, position))
    assert not np.array_equal(sketch(a, 0), sketch(a, 1))
    assert (sketch(a[:1000], 3) == a[:1000]).all()


def test_widths_are_small_and_prime():
    for size in (1024, 65_536, 1_000_000, 10_000_019):
        counters = width(size)
        assert all(counters % d for d in range(2, math.isqrt(counters) + 1))
        assert size / 256 - 1 <= counters <= max(1031, size / 256 * 1.02)
    assert [width(n) for n in (0, 1, 1023)] == [0, 1, 1023]


@pytest.mark.parametrize("every", [1, 2])
def test_sketched_directness_is_within_three_percent(every, tmp_path):
    torch.manual_seed(0)
    model = large()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    anchors = (0, 8, 16)
    sketched = Tracer(model, optimizer, every=every, anchors=anchors, exact_directness=False)
    exact = Tracer(model, optimizer, every=every, anchors=anchors, exact_directness=True)
    places = {0: vector(model)}
    for step in (8, 16, 24):
        train_large(model, optimizer, 8)
        places[step] = vector(model)
    sketched.trace().save(tmp_path / "t.npz")
    for trace in (sketched.trace(), Trace.load(tmp_path / "t.npz")):
        assert trace.anchors == ()
        assert trace.sketch_steps.tolist() == [0, 8, 16, 24]
        for start, stop in ((0, 8), (0, 16), (8, 24), (0, 24), (16, 24)):
            window = trace.window(start, stop)
            path = every * np.sqrt(window.statistics[:, :, 4].sum(axis=1)).sum()
            wanted = min(1.0, (places[stop] - places[start]).norm().item() / path)
            assert window.stability("directness") == pytest.approx(wanted, rel=0.03)
        layer = trace.window(0, 16).layer("0").stability("directness")
        whole = exact.trace().window(0, 16).layer("0")
        assert layer == pytest.approx(whole.stability("directness"), rel=0.05 * every)
    with pytest.raises(TraceError, match=r"from step 0 to [45]; .*0 \(sketched\), 8 \(sketched\)"):
        sketched.trace().window(0, 6).stability("directness")


def test_sketches_take_under_a_hundredth():
    model = large()
    tracer = Tracer(model, torch.optim.SGD(model.parameters(), lr=0.1), exact_directness=False)
    train_large(model, torch.optim.SGD(model.parameters(), lr=0.1), 1)
    tracer._anchors.reach(0, {})
    kept = tracer._anchors._sketches.rows.nbytes
    assert 0 < kept < 0.01 * 4 * sum(p.numel() for p in model.parameters())


def test_a_trace_keeps_its_sketches_while_the_training_goes_on():
    torch.manual_seed(0)
    model = large()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with Tracer(model, optimizer, anchors=(0, 4), exact_directness=False) as tracer:
        kept = []
        for _ in range(3):
            train_large(model, optimizer, 3)
            trace = tracer.trace()
            kept.append((trace, trace.sketch_steps.copy(), trace.sketches.copy()))
    kept.append((trace := tracer.trace(), trace.sketch_steps.copy(), trace.sketches.copy()))
    assert [steps.tolist() for _, steps, _ in kept] == [[0, 3], [0, 4, 6], [0, 4, 9], [0, 4, 9]]
    for trace, steps, rows in kept:
        np.testing.assert_array_equal(trace.sketch_steps, steps)
        np.testing.assert_array_equal(trace.sketches, rows)
    np.testing.assert_array_equal(kept[1][2][:2], kept[3][2][:2])


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("every", [1, 2])
def test_an_anchor_in_a_round_in_which_an_optimizer_rests(every, name):
    torch.manual_seed(0)
    model = mlp().eval()
    often, seldom = (torch.optim.SGD(model[layer].parameters(), lr=0.1) for layer in (0, 3))
    places = []
    settings = {"every": every, "anchors": (0, 4), "importance": "synaptic_intelligence"}
    with passes(name), Tracer(model, [often, seldom], **settings) as tracer:
        for step in range(8):
            places.append([p.detach().double() for p in model.parameters()])
            model.zero_grad()
            nn.functional.cross_entropy(model(torch.eye(INPUTS)), torch.arange(16) % 3).backward()
            often.step()
            if step != 4:
                seldom.step()
        path = tracer.state_dict()["source"]["origins"]
    places.append([p.detach().double() for p in model.parameters()])
    trace = tracer.trace()
    for row in np.flatnonzero(trace.steps >= 4):
        moved = zip(places[4], places[trace.steps[row] + 1], strict=True)
        wanted = [float((b - a).square().sum()) for a, b in moved]
        np.testing.assert_allclose(trace.statistics[row, :, -1], wanted, rtol=1e-5)
    for tensor, wanted in zip(trace.tensors, places[4], strict=True):
        assert torch.equal(path[tensor].double(), wanted)


@pytest.mark.parametrize("several", [False, True])
def test_what_moved_at_unobserved_steps_alone_is_displaced(several):
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])
    if several:
        optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in model]
    else:
        optimizers = [torch.optim.SGD(model.parameters(), lr=0.1)]
    tracer = Tracer(model, optimizers, every=2)
    origin = [p.detach().double() for p in model.parameters()]
    origin = [tensor.clone() for tensor in origin]
    moved = []
    for step in range(7):
        for optimizer in optimizers:
            optimizer.zero_grad()
        # The second layer learns at the first step and at the odd ones, which are not observed.
        for part in model if step % 2 or not step else model[:1]:
            part(torch.randn(8, 4)).square().mean().backward()
        for optimizer in optimizers[: 2 if step % 2 or not step else 1]:
            optimizer.step()
        if step % 2 == 0:
            now = [p.detach().double() for p in model.parameters()]
            moved.append([((a - b) ** 2).sum().item() for a, b in zip(now, origin, strict=True)])
    trace = tracer.trace()
    found = trace.statistics[:, :, DISPLACEMENT]
    assert trace.steps.tolist() == [0, 2, 4, 6][: len(found)]
    assert len(found) >= 3
    np.testing.assert_allclose(found, moved[: len(found)], rtol=1e-6)


def test_lists_of_single_parameters():
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    tracer = Tracer(model, optimizer, anchors=(0, 6))
    places, gradients = {0: [p.detach().clone() for p in model.parameters()]}, {}
    for step in range(10):
        train(model, optimizer, 1, first=step)
        places[step + 1] = [p.detach().clone() for p in model.parameters()]
        gradients[step] = [p.grad.clone() for p in model.parameters()]
    trace = tracer.trace()
    names = trace.tensors
    for start, stop in ((0, 6), (6, 10)):
        moved = {
            (name, i): abs(float(b) - float(a))
            for name, old, new in zip(names, places[start], places[stop], strict=True)
            for i, (a, b) in enumerate(zip(old.flatten(), new.flatten(), strict=True))
        }
        found = [e for e in trace.top_elements("moved") if e.start == start]
        wanted = sorted(moved.items(), key=lambda item: -item[1])[:10]
        assert [e.stop for e in found] == [stop] * 10
        assert [(e.tensor, e.element) for e in found] == [place for place, _ in wanted]
        assert [e.value for e in found] == pytest.approx([value for _, value in wanted])
    for step in (0, 6):
        c = {
            (name, i): abs(float(a) * float(g))
            for name, old, gradient in zip(names, places[step], gradients[step], strict=True)
            for i, (a, g) in enumerate(zip(old.flatten(), gradient.flatten(), strict=True))
        }
        wanted = sorted(c.items(), key=lambda item: -item[1])[:10]
        found = [e for e in trace.top_elements("important") if e.start == step]
        assert [(e.tensor, e.element) for e in found] == [place for place, _ in wanted]
        shares = [value / sum(c.values()) for _, value in wanted]
        assert [e.value for e in found] == pytest.approx(shares)
    inside = trace.layer("3").top_elements("moved")
    assert inside == [e for e in trace.top_elements("moved") if e.tensor.startswith("3.")]
    closed = tracer.trace()
    tracer.close()
    train(model, optimizer, 3, first=10)
    assert tracer.trace().top_elements("moved") == closed.top_elements("moved")
    with pytest.raises(TraceError, match="did you mean 'moved'"):
        trace.top_elements("move")


def test_tensors_that_moved_and_mattered_most():
    torch.manual_seed(0)
    model = mlp()
    groups = [{"params": model[0].parameters(), "lr": 0.001}, {"params": model[3].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.5)
    tracer = Tracer(model, optimizer)
    train(model, optimizer, 12)
    trace = tracer.trace()
    movers = trace.top_movers()
    assert {name for name, _ in movers[:2]} == {"3.weight", "3.bias"}
    rows = trace.tensor("3.weight").statistics[:, 0]
    path = np.sqrt(rows[:, 4]).sum() / np.sqrt(rows[:, 2]).mean()
    assert dict(movers)["3.weight"] == pytest.approx(path)
    shares = trace.window(3, 9).most_important(3)
    assert len(shares) == 3
    assert all(a[1] >= b[1] for a, b in itertools.pairwise(shares))
    assert sum(share for _, share in trace.most_important()) == pytest.approx(1)


def test_the_angular_update_is_the_angle():
    torch.manual_seed(0)
    model = mlp().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    tracer = Tracer(model, optimizer)
    stream = torch.Generator().manual_seed(0)
    angles = []
    for _ in range(6):
        before = vector(model)
        optimizer.zero_grad()
        model(
            torch.randn(8, INPUTS, generator=stream, dtype=torch.float64)
        ).square().sum().backward()
        optimizer.step()
        after = vector(model)
        angles.append(torch.arccos(before @ after / before.norm() / after.norm()).item())
    assert tracer.trace().angular_update() == pytest.approx(angles, rel=1e-5)
    assert np.isnan(tracer.trace().rows(0, 0).angular_update()).all()


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("several", [False, True])
def test_a_tensor_that_diverged_and_rests_stays_displaced_by_nan(name, every, several):
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])
    groups = [part.parameters() for part in model] if several else [model.parameters()]
    optimizers = [torch.optim.SGD(group, lr=0.1) for group in groups]
    with passes(name):
        tracer = Tracer(model, optimizers, every=every, anchors=(0, 8))
        for step in range(16):
            model.zero_grad()
            for part in model if step < 4 else model[:1]:
                part(torch.randn(8, 4)).square().mean().backward()
            if step == 3:
                model[1].weight.grad[0, 0] = torch.nan
            for optimizer in optimizers[: 2 if step < 4 or not several else 1]:
                optimizer.step()
            if several and step >= 4:
                tracer.state_dict()  # which ends the round
    trace = tracer.trace()
    assert trace.steps.tolist() == list(range(0, 16, every))
    rested = trace.tensor("1.weight").statistics[:, 0, DISPLACEMENT:]
    apart = trace.tensor("1.bias").statistics[:, 0, DISPLACEMENT:]
    late = trace.steps >= 3
    assert np.isnan(rested[late, 0]).all()
    assert np.isfinite(rested[~late, 0]).all()
    assert np.isnan(rested[:, 1]).all()
    assert (apart[trace.steps >= 8, 1] == 0).all()
    np.testing.assert_array_equal(apart[trace.steps >= 4, 0], apart[-1, 0])
    assert apart[-1, 0] > 0
    with pytest.raises(TraceError, match=r"displacement of tensor '1.weight' from step 8 is not"):
        trace.window(8, 16).stability("directness")
    assert math.isfinite(trace.window(8, 16).layer("0").stability("directness"))
    assert np.isnan(trace.window(8, 16).scores(1.0, stability="directness")).all()


def test_sketches_that_diverged_have_no_distance():
    model = mlp().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracer = Tracer(model, optimizer, anchors=(0, 4), exact_directness=False)
    train(model, optimizer, 4)
    with torch.no_grad():
        model[3].bias.fill_(torch.nan)
    model[3].bias.requires_grad_(False)
    with pytest.raises(TraceError, match=r"displacement of tensor '3.bias' from step 0 is not"):
        tracer.trace().stability("directness")


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("exact", [False, True])
def test_a_trace_in_the_middle_of_a_round_is_of_whole_rounds(every, exact):
    torch.manual_seed(0)
    model = mlp().eval()
    first, second = (torch.optim.SGD(model[layer].parameters(), lr=0.1) for layer in (0, 3))
    settings = {"every": every, "anchors": (0, 4), "exact_directness": exact}
    tracer = Tracer(model, [first, second], **settings)

    def backward():
        model.zero_grad()
        nn.functional.cross_entropy(model(torch.eye(INPUTS)), torch.arange(16) % 3).backward()

    for step in range(7):
        before = tracer.trace()
        backward()
        first.step()
        middle = tracer.trace()
        second.step()
        after = tracer.trace()
        assert middle.steps.tolist() == before.steps.tolist()
        np.testing.assert_array_equal(middle.statistics, before.statistics)
        anchors = [anchor for anchor in (0, 4) if anchor <= step]
        ends = [] if step + 1 in anchors else [step + 1]
        assert middle.sketch_steps.tolist() == ([] if exact else anchors)
        assert after.sketch_steps.tolist() == ([] if exact else [*anchors, *ends])
        spans = [{(each.start, each.stop) for each in t.top_elements()} for t in (middle, after)]
        passed = {(0, 4)} if step >= 4 else set()
        assert spans[0] == (passed if exact else set())
        assert spans[1] == (passed | {(anchors[-1], step + 1)} if exact else set())
    backward()
    first.step()
    tracer.close()  # ends the round, in which the second rests
    closed = tracer.trace()
    assert closed.steps.tolist() == list(range(0, 8, every))
    assert closed.sketch_steps.tolist() == ([] if exact else [0, 4, 8])
