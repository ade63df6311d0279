"""Run a model in evaluation mode and leave no trace of it: what probed estimators stand on."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


def bare(model: nn.Module) -> nn.Module:
    """Return the model inside wrappers that act on a forward pass: compilation, and data
    parallelism, which would prepare for a backward pass that never comes.
    """
    inner = getattr(model, "_orig_mod", None)
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        inner = model.module
    return bare(inner) if isinstance(inner, nn.Module) else model


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the `bare` model in evaluation mode, and put everything back at the end, to the bit.

    Put back are the modes of all submodules, their attributes and buffers, and the states of the
    random generators of torch (CPU, CUDA if in use), numpy and Python. Autocast and compilation are
    off inside: casts that autocast keeps would hide a change of the weights, and a compiled model
    would be compiled again. Weights and gradients are not guarded: whoever changes one restores it.

    O(buffers) memory.
    """
    inner = bare(model)
    with ExitStack() as stack:
        _guard_generators(stack)
        _guard_modules(inner, stack)
        devices = {tensor.device.type for tensor in inner.parameters()} | {"cpu"}
        for device in devices - {"meta"}:
            stack.enter_context(torch.autocast(device, enabled=False, cache_enabled=False))
        if "torch._dynamo" in sys.modules:  # importing it takes a second, and nothing is compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield inner


def _guard_modules(model: nn.Module, stack: ExitStack) -> None:
    for module in model.modules():
        # The flag and not eval(), since a model's own eval() may do more (merge LoRA's weights).
        stack.callback(setattr, module, "training", module.training)
        if not isinstance(module, torch.jit.ScriptModule):
            stack.callback(_rebind, module.__dict__, dict(module.__dict__))
            stack.callback(_rebind, module._buffers, dict(module._buffers))
        module.training = False
    for buffer in model.buffers():
        stack.callback(_rewrite, buffer, buffer._version, buffer.detach().clone())


def _rebind(attributes: dict[str, Any], saved: dict[str, Any]) -> None:
    attributes.clear()
    attributes.update(saved)


def _rewrite(buffer: torch.Tensor, version: int, saved: torch.Tensor) -> None:
    if buffer._version != version:
        buffer.data.copy_(saved)


def _guard_generators(stack: ExitStack) -> None:
    stack.callback(torch.set_rng_state, torch.get_rng_state())
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        stack.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
    stack.callback(random.setstate, random.getstate())
