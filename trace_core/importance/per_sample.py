"""Mean over samples of a function of each sample's own gradient: what Fisher and MAS share.

Cost: B forward and B backward passes of one sample. In one go, `torch.func.vmap` runs a chunk of
samples through batched kernels and holds their gradients, chunk × N numbers; the loop runs them one
by one and holds N.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils._pytree import tree_map

from trace_core.errors import TraceError, require_known, whole_number
from trace_core.importance.probe import Probe, at_least_single, require_probe, trainable
from trace_core.importance.undisturbed import undisturbed

METHODS = ("auto", "vmap", "loop")
GRADIENTS_HELD = 1 << 23
"""Most numbers that the gradients of a chunk of samples hold, if no chunk is asked for.

Measured on a processor with 32 MiB of cache, 64 samples of a multilayer perceptron of 1.1 M
parameters: 99 ms in chunks of 8, 291 in chunks of 16, 87 in the loop.
"""
WORTH_A_CHUNK = 8
"""Fewest samples in a chunk for which vmap was about as quick as the loop or quicker, on four
models of 0.1 to 1.1 M parameters: it has more to do for each call.
"""


class Estimate(dict[str, Tensor]):
    """Importance c of each parameter by its name: c ≥ 0, of the parameter's shape and device, in
    float32 or, for float64 parameters, float64.
    """

    def __init__(self, values: dict[str, Tensor], method: str) -> None:
        super().__init__(values)
        self.method = method
        """How the gradients of single samples were taken: ``vmap`` or ``loop``."""


class _Objective(nn.Module):
    """The objective of a batch as a module, so that `functional_call` can replace the weights."""

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[[nn.Module, Any], Any],
        objective: Callable[[Any, Any], Tensor],
    ) -> None:
        super().__init__()
        self.model = model
        self._call = forward
        self._objective = objective

    def forward(self, batch: Any) -> Tensor:
        return self._objective(self._call(self.model, batch), batch)


def mean_over_samples(
    model: nn.Module,
    probe: Probe,
    objective: Callable[[Any, Any], Tensor],
    of_gradient: Callable[[Tensor], Tensor],
    *,
    method: str,
    chunk: int | None,
) -> Estimate:
    """Return (1/B) Σᵢ f(∂ objectiveᵢ / ∂θ), f elementwise.

    objective: (outputs, batch of one sample) → scalar.
    method: ``vmap``; ``loop``, one sample after the other; or ``auto``, which takes the loop where
    vmap can't trace the model, or where no chunk is asked for and less than `WORTH_A_CHUNK` fit.
    chunk: samples at a time under vmap; by default as many as `GRADIENTS_HELD` allows.

    Raises TraceError if the objective doesn't depend on any trainable parameter, for an unknown
    method or a chunk under 1, and for ``vmap`` where it can't trace the model.
    """
    require_known(method, METHODS, "method")
    if chunk is not None:
        chunk = whole_number("chunk", chunk, 1)
    require_probe(probe)
    named = trainable(model)
    if chunk is None:
        chunk = max(1, GRADIENTS_HELD // max(1, sum(tensor.numel() for tensor in named.values())))
        if method == "auto" and chunk < WORTH_A_CHUNK:
            method = "loop"
    if method != "loop":
        try:
            with undisturbed(model) as inner, torch.enable_grad():
                wrapped = _Objective(inner, probe.forward, objective)
                return Estimate(_by_vmap(wrapped, named, probe, of_gradient, chunk), "vmap")
        except TraceError:
            raise
        except Exception as error:
            # What vmap can't trace has no common exception; a fault of the model's shows in the
            # loop again, with its own message.
            if method == "vmap":
                raise TraceError(
                    f"vmap can't trace this model ({error}); take method 'loop' or 'auto'"
                ) from error
    with (
        undisturbed(model) as inner,
        torch.enable_grad(),
        _differentiable_in_eval(inner),
        _without_hooks(named),
    ):
        wrapped = _Objective(inner, probe.forward, objective)
        return Estimate(_by_loop(wrapped, named, probe, of_gradient), "loop")


def _by_vmap(
    wrapped: _Objective,
    named: dict[str, Tensor],
    probe: Probe,
    of_gradient: Callable[[Tensor], Tensor],
    chunk: int,
) -> dict[str, Tensor]:
    inner_names = {id(tensor): name for name, tensor in wrapped.named_parameters()}
    weights = {inner_names[id(tensor)]: tensor.detach() for tensor in named.values()}

    def of_one(weights: dict[str, Tensor], sample: Any) -> Tensor:
        batch = tree_map(lambda tensor: tensor.unsqueeze(0), sample)
        value: Tensor = functional_call(wrapped, weights, (batch,))
        if not value.requires_grad:
            raise RuntimeError("the objective doesn't depend on the weights it was given")
        return value

    gradients_of = vmap(grad_and_value(of_one), in_dims=(None, 0))
    sums = _zeros(named)
    for start in range(0, probe.size, chunk):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*performance drop.*")
            gradients, values = gradients_of(weights, probe.samples(start, start + chunk))
        if values.requires_grad:
            # The weights it was given are detached, so this gradient is of one it found elsewhere.
            raise RuntimeError("the model keeps weights where functional_call can't replace them")
        for total, name in zip(sums.values(), weights, strict=True):
            total += of_gradient(gradients[name].to(total.dtype)).sum(dim=0)
    return _divided(sums, probe.size)


def _by_loop(
    wrapped: _Objective,
    named: dict[str, Tensor],
    probe: Probe,
    of_gradient: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    sums = _zeros(named)
    for sample in range(probe.size):
        value = wrapped(probe.samples(sample, sample + 1))
        if not value.requires_grad:
            raise TraceError(
                "what the probe's forward and loss return depends on no trainable parameter; they "
                "must not detach it or run under no_grad"
            )
        gradients = torch.autograd.grad(value, list(named.values()), allow_unused=True)
        for total, gradient in zip(sums.values(), gradients, strict=True):
            if gradient is not None:
                total += of_gradient(gradient.to_dense().to(total.dtype))
    return _divided(sums, probe.size)


@contextmanager
def _without_hooks(named: dict[str, Tensor]) -> Iterator[None]:
    """Keep hooks on the parameters' gradients from running: they are the training's."""
    hooks = [tensor._backward_hooks for tensor in named.values() if tensor._backward_hooks]
    saved = [dict(of_tensor) for of_tensor in hooks]
    for of_tensor in hooks:
        of_tensor.clear()
    try:
        yield
    finally:
        for of_tensor, kept in zip(hooks, saved, strict=True):
            of_tensor.update(kept)


def _differentiable_in_eval(model: nn.Module) -> AbstractContextManager[None]:
    """Return a context without cuDNN for recurrent models: it can't differentiate them in
    evaluation mode.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    return torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()


def _zeros(named: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(tensor, dtype=at_least_single(tensor), requires_grad=False)
        for name, tensor in named.items()
    }


def _divided(sums: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    for total in sums.values():
        total /= count
    return sums
