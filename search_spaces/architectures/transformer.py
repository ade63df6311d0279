"""Transformer encoder; tokens are rows of an image, steps of a sequence, features of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.architecture import Architecture, fits_numbers
from search_spaces.setting import Setting
from search_spaces.shape import TaskShape

if TYPE_CHECKING:
    from torch import nn


def build(shape: TaskShape, *, width: int, depth: int, heads: int) -> nn.Module:
    """Tokens, ``depth`` pre-norm blocks, a last norm, the mean token, Linear to the outputs."""
    from search_spaces.architectures.transformer_module import Transformer

    return Transformer(shape, width, depth, heads)


TRANSFORMER = Architecture(
    name="transformer",
    description="pre-norm transformer encoder with mean pooling",
    settings={
        "width": Setting("int", 32, "size of a token", low=8, high=1024),
        "depth": Setting("int", 2, "blocks of attention and feed-forward", low=1, high=12),
        "heads": Setting("int", 2, "attention heads, of width // heads each", low=1, high=8),
    },
    fits=fits_numbers,
    builder=build,
)
