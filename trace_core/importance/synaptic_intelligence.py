"""Synaptic intelligence: what each parameter's own way has contributed to the fall of the loss.

    ωᵢ = Σₜ −gᵢ(t) · (θᵢ(t+1) − θᵢ(t)) since the anchor,  cᵢ = |ωᵢ| / (Δᵢ² + ξ),

with Δ the displacement since the anchor. ω is the path integral of the gradient, so that Σᵢ ωᵢ is
the fall of the loss, as far as steps are small and gradients are those of the whole loss. With the
gradients of batches it comes out too large, as the paper notes.

Source: Zenke, Poole and Ganguli 2017 (arXiv 1703.04200), equations 3 and 5. ξ keeps c bounded where
Δ is 0: they take 1e-3 for split MNIST and 0.1 for permuted MNIST (sections 5.1 and 5.2). Their code
(ganguli-lab/pathint) sets negative c to 0; c is |ω| here, since a parameter that worked against the
loss has mattered too. Where Δ² is far below ξ, c is |ω|/ξ.

Cost: no passes; per observed step one read of θ before, θ after and g; two numbers a parameter are
kept. When to use: to ask which parameters did the learning of a phase. With ``every=k`` each
observed step stands for k: the integral is estimated from every k-th step, not summed over all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trace_core.errors import TraceError, positive
from trace_core.importance.probe import at_least_single

XI = 1e-3
"""ξ of the paper's split MNIST, in squared units of the parameters."""


class SynapticIntelligence:
    """The path integral since the last anchor, parameter by parameter.

    Keeps ω and a copy of the anchor's θ of each parameter that was updated or anchored. Nothing
    that it is given is written to. Raises TraceError unless ξ is positive and finite.
    """

    def __init__(self, xi: float = XI) -> None:
        self.xi = positive("xi", xi)
        self._omega: dict[str, Tensor] = {}
        self._origins: dict[str, Tensor] = {}

    @torch.no_grad()
    def restart(self, parameters: Mapping[str, Tensor]) -> None:
        """Set an anchor: ω of these parameters is 0 from here; others are forgotten."""
        self._omega.clear()
        self._origins.clear()
        for name, parameter in parameters.items():
            self._take_up(name, parameter)

    @torch.no_grad()
    def update(
        self,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        scale: float = 1.0,
    ) -> None:
        """Add one step of the parameters that ``gradients`` names, which the other two hold too.

        One that wasn't there at the anchor (unfrozen since) has stood still until now. scale: the
        number of steps that this one stands for, k with ``every=k``.

        O(parameters) time, and memory for one copy of them during the call. Raises TraceError for a
        parameter that has changed its shape since the anchor.
        """
        for name in gradients:
            self._take_up(name, before[name])
        if not gradients:
            return
        omega = [self._omega[name] for name in gradients]
        delta = torch._foreach_sub(
            _in_dtype([after[name] for name in gradients], omega),
            _in_dtype([before[name] for name in gradients], omega),
        )
        dense = [g.to_dense() if g.is_sparse else g for g in gradients.values()]
        torch._foreach_addcmul_(omega, _in_dtype(dense, omega), delta, value=-float(scale))

    @torch.no_grad()
    def values(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return c ≥ 0 of these parameters, from where they are now; 0 for one never updated.

        In float32 or, for float64 parameters, float64; each of its parameter's shape and device.
        """
        for name, parameter in parameters.items():
            self._take_up(name, parameter)
        if not parameters:
            return {}
        omega = [self._omega[name] for name in parameters]
        damped = torch._foreach_sub(
            _in_dtype(list(parameters.values()), omega),
            _in_dtype([self._origins[name] for name in parameters], omega),
        )
        damped = torch._foreach_pow(damped, 2)
        torch._foreach_add_(damped, self.xi)
        found = torch._foreach_abs(omega)
        torch._foreach_div_(found, damped)
        return dict(zip(parameters, found, strict=True))

    def path_integral(self) -> dict[str, Tensor]:
        """Return copies of ω of each parameter, signed: positive where it made the loss fall."""
        return {name: omega.clone() for name, omega in self._omega.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all that is needed to go on, bitwise: tensors and primitives alone."""
        return {
            "xi": self.xi,
            "omega": self.path_integral(),
            "origins": {name: origin.clone() for name, origin in self._origins.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned. Raises TraceError for another ξ, and for what it
        doesn't return, and stays as it is then.
        """
        if not isinstance(state, Mapping) or not {"xi", "omega", "origins"} <= set(state):
            raise TraceError("not the state of synaptic intelligence: it has xi, omega, origins")
        if state["xi"] != self.xi:
            raise TraceError(f"the state was saved with xi {state['xi']}; here it is {self.xi}")
        omega, origins = state["omega"], state["origins"]
        if not _alike(omega, origins):
            raise TraceError(
                "the state of synaptic intelligence is damaged: omega and origins must be dicts of "
                "the same tensors by name, of the same shapes, omega at least in float32"
            )
        self._omega = {name: tensor.clone() for name, tensor in omega.items()}
        self._origins = {name: tensor.clone() for name, tensor in origins.items()}

    def _take_up(self, name: str, parameter: Tensor) -> None:
        """Anchor a parameter that isn't yet, and follow one to its device."""
        origin = self._origins.get(name)
        if origin is None:
            self._origins[name] = parameter.detach().clone()
            self._omega[name] = torch.zeros_like(
                parameter, dtype=at_least_single(parameter), requires_grad=False
            )
        elif origin.shape != parameter.shape:
            raise TraceError(
                f"parameter {name!r} has shape {tuple(parameter.shape)} and had "
                f"{tuple(origin.shape)} at the anchor; restart after such changes"
            )
        elif origin.device != parameter.device:
            self._origins[name] = origin.to(parameter.device)
            self._omega[name] = self._omega[name].to(parameter.device)


def _alike(omega: object, origins: object) -> bool:
    """Whether these are what is kept of some parameters."""
    if not isinstance(omega, Mapping) or not isinstance(origins, Mapping):
        return False
    return omega.keys() == origins.keys() and all(
        isinstance(name, str)
        and isinstance(ours, Tensor)
        and isinstance(origin, Tensor)
        and ours.shape == origin.shape
        and origin.is_floating_point()
        and ours.dtype == at_least_single(origin)
        for (name, ours), origin in zip(omega.items(), map(origins.get, omega), strict=True)
    )


def _in_dtype(tensors: list[Tensor], like: list[Tensor]) -> list[Tensor]:
    return [tensor.detach().to(other.dtype) for tensor, other in zip(tensors, like, strict=True)]
