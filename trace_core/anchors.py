"""Where the parameters were before declared steps: exact copies or sketches of them, and the lists
of single parameters that are kept there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trace_core.collect import in_tiles
from trace_core.errors import TraceError, is_whole, require_kind
from trace_core.followed import Followed
from trace_core.saved import moved_since, require_keys
from trace_core.sketch import Sketches, sketch, width
from trace_core.statistics import Array
from trace_core.storage import require_sound
from trace_core.top import TopLists, foremost, greatest
from trace_core.trace import Trace

EXACT_BELOW_ELEMENTS = 1_000_000
"""Elements of a model from which anchors are sketched unless told otherwise. A copy is read at
every observation, which makes a pass over a large model a quarter dearer.
"""


class Anchors:
    """The anchors of a tracer.

    Raises TraceError for a step that isn't observed, and for sketches of sharded parameters.
    """

    def __init__(
        self, followed: Followed, steps: Sequence[int], every: int, exact: bool | None
    ) -> None:
        steps = _observed_steps(steps, every)
        if exact is not None:
            require_kind("exact_directness", exact, bool, "give True, False or None")
        small = followed.elements < EXACT_BELOW_ELEMENTS
        if followed.sharded and exact is False:
            raise TraceError(
                "exact_directness is False, and sharded parameters aren't sketched; keep copies "
                "with exact_directness=True, or nothing with anchors=()"
            )
        if followed.sharded and exact is None and not small:
            steps = ()
        self._followed = followed
        self._every = every
        self.steps = tuple(sorted(set(steps)))
        keeps_copies = small if exact is None else exact
        self.exact = self.steps if keeps_copies else ()
        self.sketched = () if keeps_copies else self.steps
        self._origins: dict[int, dict[int, Tensor]] = {}
        counters = sum(map(width, followed.sizes)) if self.sketched else 0
        self._sketches = Sketches(counters, len(self.sketched) + 1)
        self._top = TopLists.none()
        self._weighed: dict[int, tuple[float, list[tuple[float, int, int]]]] = {}
        self._closed = False
        self.origins: list[dict[int, Tensor]] = []
        """The copies of the exact anchors reached so far, by position."""

    # ---- at each step

    def reach(self, step: int, before: Mapping[int, Tensor]) -> None:
        """Take down where the tensors are before an observed step, given the snapshots."""
        if step in self.exact and step not in self._origins:
            self._top = self._with_moves(step)
            # The tensors themselves: a snapshot may be older than this round if its optimiser has
            # yet to step in it.
            self._origins[step] = {
                position: self._followed.local(position).detach().clone() for position in before
            }
            self.origins = list(self._origins.values())
        if step in self.sketched:
            self._sketch(step)
        for origin in self._origins.values():
            # One that joins the optimiser after the anchor has stood still until now.
            for position in before.keys() - origin.keys():
                origin[position] = before[position].clone()

    def displacements(self, position: int) -> list[float]:
        """Return the squared distance of a tensor from each exact anchor reached so far."""
        now = self._followed.local(position).detach()
        return [
            sum(float((a - b).square_().sum()) for a, b in in_tiles(now, origin[position]))
            for origin in self.origins
        ]

    def unread(
        self, step: int, known: Collection[int], read: Sequence[Sequence[int]]
    ) -> dict[int, list[float]]:
        """Return the displacements of tensors that the observation of a step left alone, of those
        ``known``, where they may not be what they were: the tensors may have moved at the steps
        between two observations, and be NaN where an anchor is new.
        """
        stood_still = self._every == 1 and step not in self.exact
        if stood_still or not self.origins or sum(map(len, read)) == len(known):
            return {}
        found = {position for positions in read for position in positions}
        return {i: self.displacements(i) for i in known if i not in found}

    def weigh(self, position: int, importance: Iterable[Tensor]) -> None:
        """Take down the sum and the greatest of a tensor's importances at an anchor, given tile by
        tile.
        """
        self._weighed[position] = _weighed(position, importance)

    def list_important(self, step: int) -> None:
        """Keep the most important parameters of all the tensors weighed at an anchor."""
        total = sum(mass for mass, _ in self._weighed.values())
        shares = [
            (value / total, tensor, element)
            for _, found in self._weighed.values()
            for value, tensor, element in found
        ]
        self._weighed.clear()
        self._top = self._top.with_list("important", step, step + 1, shares)

    @torch.no_grad()
    def _with_moves(self, step: int) -> TopLists:
        """Return the lists, with those that moved most since the last exact anchor."""
        if self._followed.sharded or not self._origins or step <= max(self._origins):
            return self._top
        start, origin = max(self._origins), self._origins[max(self._origins)]
        found = []
        for position, tensor in origin.items():
            places = in_tiles(self._followed.local(position), tensor)
            moved = ((after - before).abs() for after, before in places)
            found += _weighed(position, moved)[1]
        return self._top.with_list("moved", start, step, found)

    @torch.no_grad()
    def _sketch(self, step: int) -> None:
        """Sketch all tensors as they are."""
        if step in self._sketches.steps:
            return
        row, start = self._sketches.add(step), 0
        for position, size in enumerate(self._followed.sizes):
            stop = start + width(size)
            row[start:stop] = sketch(_flat(self._followed.local(position)), position)
            start = stop

    # ---- what was seen

    def complete(self, trace: Trace, step: int | None) -> Trace:
        """Add what is known at the anchors, and after the last of ``step`` steps; None in the
        middle of one, when the parameters are at no end.
        """
        top = self._top
        anchors = len(self._sketches.steps)
        if step is not None and not self._closed and self._followed.unchanged():
            if anchors:
                self._sketch(step)
            top = self._with_moves(step)
        found = self._with(trace, self._sketches, top)
        if not self._closed:
            self._sketches.keep(anchors)
        return found

    @staticmethod
    def _with(trace: Trace, sketches: Sketches, top: TopLists) -> Trace:
        steps, rows = sketches.hand_out()
        return replace(trace, sketch_steps=steps, sketches=rows, top=top)

    def close(self, step: int) -> None:
        """Take down where the tensors are at the end, and let go of the copies."""
        if self._closed:
            return
        if self._followed.unchanged():
            if self._sketches.steps:
                self._sketch(step)
            self._top = self._with_moves(step)
        self._closed = True
        self._origins.clear()
        self.origins = []

    # ---- across an interruption

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed training needs: tensors and primitives alone."""
        return {
            "origins": {
                anchor: {self._followed.names[i]: tensor.clone() for i, tensor in origin.items()}
                for anchor, origin in self._origins.items()
            },
            "sketches": dict(
                zip(self._sketches.steps, map(torch.tensor, self._sketches.rows), strict=True)
            ),
            "top": [torch.from_numpy(part.copy()) for part in self._top],
        }

    def resumed(self, state: Mapping[str, Any], trace: Trace, step: int) -> Anchors:
        """Return these anchors as a `state_dict` had them after ``step`` steps, of which ``trace``
        was recorded.

        Raises TraceError for tensors of another shape or dtype, and AttributeError, KeyError,
        RuntimeError, TypeError or ValueError for what no state holds.
        """
        parts = ("origins", "sketches", "top")
        require_keys("it", state, parts, parts)
        passed, reached = ([at for at in self.exact if at < end] for end in (step, step + 1))
        require_keys("origins", state["origins"], passed, reached)
        sketched = [at for at in self.sketched if at < step]
        require_keys("sketches", state["sketches"], sketched, range(step + 1))
        found = copy(self)
        found._origins = {
            at: self._resumed_origin(origin, moved_since(trace, at))
            for at, origin in sorted(state["origins"].items())
        }
        found.origins = list(found._origins.values())
        found._weighed = {}
        found._sketches = self._sketches.filled(
            {at: _resumed_sketch(kept) for at, kept in sorted(state["sketches"].items())}
        )
        places, values = state["top"]
        found._top = TopLists(places.numpy(force=True), values.numpy(force=True))
        require_sound(found._with(trace, found._sketches, found._top))
        return found

    def _resumed_origin(
        self, origin: Mapping[str, Tensor], moved: Sequence[str]
    ) -> dict[int, Tensor]:
        names = self._followed.names
        require_keys("origins", origin, moved, names)
        return {
            position: self._laid_out(position, origin[name])
            for position, name in enumerate(names)
            if name in origin
        }

    @torch.no_grad()
    def _laid_out(self, position: int, origin: Tensor) -> Tensor:
        """Return a copy of what was kept of a tensor, on its device and in its memory layout."""
        local = self._followed.local(position)
        for name, kept, now in (
            ("shape", tuple(origin.shape), tuple(local.shape)),
            ("dtype", origin.dtype, local.dtype),
        ):
            if kept != now:
                raise TraceError(
                    f"the state was saved with parameter {self._followed.names[position]!r} of "
                    f"{name} {kept}; it has {now} here"
                )
        return torch.empty_like(local, requires_grad=False).copy_(origin)


def _observed_steps(steps: object, every: int) -> list[int]:
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise TraceError(f"anchors is {steps!r}; give a sequence of steps, such as (0, {every})")
    found = []
    for step in steps:
        if not is_whole(step) or step < 0 or step % every:
            raise TraceError(
                f"anchors has {step!r}; an anchor is an observed step: "
                f"a multiple of every={every}, from 0"
            )
        found.append(int(step))
    return found


def _resumed_sketch(kept: Tensor) -> Array:
    if kept.dtype != torch.float32:
        raise ValueError(f"sketches has one of {kept.dtype}")
    return kept.numpy(force=True)


def _weighed(position: int, tiles: Iterable[Tensor]) -> tuple[float, list[tuple[float, int, int]]]:
    """Return the sum of a tensor's values ≥ 0, and the greatest of them."""
    mass, start = 0.0, 0
    found: list[tuple[float, int, int]] = []
    for tile in tiles:
        values = _flat(tile)
        mass += float(values.sum())
        found = foremost([*found, *greatest(values, position, start)])
        start += len(values)
    return mass, found


def _flat(tensor: Tensor) -> Any:
    values = tensor.detach().reshape(-1)
    return (values if values.dtype == torch.float64 else values.float()).cpu().numpy()
