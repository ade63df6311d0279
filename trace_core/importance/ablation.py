"""Ablation: what the loss rises by when a unit is set to zero.

    rise(u) = L(θ with θ_u = 0) − L(θ), L the loss of the probe

Source: the saliency of pruning, measured rather than approximated (LeCun, Denker and Solla 1990,
"Optimal Brain Damage"); `taylor` is its first-order approximation for single parameters (Molchanov
et al. 2019, arXiv 1906.10771).

Cost: U + 1 forward passes, U the number of units. When to use: to ask what the model's performance
hangs on, without trusting gradients. Units are removed one at a time: two that stand in for each
other both look unimportant, and zeroing a normalisation's scale cuts its whole branch off.
"""

from __future__ import annotations

from torch import Tensor, nn

from trace_core.importance.probe import Probe
from trace_core.importance.units import rises, spread


def ablation_rises(model: nn.Module, probe: Probe, *, unit: str = "layer") -> dict[str, float]:
    """Return the rise in the probe's loss when each unit is zeroed, in units of the loss; negative
    where the model does better without.

    unit: ``tensor``, ``layer`` (the module that owns the tensors) or ``block`` (see
    `trace_core.names.block_of`); of each, the trainable tensors. Raises TraceError for another.
    """
    return rises(model, probe, unit, lambda weight, values: weight.zero_())


def ablation(model: nn.Module, probe: Probe, *, unit: str = "layer") -> dict[str, Tensor]:
    """Return c ≥ 0 of each trainable parameter: `ablation_rises`, floored at 0 and spread evenly
    over each unit's elements.
    """
    return spread(model, ablation_rises(model, probe, unit=unit), unit)
