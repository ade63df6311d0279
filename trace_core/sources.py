"""Where the importance of an observation comes from: one step's θ and g, a probe, or the path."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trace_core.errors import TraceError, require_known
from trace_core.importance import ESTIMATORS, IMPORTANCES, PROBED, Probe, SynapticIntelligence
from trace_core.importance.probe import require_probe
from trace_core.importance.undisturbed import bare
from trace_core.names import plain_name
from trace_core.saved import require_keys

PATH = "synaptic_intelligence"
LARGE = 1_000_000
"""Elements from which a model is large."""


class Source:
    """Importance of single elements from θ before the step and the gradient that made it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def histogram_every(self, elements: int) -> int:
        """Return the observations from one histogram to the next, unless the tracer is told
        otherwise: in a large model a histogram adds half to the cost of a pass.
        """
        return 1 if elements < LARGE else 8

    def known(self, *, histogram: bool) -> bool:
        """Whether an observation has an importance, with or without a histogram."""
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs of it."""
        return {}

    def resumed(
        self, state: Mapping[str, Any], parameters: Mapping[str, Tensor], moved: Collection[str]
    ) -> Source:
        """Return this source as a `state_dict` had it, of ``parameters`` of which some have moved
        since the last anchor.

        Raises TraceError, TypeError or ValueError for what no state holds.
        """
        require_keys("the state of this importance", state, (), ())
        return self


class OtherSource(Source):
    """Importance that has to be worked out otherwise, and is handed to the pass."""

    def begin(self, parameters: Mapping[str, Tensor], *, anchor: bool, histogram: bool) -> None:
        """An observed step is about to be taken with these parameters."""

    def values(
        self,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        *,
        histogram: bool,
    ) -> dict[str, Tensor]:
        """Return c of the tensors that a step moved, which ``gradients`` names."""
        raise NotImplementedError


class ProbeSource(OtherSource):
    """An estimator of `PROBED`, made anew for each histogram and unknown between them."""

    def __init__(self, name: str, model: nn.Module, probe: Probe) -> None:
        super().__init__(name)
        self._model = bare(model)
        self._probe = probe
        self._options: dict[str, Any] = {}
        self._found: dict[str, Tensor] = {}

    def histogram_every(self, elements: int) -> int:
        """Return 100, since each takes passes through the model."""
        return 100

    def begin(self, parameters: Mapping[str, Tensor], *, anchor: bool, histogram: bool) -> None:
        """Estimate, if a histogram is due."""
        if not histogram:
            return
        found = PROBED[self.name](self._model, self._probe, **self._options)
        if getattr(found, "method", None) == "loop":
            self._options = {"method": "loop"}
        self._found = {plain_name(name): values for name, values in found.items()}

    def known(self, *, histogram: bool) -> bool:
        """Whether a histogram was taken."""
        return histogram

    def values(
        self,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        *,
        histogram: bool,
    ) -> dict[str, Tensor]:
        """Return the estimate, 0 for what it left out, and anything where there is none."""
        if not histogram:
            return dict(gradients)
        return {
            name: self._found[name] if name in self._found else torch.zeros_like(tensor)
            for name, tensor in before.items()
        }


class PathSource(OtherSource):
    """Synaptic intelligence: accumulated at every observation, anew from each anchor."""

    def __init__(self, every: int) -> None:
        super().__init__(PATH)
        self._path = SynapticIntelligence()
        self._every = every

    def begin(self, parameters: Mapping[str, Tensor], *, anchor: bool, histogram: bool) -> None:
        """Start anew at an anchor."""
        if anchor:
            self._path.restart(parameters)

    def values(
        self,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        *,
        histogram: bool,
    ) -> dict[str, Tensor]:
        """Add the step, and return what has come together."""
        self._path.update(before, after, gradients, float(self._every))
        return self._path.values(after)

    def state_dict(self) -> dict[str, Any]:
        """Return the path so far."""
        return self._path.state_dict()

    def resumed(
        self, state: Mapping[str, Any], parameters: Mapping[str, Tensor], moved: Collection[str]
    ) -> Source:
        """Return the source of the same path."""
        found = PathSource(self._every)
        found._path.load_state_dict(state)
        require_keys("origins", state["origins"], moved, parameters)
        for name, origin in state["origins"].items():
            ours = parameters[name]
            if (origin.shape, origin.dtype) != (ours.shape, ours.dtype):
                raise ValueError(
                    f"origins has {name!r} of shape {tuple(origin.shape)} and {origin.dtype}; the "
                    f"parameter has {tuple(ours.shape)} and {ours.dtype}"
                )
        return found


def source(
    name: str, model: nn.Module, probe: Probe | None, every: int, *, sharded: bool
) -> Source:
    """Return the source of an importance.

    Raises TraceError for an unknown name, one that needs a probe without it, a probe that nothing
    needs, and one on a model whose parameters are sharded.
    """
    require_known(name, {**ESTIMATORS, **IMPORTANCES}, "importance")
    if probe is not None:
        require_probe(probe)
    if (name in PROBED) != (probe is not None):
        raise TraceError(
            f"importance {name!r} needs samples to be estimated on: Tracer(..., probe=Probe(batch, "
            "loss))"
            if probe is None
            else f"importance {name!r} takes no probe; those that do: {', '.join(PROBED)}"
        )
    if probe is not None and sharded:
        raise TraceError(
            f"importance {name!r} runs the model apart from the training, which isn't done with "
            f"sharded parameters; those that can be had: {', '.join((*IMPORTANCES, PATH))}"
        )
    if probe is not None:
        return ProbeSource(name, model, probe)
    return PathSource(every) if name == PATH else Source(name)
