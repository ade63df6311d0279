"""One of the optimisers that a tracer watches: what it owns, and the pass over what it moved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress, repeat
from operator import attrgetter, is_not
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from trace_core.collect import collect, in_tiles
from trace_core.followed import Followed
from trace_core.importance import IMPORTANCES
from trace_core.kernel import library
from trace_core.kernel.plan import DTYPES, FACTORS, Plan, Workspace
from trace_core.observed import Observed
from trace_core.snapshots import Snapshots
from trace_core.sources import OtherSource, Source
from trace_core.statistics import FloatArray

PLANS = 8
"""Most plans of the compiled pass that are kept, each for another set of tensors with gradients."""
_NEVER = -1
_version = attrgetter("_version")


class Watched:
    """An optimiser, the tensors of a model that it owns, and their learning rates.

    ``flush`` is called where what was read must be drained before another step can be.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        followed: Followed,
        members: Sequence[Sequence[int]],
        flush: Callable[[], None],
    ) -> None:
        self.optimizer = optimizer
        self.positions: list[int] = []
        self.read_last: list[int] = []
        """Which of them the observation under way has read."""
        self.learning_rates: FloatArray = np.full(len(followed.names), np.nan)
        self._followed = followed
        self._members = members
        self._groups: list[list[Tensor]] = []
        self._of_group: list[list[int]] = []
        self._tensors: list[Tensor] = []
        """The tensors at these positions, none of a sharded model: its are always copied anew."""
        self._rates: list[float] = []
        self._flush = flush
        self.forget()
        self.read_groups()

    def read_groups(self) -> None:
        """Take in the optimiser's groups as they are: parameters may join, and rates change."""
        groups = self.optimizer.param_groups
        if not self._same(groups):
            self._groups = [list(group["params"]) for group in groups]
            self._of_group = [self._positions_of(tensors) for tensors in self._groups]
            # PyTorch lets a group name a tensor twice.
            self.positions = sorted({i for group in self._of_group for i in group})
            followed = self._followed
            self._tensors = (
                [] if followed.sharded else [followed.tensors[i] for i in self.positions]
            )
            self._distrust()
            self._rates = []
        rates = [_rate_of(group) for group in groups]
        if rates != self._rates:
            self._rates = rates
            self.learning_rates = np.full(len(self._followed.names), np.nan)
            for positions, rate in zip(self._of_group, rates, strict=True):
                self.learning_rates[positions] = rate

    def _same(self, groups: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the groups hold the very tensors that they held."""
        if len(groups) != len(self._groups):
            return False
        for group, known in zip(groups, self._groups, strict=True):
            tensors = group["params"]
            if len(tensors) != len(known) or any(map(is_not, tensors, known)):
                return False
        return True

    def forget(self) -> None:
        """Let go of the plans of the pass and of their memory, since what they point at was
        replaced.
        """
        self._plans: dict[tuple[int, ...], Plan] = {}
        self._plan: Plan | None = None
        self._workspace = Workspace()
        self._collected: Observed | None = None
        self._distrust()

    def _distrust(self) -> None:
        """Take down that all snapshots are to be made anew."""
        self._addresses = [_NEVER] * len(self._tensors)
        self._versions = [_NEVER] * len(self._tensors)

    @property
    def owns(self) -> bool:
        """Whether any of the model's parameters is its, be this process's part of it empty."""
        known = self._followed.positions_of
        return any(id(tensor) in known for group in self._groups for tensor in group)

    def _positions_of(self, tensors: Sequence[Tensor]) -> list[int]:
        known, sizes = self._followed.positions_of, self._followed.sizes
        positions = [position for tensor in tensors for position in known.get(id(tensor), ())]
        return [position for position in positions if sizes[position]]

    def skipped(self) -> bool:
        """Whether the step just taken was none: under automatic mixed precision, a fused optimiser
        is called and told of infinite gradients, and leaves everything as it was.
        """
        found: Tensor | None = self.optimizer.__dict__.get("found_inf")
        return found is not None and bool(found.item())

    def renew(self, snapshots: Snapshots, step: int) -> bool:
        """Make the snapshots what the tensors are now, of all that the step about to be taken may
        move. Returns whether some had to be taken.

        PyTorch counts the writes to a tensor: where count and address are those at which its
        snapshot was right, it still is. Raises TraceError as `Snapshots.take` does.
        """
        tensors = self._tensors
        addresses, versions = list(map(Tensor.data_ptr, tensors)), list(map(_version, tensors))
        stale = self.positions
        if not self._followed.sharded:
            if versions == self._versions and addresses == self._addresses:
                return False
            plan = self._plan
            if plan is not None and plan.positions == stale and plan.renew(tensors, addresses):
                self._addresses, self._versions = addresses, versions
                return False
            now = zip(addresses, versions, strict=True)
            known = zip(self._addresses, self._versions, strict=True)
            stale = [i for i, a, b in zip(stale, now, known, strict=True) if a != b]
        taken = snapshots.take(stale, step)
        frozen = set(stale).difference(taken)
        self._addresses = addresses
        self._versions = [
            _NEVER if position in frozen else version
            for position, version in zip(self.positions, versions, strict=False)
        ]
        return bool(taken)

    def read(
        self,
        snapshots: Snapshots,
        origins: Sequence[Mapping[int, Tensor]],
        source: Source,
        step: int,
        *,
        refresh: bool,
        histogram: bool,
        weigh: Callable[[int, Iterable[Tensor]], None] | None,
    ) -> None:
        """Read what the step just taken did; `drain` returns it.

        With ``refresh`` the snapshots may become what the tensors are, which is noted then.
        ``weigh`` is given the importance of every element, tensor by tensor, in flat tiles. Raises
        TraceError if the step left a tensor of another shape, dtype, device or layout.
        """
        usual = weigh is None and not isinstance(source, OtherSource)
        if usual and self._read_again(origins, source, refresh=refresh, histogram=histogram):
            return
        self._read_anew(
            snapshots, origins, source, step, refresh=refresh, histogram=histogram, weigh=weigh
        )

    def _read_again(
        self,
        origins: Sequence[Mapping[int, Tensor]],
        source: Source,
        *,
        refresh: bool,
        histogram: bool,
    ) -> bool:
        """Read a step with a plan that is kept, if one fits: the short way to what `_read_anew`
        does. Returns whether it was read.
        """
        if self._plan is None or self._followed.sharded:
            return False
        positions, moving = self.positions, self._tensors
        gradients = self._followed.gradients(moving)
        present = list(map(is_not, gradients, repeat(None)))
        if not all(present):
            positions, moving, gradients = (
                list(compress(each, present)) for each in (positions, moving, gradients)
            )
        same = self._plan.positions == positions
        plan = self._plan if same else self._plans.get(tuple(positions))
        if plan is None or plan.origins != len(origins) or not plan.fits(moving, gradients):
            return False
        if plan is not self._plan:
            self._use(plan)
        self.read_last = positions
        after = list(map(Tensor.data_ptr, moving))
        addresses = list(map(Tensor.data_ptr, gradients))
        plan.run(after, addresses, FACTORS[source.name], refresh=refresh, histogram=histogram)
        self._note(positions, after, refreshed=refresh)
        return True

    def _note(self, moved: list[int], addresses: list[int], *, refreshed: bool) -> None:
        """Take down that the step has moved these tensors, where they are, and whether the pass
        left in their snapshots what it read.

        What moves without being counted, by fused optimisers or at steps that aren't observed, is
        not trusted.
        """
        if not refreshed:
            self._versions = [_NEVER] * len(self._tensors)
        elif moved == self.positions:
            self._addresses, self._versions = addresses, list(map(_version, self._tensors))
        elif not self._followed.sharded:
            places = dict(zip(self.positions, range(len(self.positions)), strict=True))
            for position, address in zip(moved, addresses, strict=True):
                place = places[position]
                self._addresses[place] = address
                self._versions[place] = self._tensors[place]._version

    def _read_anew(
        self,
        snapshots: Snapshots,
        origins: Sequence[Mapping[int, Tensor]],
        source: Source,
        step: int,
        *,
        refresh: bool,
        histogram: bool,
        weigh: Callable[[int, Iterable[Tensor]], None] | None,
    ) -> None:
        """Read a step, whatever has changed since the last."""
        followed, before = self._followed, snapshots.before
        active, gradients = [], []
        for position in self.positions:
            gradient = followed.gradient(position)
            if gradient is not None and position in before:
                followed.require_unchanged(position, step)
                active.append(position)
                gradients.append(gradient)
        self.read_last = active
        after = [followed.local(position) for position in active]
        importance = source.name
        if isinstance(source, OtherSource):
            gradients = self._given(source, active, before, after, gradients, histogram=histogram)
            importance = "gradient"
        if weigh is not None:
            for position, gradient in zip(active, gradients, strict=True):
                weigh(position, _each(importance, before[position], gradient))
        factors = FACTORS.get(importance)
        plan = None
        if factors is not None:
            plan = self._fitting_plan(active, before, after, origins, gradients)
        addresses = [tensor.data_ptr() for tensor in after]
        if plan is None or factors is None:
            self._flush()
            self._collected = collect(
                active,
                [before[position] for position in active],
                after,
                [g.to_dense() if g.is_sparse else g for g in gradients],
                [[origin[position] for position in active] for origin in origins],
                IMPORTANCES[importance],
                histogram=histogram,
            )
        else:
            given = [_alike(*each) for each in zip(gradients, after, plan.strides, strict=True)]
            plan.run(
                addresses,
                [gradient.data_ptr() for gradient in given],
                factors,
                refresh=refresh,
                histogram=histogram,
            )
        self._note(active, addresses, refreshed=refresh and plan is not None)

    @property
    def full(self) -> bool:
        """Whether what was read has to be drained before the next step is."""
        return self._collected is not None or (self._plan is not None and self._plan.full)

    def drain(self) -> Observed | None:
        """Return what was read since the last time, if anything was."""
        collected, self._collected = self._collected, None
        if collected is not None:
            return collected
        return self._plan.drain() if self._plan is not None and self._plan.staged else None

    def _given(
        self,
        source: OtherSource,
        active: Sequence[int],
        before: Mapping[int, Tensor],
        after: Sequence[Tensor],
        gradients: Sequence[Tensor],
        *,
        histogram: bool,
    ) -> list[Tensor]:
        """Return the importances, which stand in the gradients' place: c = |c|."""
        names = [self._followed.names[position] for position in active]
        found = source.values(
            {name: before[position] for name, position in zip(names, active, strict=True)},
            dict(zip(names, after, strict=True)),
            dict(zip(names, gradients, strict=True)),
            histogram=histogram,
        )
        return [found[name] for name in names]

    def _fitting_plan(
        self,
        active: list[int],
        before: Mapping[int, Tensor],
        after: Sequence[Tensor],
        origins: Sequence[Mapping[int, Tensor]],
        gradients: Sequence[Tensor],
    ) -> Plan | None:
        """Return the compiled pass for these tensors, None where it can't be used on them."""
        dtypes = [
            gradient.dtype if gradient.dtype in DTYPES else tensor.dtype
            for gradient, tensor in zip(gradients, after, strict=True)
        ]
        plan = self._plans.get(tuple(active))
        if plan is None or plan.gradient_dtypes != dtypes or plan.origins != len(origins):
            compiled = library()
            if compiled is None or not active or not all(map(_readable, after)):
                return None
            plan = Plan(
                compiled,
                active,
                [before[position] for position in active],
                [[origin[position] for position in active] for origin in origins],
                dtypes,
                self._members,
                self._workspace,
            )
        if plan is not self._plan:
            self._use(plan)
        return plan

    def _use(self, plan: Plan) -> None:
        """Run this plan from here on, and keep the last `PLANS` that were."""
        self._flush()
        if self._plan is not None:
            self._plan.leave()
        plan.enter()
        self._plan = plan
        key = tuple(plan.positions)
        self._plans.pop(key, None)
        self._plans[key] = plan
        if len(self._plans) > PLANS:
            del self._plans[next(iter(self._plans))]


def _rate_of(group: Mapping[str, Any]) -> float:
    """The learning rate of a group, NaN where it has none."""
    rate = group.get("lr")
    if rate is None:
        return math.nan
    return float(rate.detach() if isinstance(rate, Tensor) else rate)


def _readable(tensor: Tensor) -> bool:
    """Whether the compiled pass can walk through a tensor's memory from its first element on."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype in DTYPES
        and (tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last))
    )


def _each(importance: str, before: Tensor, gradient: Tensor) -> Iterator[Tensor]:
    """The importance of every element of a tensor, in flat tiles."""
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    for theta, g in in_tiles(before, dense):
        yield IMPORTANCES[importance](theta, g)


@torch.no_grad()
def _alike(gradient: Tensor, tensor: Tensor, strides: tuple[int, ...]) -> Tensor:
    """A gradient, of a type that the pass reads and laid out as its tensor is."""
    known = gradient.dtype in DTYPES
    if known and not gradient.is_sparse and gradient.stride() == strides:
        return gradient
    return torch.empty_like(tensor, dtype=gradient.dtype if known else tensor.dtype).copy_(
        gradient.to_dense() if gradient.is_sparse else gradient
    )
