"""Convolutional network: 3×3 convolutions, each halving the image and doubling the channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.architecture import Architecture
from search_spaces.setting import Setting
from search_spaces.shape import TaskShape

if TYPE_CHECKING:
    from torch import nn


def fits(shape: TaskShape) -> str | None:
    """Images only."""
    if shape.layout == "image":
        return None
    has = shape.input_shape or "texts"
    return f"needs images, (channels, height, width), and the task has {has}"


def build(shape: TaskShape, *, channels: int, depth: int) -> nn.Module:
    """``depth`` times 3×3 convolution, ReLU and 2×2 max pooling, then Linear to the outputs.

    Pooling rounds up, so that no image is too small for any depth.
    """
    from torch import nn

    incoming, height, width = shape.input_shape
    outgoing = channels
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [
            nn.Conv2d(incoming, outgoing, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        ]
        height, width = -(-height // 2), -(-width // 2)
        incoming, outgoing = outgoing, 2 * outgoing
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(incoming * height * width, shape.outputs))


CNN = Architecture(
    name="cnn",
    description="3x3 convolutions with max pooling, doubling the channels",
    settings={
        "channels": Setting("int", 16, "channels of the first convolution", low=1, high=512),
        "depth": Setting("int", 2, "convolutions", low=1, high=4),
    },
    fits=fits,
    builder=build,
)
