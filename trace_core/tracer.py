"""Tracer: watches an optimiser's steps through its hooks; the training loop is unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trace_core.collect import collect
from trace_core.errors import TraceError, look_up
from trace_core.importance import IMPORTANCES
from trace_core.observation import Observation
from trace_core.recording import Recording
from trace_core.stability import TRAILING
from trace_core.statistics import STATISTICS_VERSION
from trace_core.storage import from_arrays, to_arrays
from trace_core.trace import Trace

ANCHORED_BELOW = 10_000_000
"""Elements of a model from which no copy of its first parameters is kept unless asked for."""


_STATE = {"identity", "step", "arrays", "origins"}


class Tracer:
    """Records the statistics of ``model``'s parameters at the steps of ``optimizer``.

    importance: name of an estimator in `trace_core.importance.IMPORTANCES`.
    every: steps from one observation to the next; step 0 is observed.
    histogram_every: observations from one histogram of the importance to the next.
    anchors: observed steps before which a copy of the parameters is kept, from where displacements
        are measured; by default step 0 if the model has under 10 million elements, none otherwise.
    on_observation: called with an `Observation` after each observed step.

    Weights, gradients and random generators are never touched: a training is bitwise the same
    without it. The gradient is read after the step, so that a closure's is seen. Beside the trace,
    a copy of the optimiser's parameters is held, one more per anchor, and tiles of a fixed size
    while a step is read.

    Raises TraceError for a model without trainable parameters or with complex ones, an optimiser
    that owns none of them, or a setting out of range; and, in ``optimizer.step()``, for a parameter
    whose shape, dtype or device is not what it was when the tracer was made.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        importance: str = "taylor",
        every: int = 1,
        histogram_every: int = 1,
        anchors: Sequence[int] | None = None,
        on_observation: Callable[[Observation], None] | None = None,
    ) -> None:
        named = dict(model.named_parameters())
        self._names = tuple(named)
        self._parameters = tuple(named.values())
        self._positions = {
            id(parameter): position for position, parameter in enumerate(self._parameters)
        }
        self._kinds = [_kind(parameter) for parameter in self._parameters]
        self._optimizer = optimizer
        self._importance = look_up(importance, IMPORTANCES, "importance")
        self._every = _at_least_one("every", every)
        self._histogram_every = _at_least_one("histogram_every", histogram_every)
        sizes = [parameter.numel() for parameter in self._parameters]
        if anchors is None:
            anchors = (0,) if sum(sizes) < ANCHORED_BELOW else ()
        self._anchors = self._checked_anchors(anchors)
        self._on_observation = on_observation
        self._require_traceable()
        self._recording = Recording.empty(
            self._names, sizes, self._every, importance, self._anchors
        )
        self._step = 0
        self._before: dict[int, Tensor] = {}
        self._learning_rates: dict[int, float] = {}
        self._origins: dict[int, dict[int, Tensor]] = {}
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def _checked_anchors(self, anchors: Sequence[int]) -> tuple[int, ...]:
        for anchor in anchors:
            if not isinstance(anchor, int) or anchor < 0 or anchor % self._every:
                raise TraceError(
                    f"anchors has {anchor!r}; an anchor is an observed step: "
                    f"a multiple of every={self._every}, from 0"
                )
        return tuple(sorted(set(anchors)))

    def _require_traceable(self) -> None:
        if not any(parameter.requires_grad for parameter in self._parameters):
            raise TraceError(
                "the model has no trainable parameters; a trace needs one with requires_grad=True"
            )
        for name, parameter in zip(self._names, self._parameters, strict=True):
            if not parameter.is_floating_point():
                raise TraceError(
                    f"parameter {name!r} is {parameter.dtype}; only real floating-point is traced"
                )
        if not self._owned():
            raise TraceError(
                "the optimizer owns none of the model's parameters; give it those of this model"
            )

    def _owned(self) -> dict[int, float]:
        """Return the learning rate of each parameter of the model that the optimiser owns, in the
        model's order.

        Read anew at every observation, since groups may be added and schedules change the rate.
        """
        rates = {
            self._positions[id(parameter)]: float(group.get("lr", np.nan))
            for group in self._optimizer.param_groups
            for parameter in group["params"]
            if id(parameter) in self._positions
        }
        return dict(sorted(rates.items()))

    # ---- at each step

    @torch.no_grad()
    def _before_step(self, *_: Any) -> None:
        if self._step % self._every:
            return
        self._learning_rates = self._owned()
        for position in self._learning_rates:
            parameter = self._parameters[position]
            if _kind(parameter) != self._kinds[position]:
                raise TraceError(
                    f"parameter {self._names[position]!r} is {_describe(_kind(parameter))} at step "
                    f"{self._step} and was {_describe(self._kinds[position])} when the tracer was "
                    f"made; make the tracer after such changes"
                )
            if position not in self._before:
                self._before[position] = torch.empty_like(parameter, requires_grad=False)
        torch._foreach_copy_(
            [self._before[position] for position in self._learning_rates],
            [self._parameters[position] for position in self._learning_rates],
        )
        if self._step in self._anchors:
            self._origins[self._step] = {}
        for origin in self._origins.values():
            # One that joins the optimiser after the anchor has stood still until now.
            for position in self._learning_rates:
                if position not in origin:
                    origin[position] = self._before[position].clone()

    def _after_step(self, *_: Any) -> None:
        step, self._step = self._step, self._step + 1
        if step % self._every:
            return
        gradients: dict[int, Tensor] = {}
        for position in self._learning_rates:
            gradient = self._parameters[position].grad
            if gradient is not None and gradient.numel():
                gradients[position] = gradient.to_dense() if gradient.is_sparse else gradient
        active = list(gradients)
        origins = [self._origins.get(anchor) for anchor in self._anchors]
        collected = collect(
            [self._before[position] for position in active],
            [self._parameters[position] for position in active],
            list(gradients.values()),
            [None if origin is None else [origin[i] for i in active] for origin in origins],
            self._importance,
            histogram=len(self._recording) % self._histogram_every == 0,
        )
        learning_rates = np.full(len(self._names), np.nan)
        learning_rates[list(self._learning_rates)] = list(self._learning_rates.values())
        self._recording.append(step, learning_rates, active, collected.statistics)
        if collected.tally is not None:
            self._recording.append_histogram(active, collected.tally, collected.small)
        if self._on_observation is not None:
            self._on_observation(self._observe())

    def _observe(self) -> Observation:
        return Observation.last_of(self._recording.tail(TRAILING))

    # ---- what was seen

    @property
    def latest(self) -> Observation | None:
        """The last observation, None before the first; its cost doesn't grow with the run."""
        return self._observe() if len(self._recording) else None

    def trace(self) -> Trace:
        """Return all that was observed so far; later steps don't change it."""
        return self._recording.trace()

    def close(self) -> None:
        """Stop watching and let go of the copies of parameters; the trace stays. Closing twice is
        harmless.
        """
        for hook in self._hooks:
            hook.remove()
        self._before.clear()
        self._origins.clear()

    def __enter__(self) -> Tracer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ---- across an interruption

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed training needs to go on with this trace, bitwise: tensors and
        primitives alone.
        """
        arrays = to_arrays(self.trace())
        return {
            "identity": self._identity(),
            "step": self._step,
            "arrays": {name: torch.from_numpy(array.copy()) for name, array in arrays.items()},
            "origins": {
                anchor: {
                    self._names[position]: tensor.clone() for position, tensor in origin.items()
                }
                for anchor, origin in self._origins.items()
            },
        }

    def _identity(self) -> dict[str, Any]:
        start = self.trace()
        return {
            "statistics_version": STATISTICS_VERSION,
            "tensors": list(start.tensors),
            "layers": list(start.layers),
            "sizes": start.sizes.tolist(),
            "importance": start.importance,
            "every": self._every,
            "histogram_every": self._histogram_every,
            "anchors": list(self._anchors),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, before the next step.

        Raises TraceError if it was made for other parameters or with other settings than this
        tracer's.
        """
        if not isinstance(state, dict) or not set(state) >= _STATE:
            raise TraceError(
                f"not the state of a tracer: it must be a dict with {', '.join(sorted(_STATE))}"
            )
        ours, theirs = self._identity(), state["identity"]
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise TraceError(
                    f"the state was saved with {name} {theirs.get(name)!r}; "
                    f"this tracer has {value!r}"
                )
        arrays = {name: tensor.numpy(force=True) for name, tensor in state["arrays"].items()}
        self._recording = Recording(from_arrays(Trace, theirs, arrays))
        self._step = state["step"]
        self._origins = {
            anchor: {
                position: origin[name].to(self._parameters[position].device, copy=True)
                for position, name in enumerate(self._names)
                if name in origin
            }
            for anchor, origin in state["origins"].items()
        }


Kind = tuple[torch.Size, torch.dtype, torch.device]


def _kind(parameter: Tensor) -> Kind:
    return parameter.shape, parameter.dtype, parameter.device


def _describe(kind: Kind) -> str:
    return f"{tuple(kind[0])} {kind[1]} on {kind[2]}"


def _at_least_one(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise TraceError(f"{name} is {value!r}; it must be a whole number from 1")
    return value
