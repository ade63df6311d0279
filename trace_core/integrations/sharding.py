"""The models that one process can't trace, since it holds no whole parameter of them."""

from __future__ import annotations

from torch import nn

from trace_core.errors import TraceError
from trace_core.shards import has_flat_parameters, is_sharded


def require_whole(model: nn.Module) -> None:
    """Raise TraceError, in every process alike, if parameters are split over several processes."""
    split = [name for name, value in model.named_parameters() if is_sharded(value)]
    if split or has_flat_parameters(model):
        what = f"parameter {split[0]!r}" if split else "the model"
        raise TraceError(
            f"{what} is sharded over the processes, and the trace is made by one of them; "
            f"train with whole parameters in each process (one process, or DDP)"
        )
