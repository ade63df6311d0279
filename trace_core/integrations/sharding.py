"""The models that one process can't trace, since it holds no whole parameter of them."""

from __future__ import annotations

from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor

from trace_core.errors import TraceError


def require_whole(model: nn.Module) -> None:
    """Raise TraceError, in every process alike, if parameters are split over several processes."""
    wrapped = any(isinstance(module, FullyShardedDataParallel) for module in model.modules())
    split = [name for name, value in model.named_parameters() if isinstance(value, DTensor)]
    if wrapped or split:
        what = f"parameter {split[0]!r}" if split else "the model"
        raise TraceError(
            f"{what} is sharded over the processes, and the trace is made by one of them; "
            f"train with whole parameters in each process (one process, or DDP)"
        )
