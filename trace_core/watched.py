"""One of the optimisers that a tracer watches: what it owns, and the pass over what it moved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from trace_core.kernel.plan import DTYPES, FACTORS, Plan
from trace_core.observed import Observed
from trace_core.snapshots import Snapshots
from trace_core.sources import OtherSource, Source
from trace_core.statistics import FloatArray

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
        self._rates: list[float] = []
        self._flush = flush
        self._factors = (0, 0)
        self._plan: Plan | None = None
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
            self._moving.clear()
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
        """Let go of the buffers of the pass, since what they point at was replaced."""
        self._plan = None
        self._collected: Observed | None = None
        self._moving: list[Tensor] = []
        self._addresses: list[int] = []
        self._versions: list[int] = []

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

    def renewed(self) -> bool:
        """Whether the snapshots of all that is owned are what the tensors are now, or were made so.

        The short way to what `Snapshots.take` sees to, for tensors that are where they were.
        """
        moving = self._moving
        if not moving or list(map(Tensor.data_ptr, moving)) != self._addresses:
            return False
        if self._versions == list(map(_version, moving)):
            return True
        plan = self._plan
        return plan is not None and plan.lies_as_before(moving) and plan.renew()

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
        moving, plan = self._moving, self._plan
        usual = weigh is None and not isinstance(source, OtherSource)
        if plan is not None and plan.origins == len(origins) and moving and usual:
            gradients = self._followed.gradients(moving)
            if plan.fits(moving, gradients):
                after = list(map(Tensor.data_ptr, moving))
                addresses = list(map(Tensor.data_ptr, gradients))
                plan.run(after, addresses, self._factors, refresh=refresh, histogram=histogram)
                self._addresses = after
                self.read_last = self.positions
                self._versions = list(map(_version, moving)) if refresh else []
                return
        self._read_anew(
            snapshots, origins, source, step, refresh=refresh, histogram=histogram, weigh=weigh
        )

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
        plan = self._fitting_plan(active, before, after, origins, gradients)
        factors = FACTORS.get(importance)
        if plan is None or factors is None:
            self._flush()
            snapshots.forget(active)
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
            self._run(plan, active, after, gradients, factors, refresh=refresh, histogram=histogram)
            if refresh:
                snapshots.note(active)

    def _run(
        self,
        plan: Plan,
        active: list[int],
        after: Sequence[Tensor],
        gradients: list[Tensor],
        factors: tuple[int, int],
        *,
        refresh: bool,
        histogram: bool,
    ) -> None:
        """Run the compiled pass, and take down what the next step may take for granted."""
        for i, (gradient, stride) in enumerate(zip(gradients, plan.strides, strict=True)):
            if gradient.is_sparse or gradient.stride() != stride or gradient.dtype not in DTYPES:
                gradients[i] = _alike(gradient, after[i])
        self._addresses = [tensor.data_ptr() for tensor in after]
        plan.run(
            self._addresses,
            [gradient.data_ptr() for gradient in gradients],
            factors,
            refresh=refresh,
            histogram=histogram,
        )
        self._factors = factors
        whole = active == self.positions and not self._followed.sharded
        self._moving = [self._followed.tensors[position] for position in active] if whole else []
        self._versions = list(map(_version, self._moving)) if refresh else []

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
        dtypes = [gradient.dtype for gradient in gradients]
        plan = self._plan
        if (
            plan is not None
            and plan.positions == active
            and plan.gradient_dtypes == dtypes
            and plan.origins == len(origins)
        ):
            return plan
        self._flush()
        self._plan = None
        self._moving.clear()
        compiled = library()
        if compiled is None or not active or not all(map(_readable, after)):
            return None
        dtypes = [
            gradient.dtype if gradient.dtype in DTYPES else tensor.dtype
            for gradient, tensor in zip(gradients, after, strict=True)
        ]
        self._plan = Plan(
            compiled,
            active,
            [before[position] for position in active],
            [[origin[position] for position in active] for origin in origins],
            dtypes,
            self._members,
        )
        return self._plan


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
def _alike(gradient: Tensor, tensor: Tensor) -> Tensor:
    """A gradient, laid out as its tensor is."""
    dtype = gradient.dtype if gradient.dtype in DTYPES else tensor.dtype
    return torch.empty_like(tensor, dtype=dtype).copy_(
        gradient.to_dense() if gradient.is_sparse else gradient
    )
