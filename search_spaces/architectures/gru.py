"""Gated recurrent network that reads an image row by row, or a sequence step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.architecture import Architecture
from search_spaces.setting import Setting
from search_spaces.shape import TaskShape

if TYPE_CHECKING:
    from torch import nn


def fits(shape: TaskShape) -> str | None:
    """Images and sequences."""
    if shape.layout in ("image", "sequence"):
        return None
    return (
        "needs images, (channels, height, width), or sequences, (steps, features), "
        f"and the task has {shape.input_shape or 'texts'}"
    )


def build(shape: TaskShape, *, hidden: int, layers: int) -> nn.Module:
    """A GRU over the rows or steps; the last state goes through Linear to the outputs."""
    from search_spaces.architectures.gru_module import RowGRU

    return RowGRU(shape, hidden, layers)


GRU = Architecture(
    name="gru",
    description="gated recurrent network over the rows of an image or the steps of a sequence",
    settings={
        "hidden": Setting("int", 32, "size of the state", low=1, high=1024),
        "layers": Setting("int", 1, "GRU layers, one over the other", low=1, high=4),
    },
    fits=fits,
    builder=build,
)
