"""Units of parameters that are disturbed together, and the rise in loss when they are: what the
performance-based estimators share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from trace_core.errors import look_up
from trace_core.importance.probe import Probe, at_least_single, require_probe, trainable
from trace_core.importance.undisturbed import undisturbed
from trace_core.names import block_of, layer_of

UNITS: dict[str, Callable[[str], str]] = {
    "tensor": lambda tensor: tensor,
    "layer": layer_of,
    "block": lambda tensor: block_of(layer_of(tensor)),
}
"""Name of a tensor → name of its unit, by kind of unit."""

Disturbance = Callable[[Tensor, Tensor], object]
"""(weights, their values): writes disturbed values into the weights."""


def rises(
    model: nn.Module, probe: Probe, unit: str, disturb: Disturbance, repeats: int = 1
) -> dict[str, float]:
    """Return, for each of the U units, the mean loss over ``repeats`` disturbances of all its
    trainable tensors, less the loss of the model as it is.

    U × repeats + 1 forward passes over the whole batch, without gradients, each with the random
    generators as they were. The weights are written in place and are as before at the end, to the
    bit, also after an error. O(largest unit) memory.
    """
    require_probe(probe)
    named = trainable(model)
    baseline = _loss(model, probe)
    found = {}
    for name, members in _members(named, unit).items():
        # Through .data, so that a graph which holds these weights doesn't count them as changed.
        weights = [named[member].data for member in members]
        saved = [weight.clone() for weight in weights]
        losses = []
        try:
            for _ in range(repeats):
                for weight, values in zip(weights, saved, strict=True):
                    disturb(weight, values)
                losses.append(_loss(model, probe))
        finally:
            for weight, values in zip(weights, saved, strict=True):
                weight.copy_(values)
        found[name] = sum(losses) / repeats - baseline
    return found


def spread(model: nn.Module, rises: Mapping[str, float], unit: str) -> dict[str, Tensor]:
    """Return c of each trainable parameter: its unit's rise, floored at 0, in equal parts over the
    unit's elements, so that the sum over a unit is its rise.
    """
    named = trainable(model)
    found = {}
    for name, members in _members(named, unit).items():
        size = sum(named[member].numel() for member in members)
        share = max(rises[name], 0.0) / size if size else 0.0
        for member in members:
            tensor = named[member].detach()
            found[member] = torch.full_like(tensor, share, dtype=at_least_single(tensor))
    return {name: found[name] for name in named}


def _members(named: Mapping[str, Tensor], unit: str) -> dict[str, list[str]]:
    """Return the tensors of each unit, both in the model's order."""
    unit_of = look_up(unit, UNITS, "unit")
    members: dict[str, list[str]] = {}
    for name in named:
        members.setdefault(unit_of(name), []).append(name)
    return members


def _loss(model: nn.Module, probe: Probe) -> float:
    with undisturbed(model) as inner, torch.no_grad():
        batch = probe.samples(0, probe.size)
        return float(probe.scalar_loss(probe.forward(inner, batch), batch))
