"""Any set-up is traced as it is: to the numbers of an oracle, and without changing a bit of it."""

import io
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from observing import (
    PASSES,
    Seen,
    assert_alike,
    assert_counted,
    assert_seen,
    dense_counts,
    look,
    passes,
)
from setups import (
    BY_OPTIMIZER,
    SETUPS,
    Decayed,
    Setup,
    by_experts,
    compiled_by_inductor,
    lora,
    loss_of,
    scaled,
    with_compiled_step,
)
from small_models import INPUTS, mlp
from torch import nn

import trace_core
from trace_core import Trace, TraceError, Tracer
from trace_core.importance import Probe
from trace_core.kernel import plan
from trace_core.statistics import DISPLACEMENT, Statistic
from trace_core.storage import to_arrays

STEPS = 7
RESTED = Seen(np.zeros(len(Statistic)), np.zeros(len(Statistic)), np.zeros(0))

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*rounded away"),
    # Of the compiler's, at its first use.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]


class Hand:
    """Works out by hand what each step did."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.named = setup.named()
        self.rows: list[list[Seen]] = []
        self.here: dict[str, Seen] = {}

    def take(self, optimizer, do=None) -> None:
        owned = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
        mine = {name: tensor for name, tensor in self.named.items() if id(tensor) in owned}
        before = {name: tensor.detach().clone() for name, tensor in mine.items()}
        (do or optimizer.step)()
        moved = {
            name: look(before[name], tensor, tensor.grad)
            for name, tensor in mine.items()
            if tensor.grad is not None
        }
        if not all(torch.equal(before[name], tensor) for name, tensor in mine.items()):
            self.here |= moved

    def advance(self, step: int) -> None:
        self.here = {}
        self.setup.advance(step, self.take)
        self.rows.append([self.here.get(name, RESTED) for name in self.named])


def outcome(setup: Setup) -> list:
    """All that a training leaves behind."""
    tensors = [*setup.model.state_dict().values(), *setup.masters.values()]
    for optimizer in setup.optimizers:
        for held in optimizer.state_dict()["state"].values():
            tensors += [value for value in held.values() if isinstance(value, torch.Tensor)]
    gradients = [tensor.grad for tensor in setup.named().values() if tensor.grad is not None]
    return [*tensors, *gradients, torch.get_rng_state()]


def assert_equal(one: list, other: list) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        left, right = (t.to_dense() if t.is_sparse else t for t in (left, right))
        assert left.dtype == right.dtype
        assert left.stride() == right.stride()
        assert bits(left).equal(bits(right))


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).contiguous().view(torch.uint8)


def untraced(make) -> list:
    torch.manual_seed(0)
    setup = make()
    for step in range(STEPS):
        setup.advance(step, lambda optimizer, do=None: (do or optimizer.step)())
    return outcome(setup)


def traced(make, **settings) -> tuple[Trace, Hand, list]:
    torch.manual_seed(0)
    setup = make()
    tracer = Tracer(setup.model, setup.optimizers, masters=setup.masters, **settings)
    hand = Hand(setup)
    for step in range(STEPS):
        hand.advance(step)
    return tracer.trace(), hand, outcome(setup)


def check(make, names=PASSES) -> None:
    """Hold passes to the oracle and to each other, and what was trained to an untraced training."""
    expected = untraced(make)
    traces = []
    for name in names:
        with passes(name):
            trace, hand, left = traced(make)
        assert_equal(left, expected)
        assert trace.tensors == tuple(hand.named)
        assert trace.steps.tolist() == list(range(STEPS))
        for row, wanted in enumerate(hand.rows):
            assert_seen(trace.statistics[row], wanted, hand.setup.rtol)
            assert_counted(dense_counts(trace, row), wanted)
        traces.append(trace)
    assert_alike(traces[0], traces[-1], hand.rows)


@pytest.mark.parametrize("name", SETUPS)
def test_setup(name):
    check(SETUPS[name])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_setup_compiled_by_inductor():
    check(compiled_by_inductor, PASSES[:1])


@pytest.mark.slow
def test_setup_lora():
    pytest.importorskip("peft")
    check(lora)
    trace, hand, _ = traced(lora)
    active = trace.statistics[0, :, Statistic.COUNT] > 0
    assert [name for name, moved in zip(trace.tensors, active, strict=True) if moved] == [
        name for name, tensor in hand.named.items() if tensor.requires_grad
    ]
    # B starts from zero, so that A's gradient is 0 at the first step.
    b = trace.tensor("base_model.model.0.lora_B.default.weight").statistics[:, 0]
    assert b[0, Statistic.ZEROS] == b[0, Statistic.COUNT] > 0
    assert (b[1:, Statistic.ZEROS] == 0).all()
    a = trace.tensor("base_model.model.0.lora_A.default.weight").statistics[:, 0]
    assert a[0, Statistic.C] == 0
    assert (a[1:, Statistic.C] > 0).all()


def test_frozen_parameters_that_are_not_of_floating_point_are_left_out():
    trace, hand, _ = traced(SETUPS["quantised"])
    names = [name for name, _ in hand.setup.model.named_parameters()]
    assert set(names) - set(trace.tensors) == {"0.weight", "0.shift"}
    adapters = {"0.a", "0.b", "2.weight", "2.bias"}
    active = trace.statistics[-1, :, Statistic.COUNT] > 0
    assert {name for name, on in zip(trace.tensors, active, strict=True) if on} == adapters


@pytest.mark.parametrize("name", ["sgd", "adamw_fused", "amp_fused", "written_through_data"])
@pytest.mark.parametrize("reader", PASSES)
def test_every_second_step_is_seen_as_it_was(name, reader):
    with passes(reader):
        trace, hand, _ = traced(SETUPS[name], every=2)
    assert trace.steps.tolist() == [0, 2, 4, 6]
    for row, step in enumerate(trace.steps):
        assert_seen(trace.statistics[row], hand.rows[step], 1e-6)


# ---- gradients that come and go


@pytest.mark.skipif("compiled" not in PASSES, reason="the kernel isn't compiled")
def test_a_plan_is_made_once_for_each_set_of_gradients(monkeypatch):
    made = []

    class Counted(plan.Plan):
        def __init__(self, library, positions, *rest):
            made.append(tuple(positions))
            super().__init__(library, positions, *rest)

    monkeypatch.setattr("trace_core.watched.Plan", Counted)
    for kept, wanted in ((4, 4), (3, STEPS)):
        made.clear()
        monkeypatch.setattr("trace_core.watched.PLANS", kept)
        check(lambda: by_experts([[0], [1], [2], [3]], "adam_fused"), PASSES[:1])
        # The least recently used goes, which is the next to come.
        assert len(made) == wanted
        assert len(set(made)) == 4


@pytest.mark.skipif("compiled" not in PASSES, reason="the kernel isn't compiled")
def test_plans_share_their_memory():
    """What is staged, and the histograms, are as large as the largest plan needs."""
    held = []
    for serving in ([[3]], [[0], [1], [2], [3]]):
        tracemalloc.start()
        try:
            kept = traced(lambda serving=serving: by_experts(serving, "sgd"))
            snapshot = tracemalloc.take_snapshot()
            del kept
        finally:
            tracemalloc.stop()
        ours = snapshot.filter_traces([tracemalloc.Filter(True, plan.__file__)])
        held.append(sum(found.size for found in ours.statistics("filename")))
    assert held[0] > 100_000
    assert held[1] < 1.2 * held[0]


@pytest.mark.parametrize("reader", PASSES)
@pytest.mark.parametrize("every", [1, 2])
def test_what_moves_while_it_is_frozen_is_no_step(reader, every):
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with passes(reader), Tracer(model, optimizer, every=every) as tracer:
        for step in range(3 * every):
            model[0].requires_grad_(step // every != 1)
            model.zero_grad()
            if step == every + every // 2:
                with torch.no_grad():
                    model[0].weight.add_(1.0)
            before = model[0].weight.detach().clone()
            one_step(model, optimizer, step)
            if step == 2 * every:
                moved = (model[0].weight - before).square().sum().item()
    rows = tracer.trace().tensor("0.weight").statistics[:, 0]
    assert rows[:, Statistic.COUNT].tolist() == [192, 0, 192]
    assert rows[-1, Statistic.SQ_DELTA] == pytest.approx(moved, rel=1e-5)


# ---- automatic mixed precision


@pytest.mark.parametrize("optimizer", ["sgd", "sgd_fused", "adamw_foreach", "adamw_fused"])
@pytest.mark.parametrize("reader", PASSES)
def test_a_scaled_training_has_the_trace_of_an_unscaled_one(optimizer, reader):
    """Its scales are powers of two, so that nothing is lost to rounding."""
    make = BY_OPTIMIZER[optimizer]
    with passes(reader):
        # PyTorch's fused SGD begins with whatever is in memory if its first step is skipped.
        skipped = {1, 3, 4} if optimizer == "sgd_fused" else {0, 3, 4}
        found, _, left = traced(lambda: scaled(make, skipped))
        wanted, _, expected = traced(lambda: scaled(make, set(), enabled=False))
    assert_equal(left, expected)
    assert_same(found, wanted)


def assert_same(one: Trace, other: Trace) -> None:
    left, right = to_arrays(one), to_arrays(other)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name, strict=True)


# ---- several optimisers


def test_a_round_ends_when_an_optimizer_is_about_to_step_again():
    """As where one network is trained twice for each step of the other's."""
    torch.manual_seed(0)
    model = mlp()
    often = torch.optim.SGD(model[0].parameters(), lr=0.1)
    seldom = torch.optim.Adam(model[3].parameters(), lr=0.01)
    seen = []
    with Tracer(model, [often, seldom], on_observation=seen.append) as tracer:
        for step in range(6):
            model.zero_grad()
            loss_of(model, step).backward()
            often.step()
            if step % 2:
                seldom.step()
    trace = tracer.trace()
    assert trace.steps.tolist() == list(range(6)) == [observation.step for observation in seen]
    assert trace.layer("0").active.tolist() == [204] * 6
    assert trace.layer("3").active.tolist() == [0, 39] * 3
    np.testing.assert_array_equal(trace.learning_rates, [[0.1, 0.1, 0.01, 0.01]] * 6)


