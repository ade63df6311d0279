"""Diagonal of the empirical Fisher information.

    cᵢ = (1/B) Σₖ (∂ℓₖ/∂θᵢ)², ℓₖ the loss of sample k of the probe

Source: Kirkpatrick et al. 2017 (arXiv 1612.00796) weigh parameters by the diagonal of the Fisher
information. That is a mean over labels drawn from the model's own prediction. The empirical Fisher
takes the labels of the data instead; so does this one, since a probe has labels and a loss, and
needn't say which distribution that loss stands for. Kunstner, Balles and Hennig 2019 (arXiv
1905.12558) show what this costs: it is no approximation of the curvature in general, and comes near
the Fisher only if the model has the right form, fits the data, and there are many of them. Read it
as the mean squared sensitivity of a sample's loss; it tends to 0 for a model that interpolates the
probe. For a Monte Carlo estimate of the true Fisher give a probe with labels drawn from the model,
and the negative log-likelihood as its loss.

It is not the square of the batch's mean gradient: where samples pull apart, their gradients cancel
there, and add up here.

Cost: B forward and B backward passes of one sample. When to use: to ask which parameters the loss
of single samples hangs on, also near a minimum, where mean gradients vanish.
"""

from __future__ import annotations

from torch import nn

from trace_core.importance.per_sample import Estimate, mean_over_samples
from trace_core.importance.probe import Probe, require_probe


def fisher(
    model: nn.Module, probe: Probe, *, method: str = "auto", chunk: int | None = None
) -> Estimate:
    """Return the diagonal empirical Fisher information of each trainable parameter, in squared
    units of the loss per unit of the parameter.

    method, chunk: see `mean_over_samples`; they change time and memory, and the result by rounding
    alone. The estimate's ``method`` tells which was used. Raises TraceError as that does.
    """
    return mean_over_samples(
        model,
        probe,
        require_probe(probe).scalar_loss,
        lambda gradient: gradient.square(),
        method=method,
        chunk=chunk,
    )
