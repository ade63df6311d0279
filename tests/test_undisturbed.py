"""Watching doesn't change what is watched: each architecture, each optimiser, to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from search_spaces import architecture_names, get_architecture, get_task, initialise
from trace_core import Tracer

# Those whose models need nothing but settings.
OWN = [name for name in architecture_names() if get_architecture(name).source is None]
OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
}


def train(architecture: str, optimizer: str, watched: bool) -> tuple[Any, ...]:
    """Weights, losses, optimiser state and generator state after twelve steps."""
    torch.manual_seed(1)
    task = get_task("digits")
    part = task.data().train
    model = get_architecture(architecture).build(task.shape)
    initialise(model, "kaiming_normal")
    # Noise on the inputs draws from the generator at every step, as dropout would.
    steps = OPTIMIZERS[optimizer](model.parameters())
    tracer = Tracer(model, steps, on_observation=lambda seen: seen.score()) if watched else None
    losses = []
    for step in range(12):
        rows = slice(64 * step, 64 * step + 64)
        inputs = torch.from_numpy(part.inputs[rows])
        loss = task.loss(
            model(inputs + 0.01 * torch.randn_like(inputs)), torch.from_numpy(part.targets[rows])
        )
        steps.zero_grad()
        torch.autograd.backward(loss)
        steps.step()
        losses.append(loss.detach())
    if tracer is not None:
        assert len(tracer.trace()) == 12
    state = [
        value
        for held in steps.state_dict()["state"].values()
        for value in held.values()
        if isinstance(value, torch.Tensor)
    ]
    return [*model.parameters()], losses, state, [torch.get_rng_state()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("architecture", OWN)
def test_training_is_bitwise_the_same_with_the_tracer(architecture: str, optimizer: str) -> None:
    plain = train(architecture, optimizer, watched=False)
    watched = train(architecture, optimizer, watched=True)
    for expected, found in zip(plain, watched, strict=True):
        assert len(expected) == len(found) > 0
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