def test_every_k_is_a_subsample_of_the_rounds_of_several_optimizers():
    traces = [traced(SETUPS["muon_and_adamw"], every=every)[0] for every in (1, 3)]
    assert traces[1].steps.tolist() == list(range(0, STEPS, 3))
    np.testing.assert_array_equal(traces[1].statistics, traces[0].statistics[::3])


def test_a_skip_of_one_optimizer_shifts_it_against_the_other():
    """Its steps are all seen, and none twice."""
    model = mlp().eval()
    optimizers = [torch.optim.SGD(model[layer].parameters(), lr=0.1) for layer in (0, 3)]
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with Tracer(model, optimizers) as tracer:
        for step in range(4):
            model.zero_grad()
            scaler.scale(loss_of(model, step)).backward()
            if step == 1:
                model[0].weight.grad[0, 0] = float("inf")
            for optimizer in optimizers:
                scaler.step(optimizer)
            scaler.update()
    trace = tracer.trace()
    assert trace.layer("0").active.tolist() == [204, 204, 204, 0]
    assert trace.layer("3").active.tolist() == [39, 39, 39, 39]


# ---- across an interruption

RESUMED = ["groups", "adamw_fused", "muon_and_adamw", "lbfgs", "tied", "unfrozen_late"]


@pytest.mark.parametrize("name", [*RESUMED, "sparse_adam", "batch_norm", "channels_last"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"anchors": (0, 2), "every": 2, "importance": "synaptic_intelligence"}],
    ids=["plain", "path"],
)
def test_a_resumed_training_has_the_trace_of_an_uninterrupted_one(name, settings):
    wanted, _, expected = traced(SETUPS[name], **settings)
    torch.manual_seed(0)
    setup = SETUPS[name]()
    tracer = Tracer(setup.model, setup.optimizers, **settings)
    for step in range(STEPS // 2):
        setup.advance(step, lambda optimizer, do=None: (do or optimizer.step)())
    file = io.BytesIO()
    held = [setup.model, *setup.optimizers, tracer]
    torch.save([[each.state_dict() for each in held], torch.get_rng_state()], file)
    file.seek(0)
    states, random = torch.load(file, weights_only=True)
    setup = SETUPS[name]()
    for each, state in zip([setup.model, *setup.optimizers], states, strict=False):
        each.load_state_dict(state)
    tracer = Tracer(setup.model, setup.optimizers, **settings)
    tracer.load_state_dict(states[-1])
    torch.set_rng_state(random)
    for step in range(STEPS // 2, STEPS):
        setup.advance(step, lambda optimizer, do=None: (do or optimizer.step)())
    assert_equal(outcome(setup), expected)
    assert_same(tracer.trace(), wanted)


# ---- models inside others


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")]
)
def test_a_wrapped_model_has_the_trace_of_the_model(wrap):
    probe = Probe(
        torch.linspace(-1, 1, 4 * INPUTS).view(4, -1), lambda out, batch: out.square().mean()
    )

    def first(wrapping, **settings) -> Trace:
        torch.manual_seed(0)
        model = mlp().eval()
        outer = wrapping(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        tracer = Tracer(outer, optimizer, **settings)
        loss_of(model, 0).backward()
        optimizer.step()
        return tracer.trace()

    for settings in ({}, {"importance": "fisher", "probe": probe}):
        wanted, found = first(lambda model: model, **settings), first(wrap, **settings)
        assert found.tensors == wanted.tensors
        assert_same(found, wanted)


# ---- steps that are compiled


@pytest.mark.parametrize("settings", [{}, {"every": 2}, {"anchors": (0, 2)}])
@pytest.mark.parametrize("kind", [torch.optim.SGD, Decayed], ids=lambda kind: kind.__name__)
def test_a_compiled_step_has_the_trace_of_the_step(kind, settings):
    """And of what the tracer does, nothing is compiled."""
    compiled: list[str] = []

    def backend(graph, inputs):
        compiled.append(graph.print_readable(print_output=False))
        return graph.forward

    def make(compiled: bool) -> Setup:
        made = with_compiled_step(kind, backend)
        if not compiled:
            advance = made.advance
            made.advance = lambda k, take: advance(k, lambda optimizer, step: take(optimizer))
        return made

    (wanted, _, expected), (found, _, left) = (
        traced(lambda way=way: make(way), **settings) for way in (False, True)
    )
    assert_equal(left, expected)
    assert_same(found, wanted)
    assert compiled
    ours = str(Path(trace_core.__file__).parent)
    assert not any(f"{ours}{os.sep}" in graph for graph in compiled)


# ---- what can't be traced


def one_step(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.zero_grad()
    dtype = next(model.parameters()).dtype
    loss_of(model, step, dtype).backward()
    optimizer.step()


def widen(model: nn.Module) -> None:
    model[0].weight.data = torch.randn(12, INPUTS + 1)
    model[0].weight.grad = None


CHANGES = {
    "shape": (widen, r"'0.weight' is \(12, 17\) .* at step 2 and was \(12, 16\)"),
    "dtype": (
        lambda model: model.double(),
        r"is \(12, 16\) torch.float64 .* at step 2 and was .*32",
    ),
    "layout": (
        lambda model: setattr(model[0].weight, "data", model[0].weight.data.t().contiguous().t()),
        r"with strides \(1, 12\) at step 2 and was .* with strides \(16, 1\)",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("reader", PASSES)
def test_a_parameter_that_is_made_another_is_refused(change, every, reader):
    alter, words = CHANGES[change]
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with passes(reader), Tracer(model, optimizer, every=every):
        one_step(model, optimizer, 0)
        one_step(model, optimizer, 1)
        alter(model)
        for tensor in model.parameters():
            tensor.grad = torch.ones_like(tensor)
        with pytest.raises(TraceError, match=words):
            optimizer.step()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("reader", PASSES)
def test_a_training_that_diverges_is_recorded_and_not_scored(value, reader):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with passes(reader), Tracer(model, optimizer) as tracer:
        for step in range(15):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            if step == 12:
                model[3].weight.grad[1, 1] = value
            optimizer.step()
    trace = tracer.trace()
    assert np.isfinite(trace.statistics[:12, :, :DISPLACEMENT]).all()
    assert not np.isfinite(trace.tensor("3.weight").statistics[12, 0, Statistic.ABS_DELTA])
    with pytest.raises(TraceError, match=r"of tensor '3.weight' is not finite at step 12"):
        trace.score()
    assert np.isfinite(trace.window(0, 12).score())


def test_a_parameter_has_one_optimizer():
    model = mlp()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2)]
    with pytest.raises(TraceError, match=r"'0.weight' is owned by two of the optimizers"):
        Tracer(model, optimizers)
    with pytest.raises(TraceError, match="no optimizer to watch"):
        Tracer(model, [])


def test_masters_fit_the_model():
    model = mlp().bfloat16()
    copies = {name: tensor.detach().float() for name, tensor in model.named_parameters()}
    optimizer = torch.optim.SGD(copies.values(), lr=0.1)
    with pytest.raises(TraceError, match=r"unknown parameter in masters '0.wieght' .*'0.weight'"):
        Tracer(model, optimizer, masters={"0.wieght": copies["0.weight"]})
    with pytest.raises(TraceError, match=r"'3.weight' has shape \(3,\); .* has \(3, 12\)"):
        Tracer(model, optimizer, masters=copies | {"3.weight": copies["3.bias"]})
    with (
        pytest.warns(UserWarning, match="4 parameters, '0.weight' the first, .* masters="),
        pytest.raises(TraceError, match=r"owns none of the model's parameters.*masters="),
    ):
        Tracer(model, optimizer)
    Tracer(model, optimizer, masters=copies).close()


def test_flattened_parameters_are_refused():
    """FullyShardedDataParallel needs an accelerator; its mark is the name of what it wraps."""
    outer = nn.Module()
    outer._fsdp_wrapped_module = mlp()
    with pytest.raises(TraceError, match="fully_shard instead"):
        Tracer(outer, torch.optim.SGD(outer.parameters(), lr=0.1))
