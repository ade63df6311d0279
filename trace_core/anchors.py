"""Where the parameters were before declared steps: exact copies, or sketches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from trace_core.errors import TraceError
from trace_core.followed import Followed
from trace_core.trace import Trace

EXACT_BELOW_ELEMENTS = 10_000_000
"""Elements of a model from which anchors are sketched unless told otherwise."""


class Anchors:
    """The anchors of a tracer. Raises TraceError for a step that isn't observed."""

    def __init__(
        self, followed: Followed, steps: Sequence[int], every: int, exact: bool | None
    ) -> None:
        for step in steps:
            if not isinstance(step, int) or step < 0 or step % every:
                raise TraceError(
                    f"anchors has {step!r}; an anchor is an observed step: "
                    f"a multiple of every={every}, from 0"
                )
        self._followed = followed
        self.steps = tuple(sorted(set(steps)))
        if exact is None:
            exact = followed.elements < EXACT_BELOW_ELEMENTS
        self.exact = self.steps if exact else ()
        self.sketched = () if exact else self.steps
        self._origins: dict[int, dict[int, Tensor]] = {}
        self._joined: set[int] = set()

    @property
    def origins(self) -> list[dict[int, Tensor]]:
        """The copies of the exact anchors reached so far, by position."""
        return list(self._origins.values())

    def reach(self, step: int, positions: Sequence[int], before: Mapping[int, Tensor]) -> None:
        """Take down where the tensors are before an observed step."""
        if step in self.exact and step not in self._origins:
            self._origins[step] = {}
        for origin in self._origins.values():
            if len(origin) < len(before):
                # One that joins the optimiser after the anchor has stood still until now.
                for position in positions:
                    if position not in origin and position in before:
                        origin[position] = before[position].clone()

    def complete(self, trace: Trace, step: int) -> Trace:
        return trace

    def close(self, step: int) -> None:
        self._origins.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed training needs."""
        return {
            "origins": {
                anchor: {self._followed.names[i]: tensor.clone() for i, tensor in origin.items()}
                for anchor, origin in self._origins.items()
            }
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._origins = {
            anchor: {
                position: origin[name].to(self._followed.local(position).device, copy=True)
                for position, name in enumerate(self._followed.names)
                if name in origin
            }
            for anchor, origin in state["origins"].items()
        }
