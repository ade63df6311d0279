"""The tensors that a tracer follows: a model's parameters, or what stands for them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from trace_core.distributed import gather, merge
from trace_core.errors import TraceError, require_kind, require_known
from trace_core.importance.undisturbed import bare
from trace_core.names import plain_name
from trace_core.shards import counted_here, has_flat_parameters, is_sharded, local_part
from trace_core.trace import Trace

_BRIEF = (torch.bfloat16, torch.float16)
_gradient = attrgetter("grad")
Kind = tuple[torch.Size, torch.dtype, torch.device, tuple[int, ...]]


class Followed:
    """T tensors with their names, by position. Of sharded ones (FSDP2's), this process's part is
    followed; what several processes hold, one of them follows.
    """

    def __init__(self, named: Mapping[str, Tensor]) -> None:
        self.names = tuple(named)
        self.tensors: tuple[Tensor, ...] = tuple(named.values())
        self.positions_of: dict[int, Sequence[int]] = {
            id(tensor): (i,) for i, tensor in enumerate(self.tensors)
        }
        """Positions of what an optimiser steps, by the identity of its tensor."""
        self._sharded = [is_sharded(tensor) for tensor in self.tensors]
        self.sharded = any(self._sharded)
        self.elements = sum(tensor.numel() for tensor in self.tensors)
        """Elements of the model, in all processes together."""
        self.sizes = [
            0 if self.sharded and not counted_here(name, tensor) else self.local(i).numel()
            for i, (name, tensor) in enumerate(zip(self.names, self.tensors, strict=True))
        ]
        """Elements of each tensor that are followed here."""
        self._kinds = [_kind(tensor) for tensor in self.tensors]

    @classmethod
    def of_model(cls, model: nn.Module, masters: Mapping[str, Tensor] | None) -> Followed:
        """Follow the parameters of a model, tied ones once; one with a master copy in ``masters``
        (by name) is followed there. Frozen parameters that aren't of floating point, as quantised
        weights are kept, are left out.

        Raises TraceError for a model that can't be traced. Warns where parameters of 16 bits have
        no master copy.
        """
        require_kind("model", model, nn.Module, "give the torch.nn.Module that is trained")
        _require_no_flat_parameters(model)
        masters = {} if masters is None else masters
        require_kind("masters", masters, Mapping, "give {name of the parameter: tensor}")
        named = {
            name: tensor
            for name, tensor in _named(model)
            if tensor.is_floating_point() or tensor.requires_grad or name in masters
        }
        for name, master in masters.items():
            require_known(name, tuple(named), "parameter in masters")
            require_kind(f"the master copy of parameter {name!r}", master, Tensor, "give a tensor")
            if master.shape != named[name].shape:
                raise TraceError(
                    f"the master copy of parameter {name!r} has shape {tuple(master.shape)}; "
                    f"the parameter has {tuple(named[name].shape)}"
                )
        require_traceable(named, {**named, **masters})
        found = cls({**named, **masters})
        found._warn_of_rounding()
        return found

    def _warn_of_rounding(self) -> None:
        brief = [
            (name, tensor.dtype)
            for name, tensor in zip(self.names, self.tensors, strict=True)
            if tensor.dtype in _BRIEF and tensor.requires_grad
        ]
        if brief:
            first, dtype = brief[0]
            warnings.warn(
                f"{len(brief)} parameters, {first!r} the first, are kept in {dtype}, in which "
                "small steps are rounded away: their change rates read too low (a true rate of "
                "1e-3 reads 4.2e-4 in bfloat16). If the optimizer steps float32 copies, name them: "
                "Tracer(..., masters={name: tensor})",
                stacklevel=4,
            )

    def local(self, position: int) -> Tensor:
        """Return this process's part of a tensor: the whole, unless it is sharded."""
        tensor = self.tensors[position]
        return local_part(tensor) if self._sharded[position] else tensor

    def may_move(self, position: int) -> bool:
        """Whether an optimiser may move a tensor: not if frozen, without a gradient."""
        tensor = self.tensors[position]
        return tensor.requires_grad or tensor.grad is not None

    def gradients(self, tensors: Sequence[Tensor]) -> list[Any]:
        """Return the gradients of tensors that are not sharded, None where there is none."""
        return list(map(_gradient, tensors))

    def gradient(self, position: int) -> Tensor | None:
        """Return this process's part of a tensor's gradient.

        Raises TraceError for one that is sharded otherwise than its tensor.
        """
        tensor = self.tensors[position]
        gradient = tensor.grad
        if gradient is None or not is_sharded(tensor):
            return gradient
        if not is_sharded(gradient) or gradient.placements != tensor.placements:
            raise TraceError(
                f"the gradient of parameter {self.names[position]!r} is placed "
                f"{getattr(gradient, 'placements', 'on one process')}, the parameter itself "
                f"{tensor.placements}; a step is traced where both are placed alike"
            )
        return local_part(gradient)

    def whole(self, trace: Trace) -> Trace:
        """Return the trace of the whole model, given that of what is followed here: a collective
        call where parameters are sharded.
        """
        if not self.sharded:
            return trace
        sharded = self.tensors[self._sharded.index(True)]
        return merge(gather(trace, local_part(sharded).device))

    def unchanged(self) -> bool:
        """Whether all tensors have the shape, dtype, device and strides that they had."""
        return [_kind(tensor) for tensor in self.tensors] == self._kinds

    def require_unchanged(self, position: int, step: int) -> None:
        """Raise TraceError if a tensor's shape, dtype, device or strides are not what they were."""
        kind = _kind(self.tensors[position])
        if kind != self._kinds[position]:
            raise TraceError(
                f"parameter {self.names[position]!r} is {_describe(kind)} at step {step} and was "
                f"{_describe(self._kinds[position])} when the tracer was made; make the tracer "
                f"after such changes"
            )


def require_traceable(parameters: Mapping[str, Tensor], followed: Mapping[str, Tensor]) -> None:
    """Raise TraceError if none of a model's parameters is trainable, or one of the tensors that are
    followed is not of real floating-point numbers.
    """
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise TraceError(
            "the model has no trainable parameters; a trace needs one with requires_grad=True"
        )
    for name, tensor in followed.items():
        if not tensor.is_floating_point():
            raise TraceError(
                f"parameter {name!r} is {tensor.dtype}; only real floating-point is traced"
            )


def _named(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in bare(model).named_parameters():
        yield plain_name(name), tensor


def _kind(tensor: Tensor) -> Kind:
    return tensor.shape, tensor.dtype, tensor.device, tensor.stride()


def _describe(kind: Kind) -> str:
    return f"{tuple(kind[0])} {kind[1]} on {kind[2]} with strides {kind[3]}"


def _require_no_flat_parameters(model: nn.Module) -> None:
    if has_flat_parameters(model):
        raise TraceError(
            "the model is wrapped in FullyShardedDataParallel, which flattens its parameters; "
            "shard it with torch.distributed.fsdp.fully_shard instead"
        )
