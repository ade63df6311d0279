"""Models of one kind trained as one: their parameters stacked, their steps taken together.

Whether that is possible, and whether it pays, follows from the candidate alone, and not from any
timing: so the same sweep gives the same figures wherever it runs.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import stack_module_state, vmap
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from sweeps.course import Course
from trace_core.importance import IMPORTANCES

LEAST_MODELS = 3
"""Fewest models that are faster together (`benchmarks/together.py`)."""
MOST_OPERATIONS = 16e6
"""Most floating-point operations in a model's step of which the better part is overhead."""
TRIAL_STEPS = 2
"""Steps that are compared: what a model keeps for itself from one step shows in the next."""
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}
_SLOW = ".*performance drop.*"


class ApartError(Exception):
    """Why models are trained one by one."""


class Stacked:
    """R models with their parameters and buffers stacked, (R, *shape) each, and their optimiser.

    Raises RuntimeError or ValueError for models that aren't alike.
    """

    def __init__(self, course: Course, models: Sequence[nn.Module]) -> None:
        self._course = course
        self._model = models[0]
        self.parameters, self.buffers = stack_module_state(list(models))
        self.optimizer = course.optimizer(models[0], self.parameters)
        self._tensors = (*self.parameters.values(), *self.buffers.values())
        self._places = _places(self._model, [*self.parameters, *self.buffers])
        self._with_own_inputs = vmap(self._output, randomness="error")
        self._with_same_inputs = vmap(self._output, in_dims=(0, None), randomness="error")

    def _output(self, tensors: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """The outputs of the model with these tensors in the place of its own.

        What `torch.func.functional_call` does in twice the time.
        """
        own = [held[key] for held, key, _ in self._places]
        try:
            for held, key, number in self._places:
                held[key] = tensors[number]
            outputs: Tensor = self._model(inputs)
            return outputs
        finally:
            for (held, key, _), tensor in zip(self._places, own, strict=True):
                held[key] = tensor

    def losses(self, step: int, index: Tensor) -> Tensor:
        """Begin a step: set its learning rate, and return the losses (R,) of the training examples
        ``index`` (R, batch).
        """
        self._course.set_rates(self.optimizer, step)
        self.optimizer.zero_grad(set_to_none=True)
        inputs, targets = self._course.batch(index)
        with self._course.casting():
            outputs = self._with_own_inputs(self._tensors, inputs)
            return self._course.task.losses(outputs, targets)

    def step(self, losses: Tensor) -> None:
        """End a step. What isn't finite stays in its model."""
        torch.autograd.backward(losses, torch.ones_like(losses))
        self.optimizer.step()

    def outputs(self, part: str) -> Tensor:
        """The outputs (R, n, outputs) for ``validation`` or ``test``."""
        summarise = vmap(self._course.task.summarise, in_dims=(0, None))

        def call(inputs: Tensor, targets: Tensor) -> Tensor:
            outputs: Tensor = self._with_same_inputs(self._tensors, inputs)
            found: Tensor = summarise(outputs, targets)
            return found

        return self._course.outputs(self._model, part, call)


def _places(model: nn.Module, names: Sequence[str]) -> list[tuple[dict[str, Any], str, int]]:
    """Where a model holds the tensors of these names, tied ones each time: the dict, the key, and
    which of the tensors it is.
    """
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    numbers = {id(named[name]): number for number, name in enumerate(names)}
    return [
        (held, key, numbers[id(tensor)])
        for module in model.modules()
        for held in (module._parameters, module._buffers)
        for key, tensor in held.items()
        if tensor is not None
    ]


def require_stackable(course: Course, seeds: Sequence[int]) -> None:
    """Raise ApartError if models of these seeds can't be trained as one, or it wouldn't pay.

    Some steps are taken with models that are thrown away, one by one and as one, and compared.
    """
    if len(seeds) < LEAST_MODELS:
        raise ApartError(f"fewer than {LEAST_MODELS} replicates are no faster together")
    importance = course.candidate.importance
    if importance not in IMPORTANCES:
        raise ApartError(f"the importance {importance} needs more than a step's gradient")
    with _contained():
        _require_small(course, seeds[0])
        _Trial(course, seeds).run()


class _Trial:
    """The first steps of models of these seeds, taken twice: one by one, and as one."""

    def __init__(self, course: Course, seeds: Sequence[int]) -> None:
        self._course = course
        self._tolerance = _TOLERANCE[course.dtype]
        self._alone = [course.build(seed) for seed in seeds]
        self._optimizers = [course.optimizer(model) for model in self._alone]
        self._stacked = Stacked(course, [course.build(seed) for seed in seeds])
        self._index = torch.stack([course.order(seed, 0)[course.place(0)[1]] for seed in seeds])

    def run(self) -> None:
        """Raise ApartError where the two differ, or a model keeps or draws something meanwhile."""
        drawn = _generators()
        if self._takes_steps():
            course = self._course
            self._compare(
                "output",
                self._stacked.outputs("validation"),
                torch.stack([course.outputs(model, "validation") for model in self._alone]),
            )
        if _generators() != drawn:
            raise ApartError("its model draws random numbers while it trains")
        for name, buffer in self._stacked.buffers.items():
            alone = torch.stack([dict(model.named_buffers())[name] for model in self._alone])
            self._compare("buffer", buffer, alone)

    def _takes_steps(self) -> bool:
        """Take the steps. Returns whether all losses were finite."""
        course = self._course
        for step in range(TRIAL_STEPS):
            begun = zip(self._alone, self._optimizers, self._index, strict=True)
            expected = torch.stack([begin_alone(course, *each, step) for each in begun])
            found = self._stacked.losses(step, self._index)
            self._compare("loss", found, expected)
            if not expected.isfinite().all():
                return False
            self._stacked.step(found)
            self._compare_gradients()
            for optimizer in self._optimizers:
                optimizer.step()
        return True

    def _compare(self, what: str, found: Tensor, expected: Tensor) -> None:
        found, expected = found.detach(), expected.double()
        scale = float(expected[expected.isfinite()].abs().sum()) / max(1, expected.numel())
        if found.shape != expected.shape or not torch.allclose(
            found.double(),
            expected,
            rtol=self._tolerance,
            atol=self._tolerance * scale,
            equal_nan=True,
        ):
            raise ApartError(f"its {what} is another when it is batched")

    def _compare_gradients(self) -> None:
        for number, model in enumerate(self._alone):
            named = dict(model.named_parameters())
            expected = {n: p.grad for n, p in named.items() if p.grad is not None}
            found = {
                name: parameter.grad[number]
                for name, parameter in self._stacked.parameters.items()
                if parameter.grad is not None
            }
            # What is 0 but for rounding may be anything beside the rest.
            total = 0.01 * math.hypot(*(float(gradient.norm()) for gradient in expected.values()))
            if found.keys() != expected.keys() or any(
                float((found[name] - gradient).norm())
                > self._tolerance * (float(gradient.norm()) + total)
                for name, gradient in expected.items()
            ):
                raise ApartError("its gradient is another when it is batched")


def begin_alone(
    course: Course, model: nn.Module, optimizer: Optimizer, index: Tensor, step: int
) -> Tensor:
    """Begin a step of one model on the training examples ``index``: set its learning rate, make its
    gradients, and return its loss.
    """
    course.set_rates(optimizer, step)
    optimizer.zero_grad(set_to_none=True)
    inputs, targets = course.batch(index)
    with course.casting():
        loss = course.task.loss(model(inputs), targets)
    torch.autograd.backward(loss)
    return loss.detach()


def _require_small(course: Course, seed: int) -> None:
    """Raise ApartError for a model whose time goes with the arithmetic, and not with the calls."""
    model = course.build(seed)
    index = course.order(seed, 0)[course.place(0)[1]]
    with FlopCounterMode(display=False) as counter:
        begin_alone(course, model, course.optimizer(model), index, 0)
    counts = {
        str(operation).rpartition(".")[2]: number
        for operation, number in counter.get_flop_counts()["Global"].items()
    }
    for operation in counts:
        if operation not in _PRODUCTS:
            raise ApartError(f"{operation.removesuffix('_backward')} is no faster together")
    total = sum(counts.values())
    if total > MOST_OPERATIONS:
        raise ApartError(
            f"with {total / 1e6:.0f} million operations a step (over {MOST_OPERATIONS / 1e6:.0f}) "
            "it is no faster together"
        )


@contextmanager
def _contained() -> Iterator[None]:
    """Turn all that goes wrong into an ApartError: a model of the user's may raise anything. If it
    does so alone as well, that will show.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", _SLOW)
            yield
    except (ApartError, KeyboardInterrupt):
        raise
    except UserWarning:
        raise ApartError("it has an operation that PyTorch doesn't batch") from None
    except BaseException as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise ApartError(f"it can't be batched: {type(error).__name__}: {first}") from error


def _generators() -> tuple[Any, ...]:
    """The states of all generators that a model may draw from."""
    numpy = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), str(numpy)
