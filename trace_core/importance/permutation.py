"""Permutation: what the loss rises by when the entries of a unit are shuffled.

    rise(u) = mean over R shuffles π of L(θ with each tensor of u shuffled by π) − L(θ)

Source: permutation importance (Breiman 2001, "Random Forests", section 10), with the weights of a
unit in the place of a feature's values. A shuffle keeps the distribution of each tensor and
destroys which weight is where: it asks what the arrangement is worth, and not the scale.

Cost: U × R + 1 forward passes. When to use: beside ablation, where zeros are too unlike any trained
weight. A mean over few shuffles is noisy: compare rises with their spread between seeds. Shuffling
changes nothing in a tensor of equal entries (biases at zero, scales at one): it reads 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trace_core.errors import whole_number
from trace_core.importance.probe import Probe
from trace_core.importance.units import rises, spread


def permutation_rises(
    model: nn.Module, probe: Probe, *, unit: str = "layer", repeats: int = 5, seed: int = 0
) -> dict[str, float]:
    """Return the mean rise in the probe's loss over ``repeats`` shuffles of each unit, in units of
    the loss; negative where the model does better shuffled.

    unit: ``tensor``, ``layer`` (the module that owns the tensors) or ``block`` (see
    `trace_core.names.block_of`); of each, the trainable tensors, each shuffled within itself.
    seed: of a generator of its own; the same seed gives the same shuffles at every call.

    Raises TraceError for another unit, for ``repeats`` under 1, or a seed that is no whole number.
    """
    repeats = whole_number("repeats", repeats, 1)
    generator = torch.Generator().manual_seed(whole_number("seed", seed))

    def shuffle(weight: Tensor, values: Tensor) -> None:
        # Drawn on the processor, so that the shuffles don't depend on the device.
        order = torch.randperm(values.numel(), generator=generator).to(values.device)
        weight.copy_(values.reshape(-1)[order].view(weight.shape))

    return rises(model, probe, unit, shuffle, repeats)


def permutation(
    model: nn.Module, probe: Probe, *, unit: str = "layer", repeats: int = 5, seed: int = 0
) -> dict[str, Tensor]:
    """Return c ≥ 0 of each trainable parameter: `permutation_rises`, floored at 0 and spread evenly
    over each unit's elements.
    """
    found = permutation_rises(model, probe, unit=unit, repeats=repeats, seed=seed)
    return spread(model, found, unit)
