"""Multi-layer perceptron: hidden layers of one width, over the flattened example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.architecture import Architecture, fits_numbers
from search_spaces.setting import Setting
from search_spaces.shape import TaskShape

if TYPE_CHECKING:
    from torch import nn


def build(shape: TaskShape, *, hidden: int, depth: int, activation: str) -> nn.Module:
    """Flatten, then ``depth`` times Linear and activation, then Linear to the outputs."""
    from torch import nn

    activations: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
    layers: list[nn.Module] = [nn.Flatten()]
    width = shape.features
    for _ in range(depth):
        layers += [nn.Linear(width, hidden), activations[activation]()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, shape.outputs))


MLP = Architecture(
    name="mlp",
    description="multi-layer perceptron over the flattened example",
    settings={
        "hidden": Setting("int", 64, "units of each hidden layer", low=1, high=4096),
        "depth": Setting("int", 2, "hidden layers", low=1, high=16),
        "activation": Setting(
            "str", "relu", "activation of the hidden layers", choices=("relu", "tanh", "gelu")
        ),
    },
    fits=fits_numbers,
    builder=build,
)
