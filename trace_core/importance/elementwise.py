"""Importance c of single parameters, from θ before the step and the gradient that made it (design
§4.3).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trace_core.errors import TraceError, require_kind

ElementwiseImportance = Callable[[Tensor, Tensor], Tensor]
"""(θ, g) → c: flat float64 tensors of one length and device; c ≥ 0, a new tensor, no random
numbers.
"""

IMPORTANCES: dict[str, ElementwiseImportance] = {}
"""Estimators by name, in the order in which they were registered."""


def importance_estimator(name: str) -> Callable[[ElementwiseImportance], ElementwiseImportance]:
    """Register an estimator under ``name``: a decorator. Raises TraceError if the name is taken, or
    none is given.
    """
    require_kind("name", name, str, 'give the estimator a name: @importance_estimator("mine")')

    def register(estimator: ElementwiseImportance) -> ElementwiseImportance:
        if name in IMPORTANCES:
            raise TraceError(f"importance {name!r} is registered already; choose another name")
        IMPORTANCES[name] = estimator
        return estimator

    return register


@importance_estimator("uniform")
def uniform(theta: Tensor, gradient: Tensor) -> Tensor:
    """1 for every parameter, as in the article's code."""
    return torch.ones_like(theta)


@importance_estimator("magnitude")
def magnitude(theta: Tensor, gradient: Tensor) -> Tensor:
    """|θ|"""
    return theta.abs()


@importance_estimator("gradient")
def gradient(theta: Tensor, gradient: Tensor) -> Tensor:
    """|g|"""
    return gradient.abs()


@importance_estimator("taylor")
def taylor(theta: Tensor, gradient: Tensor) -> Tensor:
    """|θ·g|: first-order change of the loss when the parameter is zeroed (Molchanov et al. 2019,
    arXiv 1906.10771).

    Invariant to the rescaling of ReLU layers. Absolute, since the signed sum vanishes before
    BatchNorm.
    """
    return (theta * gradient).abs_()
