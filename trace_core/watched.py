"""One of the optimisers that a tracer watches: what it owns, and the pass over what it moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_not

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from trace_core.collect import collect
from trace_core.followed import Followed
from trace_core.importance import IMPORTANCES
from trace_core.kernel import library
from trace_core.kernel.plan import DTYPES, FACTORS, Plan
from trace_core.observed import Observed
from trace_core.snapshots import Snapshots
from trace_core.sources import Source
from trace_core.statistics import FloatArray


class Watched:
    """An optimiser, the tensors of a model that it owns, and their learning rates."""

    def __init__(
        self, optimizer: Optimizer, followed: Followed, members: Sequence[Sequence[int]]
    ) -> None:
        self.optimizer = optimizer
        self.positions: list[int] = []
        self.learning_rates: FloatArray = np.full(len(followed.names), np.nan)
        self._followed = followed
        self._members = members
        self._groups: list[list[Tensor]] = []
        self._of_group: list[list[int]] = []
        self._rates: list[float] = []
        self._plan: Plan | None = None
        self.read_groups()

    def read_groups(self) -> None:
        """Take in the optimiser's groups as they are: parameters may join, and rates change."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self._groups) or any(
            len(group["params"]) != len(known) or any(map(is_not, group["params"], known))
            for group, known in zip(groups, self._groups, strict=True)
        ):
            self._groups = [list(group["params"]) for group in groups]
            self._of_group = [self._positions_of(tensors) for tensors in self._groups]
            self.positions = sorted(i for group in self._of_group for i in group)
            self._rates = []
        rates = [float(group.get("lr", np.nan)) for group in groups]
        if rates != self._rates:
            self._rates = rates
            self.learning_rates = np.full(len(self._followed.names), np.nan)
            for positions, rate in zip(self._of_group, rates, strict=True):
                self.learning_rates[positions] = rate

    def forget(self) -> None:
        """Let go of the buffers of the pass, since what they point at was replaced."""
        self._plan = None

    @property
    def owns(self) -> bool:
        """Whether any of the model's parameters is its, be this process's part of it empty."""
        known = self._followed.position_of
        return any(id(tensor) in known for group in self._groups for tensor in group)

    def _positions_of(self, tensors: Sequence[Tensor]) -> list[int]:
        known, sizes = self._followed.position_of, self._followed.sizes
        positions = [known[id(tensor)] for tensor in tensors if id(tensor) in known]
        return [position for position in positions if sizes[position]]

    def skipped(self) -> bool:
        """Whether the step just taken was none: under automatic mixed precision, a fused optimiser
        is called and told of infinite gradients, and leaves everything as it was.
        """
        found: Tensor | None = getattr(self.optimizer, "found_inf", None)
        return found is not None and bool(found.item())

    @torch.no_grad()
    def read(
        self,
        snapshots: Snapshots,
        origins: Sequence[Mapping[int, Tensor]],
        source: Source,
        *,
        refresh: bool,
        histogram: bool,
    ) -> Observed:
        """Read what the step just taken did.

        With ``refresh`` the snapshots may become what the tensors are, which is noted then.
        """
        followed, before = self._followed, snapshots.before
        active, gradients = [], []
        for position in self.positions:
            gradient = followed.gradient(position)
            if gradient is not None and position in before:
                active.append(position)
                gradients.append(gradient)
        after = [followed.local(position) for position in active]
        names = [followed.names[position] for position in active]
        given = source.values(
            dict(zip(names, (before[position] for position in active), strict=True)),
            dict(zip(names, after, strict=True)),
            dict(zip(names, gradients, strict=True)),
            histogram=histogram,
        )
        if given is not None:
            gradients = [given[name] for name in names]
        importance = source.name if given is None else "gradient"
        plan = self._fitting_plan(active, before, after, origins, gradients)
        factors = FACTORS.get(importance)
        if plan is None or factors is None:
            return collect(
                active,
                [before[position] for position in active],
                after,
                [g.to_dense() if g.is_sparse else g for g in gradients],
                [[origin[position] for position in active] for origin in origins],
                IMPORTANCES[importance],
                histogram=histogram,
            )
        gradients = [
            gradient
            if not gradient.is_sparse and gradient.stride() == stride and gradient.dtype in DTYPES
            else _alike(gradient, tensor)
            for gradient, stride, tensor in zip(gradients, plan.strides, after, strict=True)
        ]
        observed = plan.run(
            [tensor.data_ptr() for tensor in after],
            [gradient.data_ptr() for gradient in gradients],
            factors,
            refresh=refresh,
            histogram=histogram,
        )
        if refresh:
            snapshots.note(active)
        return observed

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


def _readable(tensor: Tensor) -> bool:
    """Whether the compiled pass can walk through a tensor's memory from its first element on."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype in DTYPES
        and (tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last))
    )


def _alike(gradient: Tensor, tensor: Tensor) -> Tensor:
    """A gradient, laid out as its tensor is."""
    dtype = gradient.dtype if gradient.dtype in DTYPES else tensor.dtype
    return torch.empty_like(tensor, dtype=dtype).copy_(
        gradient.to_dense() if gradient.is_sparse else gradient
    )
