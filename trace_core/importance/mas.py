"""Memory aware synapses: sensitivity of the model's output, whatever the labels.

    cᵢ = (1/B) Σₖ |∂ ‖F(xₖ)‖² / ∂θᵢ|, F the model's output

Source: Aljundi et al. 2018 (arXiv 1711.09601), section 4.1, for outputs of several dimensions.

Cost: B forward and B backward passes of one sample. When to use: without labels, or near a minimum
of the loss, where its gradients tell little. It changes with what leaves the predictions as they
are, such as a constant added to all logits, and grows with the size of the outputs.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from trace_core.importance.per_sample import Estimate, mean_over_samples
from trace_core.importance.probe import Probe, at_least_single, output_tensor


def mas(
    model: nn.Module, probe: Probe, *, method: str = "auto", chunk: int | None = None
) -> Estimate:
    """Return the sensitivity of the squared norm of the output to each trainable parameter, in
    squared units of the output per unit of the parameter. The probe's loss is not called.

    method, chunk: see `mean_over_samples`; they change time and memory, and the result by rounding
    alone. The estimate's ``method`` tells which was used. Raises TraceError as that does, and for
    outputs that are neither a tensor nor have ``logits``.
    """
    return mean_over_samples(
        model, probe, _squared_norm, lambda gradient: gradient.abs(), method=method, chunk=chunk
    )


def _squared_norm(outputs: Any, batch: Any) -> Tensor:
    output = output_tensor(outputs)
    return output.to(at_least_single(output)).square().sum()
