"""A model and a task of one's own: two spirals, told apart by a residual network."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from search_spaces import ClassificationTask, Splits, TaskShape, classification_splits


class Residual(nn.Module):
    """A layer added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, width) -> the same."""
        return inputs + self.layer(inputs).tanh()


def build(shape: TaskShape, width: int = 32, depth: int = 3) -> nn.Module:
    """A residual network of ``depth`` layers of ``width`` units."""
    layers = [Residual(width) for _ in range(depth)]
    return nn.Sequential(nn.Linear(shape.features, width), *layers, nn.Linear(width, shape.outputs))


def load() -> Splits:
    """600 points on two spirals that wind round each other once and a half."""
    generator = np.random.default_rng(0)
    spiral = np.repeat([0, 1], 300)
    turn = generator.uniform(0.25, 1.5, size=600)
    angle = 2 * np.pi * (turn + spiral / 2)
    points = turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return classification_splits(points + generator.normal(scale=0.05, size=(600, 2)), spiral)


def make() -> ClassificationTask:
    """The task."""
    return ClassificationTask("spirals", TaskShape((2,), 2, "classification"), load)
