"""Several models that train as one: each one's trace is what a tracer on it alone records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from observing import PASSES, passes
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from trace_core import Trace, TraceError, Tracer
from trace_core.stacked import StackedTracer
from trace_core.storage import to_arrays

MODELS, STEPS = 3, 33
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda tensors: torch.optim.SGD(tensors, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda tensors: torch.optim.Adam(tensors, lr=0.01),
    "adamw": lambda tensors: torch.optim.AdamW(tensors, lr=0.01),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Odd(nn.Module):
    """Has a part that only some steps use, one that none trains, a number, and a large tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 70)
        self.frozen = nn.Linear(70, 70).requires_grad_(False)
        self.blocks = nn.Sequential(nn.Linear(70, 70), nn.Tanh())
        self.seldom = nn.Linear(70, 2)
        self.often = nn.Linear(70, 2)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor, *, seldom: bool) -> Tensor:
        hidden = self.blocks(self.frozen(self.first(inputs)))
        output: Tensor = self.often(hidden) * self.scale
        return output + self.seldom(hidden) if seldom else output


def models() -> list[Odd]:
    found = []
    for seed in range(MODELS):
        torch.manual_seed(seed)
        found.append(Odd().double())
    return found


def batches(model: int) -> Tensor:
    return torch.randn(
        STEPS, 8, 5, generator=torch.Generator().manual_seed(model), dtype=torch.float64
    )


def loss_of(outputs: Tensor) -> Tensor:
    return (outputs - 1).square().mean()


def uses_seldom(step: int) -> bool:
    return step % 4 < 2 and step > 2


def rate(optimizer: torch.optim.Optimizer, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.1 / (1 + step)


def alone(optimizer: str, **settings: Any) -> list[Trace]:
    traces = []
    for number, model in enumerate(models()):
        steps = OPTIMIZERS[optimizer](model.parameters())
        tracer = Tracer(model, steps, **settings)
        for step, inputs in enumerate(batches(number)):
            rate(steps, step)
            steps.zero_grad()
            torch.autograd.backward(loss_of(model(inputs, seldom=uses_seldom(step))))
            steps.step()
        traces.append(tracer.trace())
    return traces


class Together:
    """The same models, stacked."""

    def __init__(self, optimizer: str, **settings: Any) -> None:
        alike = models()
        self.base = alike[0]
        self.stacked, _ = stack_module_state(alike)
        self.steps = OPTIMIZERS[optimizer](list(self.stacked.values()))
        self.tracer = StackedTracer(self.stacked, self.steps, **settings)
        self.inputs = torch.stack([batches(model) for model in range(MODELS)])

    def train(self, start: int, stop: int) -> None:
        for step in range(start, stop):
            rate(self.steps, step)
            self.steps.zero_grad()

            def loss(tensors: dict[str, Tensor], inputs: Tensor, step: int = step) -> Tensor:
                seldom = {"seldom": uses_seldom(step)}
                return loss_of(functional_call(self.base, tensors, (inputs,), seldom))

            torch.autograd.backward(vmap(loss)(self.stacked, self.inputs[:, step]).sum())
            self.steps.step()


def assert_alike(found: Sequence[Trace], expected: Sequence[Trace]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.tensors, ours.layers, ours.anchors) == (
            theirs.tensors,
            theirs.layers,
            theirs.anchors,
        )
        theirs_too = to_arrays(theirs)
        for name, array in to_arrays(ours).items():
            tolerance = 1e-6 if array.dtype == np.float32 else 1e-9
            np.testing.assert_allclose(
                array, theirs_too[name], rtol=tolerance, atol=1e-14, err_msg=name
            )
        assert ours.score() == pytest.approx(theirs.score(), rel=1e-9)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("way", PASSES)
def test_each_trace_is_that_of_a_tracer_on_the_model_alone(
    way: str, optimizer: str, every: int
) -> None:
    settings = {"every": every, "histogram_every": 2, "anchors": (0, 3 * every)}
    with passes(way):
        together = Together(optimizer, **settings)
        together.train(0, STEPS)
        assert_alike(together.tracer.traces(), alone(optimizer, **settings))


@pytest.mark.parametrize("importance", ["uniform", "magnitude", "gradient"])
def test_importances_of_single_elements(importance: str) -> None:
    together = Together("sgd", importance=importance)
    together.train(0, STEPS)
    assert_alike(together.tracer.traces(), alone("sgd", importance=importance))


def test_sketches_of_each_model() -> None:
    settings = {"anchors": (0, 4), "exact_directness": False}
    together = Together("sgd", **settings)
    together.train(0, STEPS)
    assert_alike(together.tracer.traces(), alone("sgd", **settings))


def test_it_goes_on_from_its_state_to_the_bit(tmp_path: Any) -> None:
    whole, broken, resumed = (Together("adam", every=2, anchors=(0, 8)) for _ in range(3))
    whole.train(0, STEPS)
    broken.train(0, 11)
    state = [broken.stacked, broken.steps.state_dict(), broken.tracer.state_dict()]
    torch.save(state, tmp_path / "state.pt")
    stacked, steps, tracer = torch.load(tmp_path / "state.pt", weights_only=True)
    with torch.no_grad():
        for name, tensor in resumed.stacked.items():
            tensor.copy_(stacked[name])
    resumed.steps.load_state_dict(steps)
    resumed.tracer.load_state_dict(tracer)
    resumed.train(11, STEPS)
    for ours, theirs in zip(resumed.tracer.traces(), whole.tracer.traces(), strict=True):
        expected = to_arrays(theirs)
        for name, array in to_arrays(ours).items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_watching_leaves_every_bit_as_it_is(optimizer: str) -> None:
    plain, watched = Together(optimizer), Together(optimizer, anchors=(0, 6))
    plain.tracer.close()
    generators = []
    for each in (plain, watched):
        torch.manual_seed(0)
        each.train(0, STEPS)
        generators.append(torch.get_rng_state())
    assert torch.equal(*generators)
    for name, tensor in plain.stacked.items():
        assert torch.equal(tensor, watched.stacked[name])
    assert len(watched.tracer.traces()[0]) == STEPS


def test_what_is_seen_after_closing_stays() -> None:
    together = Together("sgd")
    together.train(0, 9)
    together.tracer.close()
    together.train(9, STEPS)
    assert [len(trace) for trace in together.tracer.traces()] == [9] * MODELS


def test_a_state_of_something_else_is_refused() -> None:
    together = Together("sgd")
    for state in ({}, {"models": []}, {"models": [{}] * MODELS}, None):
        with pytest.raises(TraceError, match="state"):
            together.tracer.load_state_dict(state)  # type: ignore[arg-type]


def test_what_cannot_be_stacked_is_refused() -> None:
    stacked, _ = stack_module_state(models())
    steps = torch.optim.SGD(list(stacked.values()), lr=0.1)
    with pytest.raises(TraceError, match="fisher"):
        StackedTracer(stacked, steps, importance="fisher")
    with pytest.raises(TraceError, match="number of models"):
        StackedTracer({**stacked, "other": torch.zeros(MODELS + 1, 2)}, steps)
    with pytest.raises(TraceError, match="contiguous"):
        StackedTracer({"other": torch.zeros(4, MODELS, requires_grad=True).T}, steps)
    with pytest.raises(TraceError, match="owns none"):
        StackedTracer(stacked, torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1))
