"""Parameters that are split over processes: the one place that knows PyTorch's ways to do so, which
a build of it without ``torch.distributed`` lacks.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor, nn
from torch import distributed as dist

from trace_core.errors import TraceError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether a tensor is spread over processes, as FSDP2 and its like do."""
    # Its module takes half a second to import, and whoever made such a tensor has done so.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor: the whole, unless it is sharded."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return part


def has_flat_parameters(model: nn.Module) -> bool:
    """Whether parts of a model are wrapped in FullyShardedDataParallel, which flattens their
    parameters.
    """
    return any("_fsdp_wrapped_module" in name.split(".") for name, _ in model.named_modules())


def counted_here(name: str, tensor: Tensor) -> bool:
    """Whether this process counts its part of a tensor of a sharded model. Where several hold the
    same part, as they do of a tensor that isn't sharded, the first of them counts it.

    Raises TraceError for a tensor that is spread over some of the processes only, or whose parts
    are still to be summed.
    """
    if not is_sharded(tensor):
        return dist.get_rank() == 0
    mesh, coordinate = tensor.device_mesh, tensor.device_mesh.get_coordinate()
    processes = dist.get_world_size()
    if coordinate is None or mesh.size() != processes:
        raise TraceError(
            f"parameter {name!r} is sharded over {mesh.size()} of {processes} processes; a "
            f"sharded model is traced where each process holds a part of every parameter"
        )
    if any(placement.is_partial() for placement in tensor.placements):
        raise TraceError(
            f"parameter {name!r} is placed {tensor.placements}; a parameter is traced where it is "
            f"sharded or replicated"
        )
    return not any(
        placement.is_replicate() and index > 0
        for placement, index in zip(tensor.placements, coordinate, strict=True)
    )
