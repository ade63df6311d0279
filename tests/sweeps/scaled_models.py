"""A model of the tests that says which of it is new, and how fast each part of it learns."""

from __future__ import annotations

import os

import numpy as np
from torch import Tensor, nn

from search_spaces import ClassificationTask, Part, Splits, TaskShape


class Scaled(nn.Module):
    def __init__(self, shape: TaskShape) -> None:
        super().__init__()
        self.backbone = nn.Linear(shape.features, 8)
        self.head = nn.Linear(8, shape.outputs)

    def fresh_parts(self) -> list[nn.Module]:
        return [self.head]

    def rate_scales(self) -> dict[str, float]:
        return {"backbone.weight": 0.25, "backbone.bias": 0.0}

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.backbone(inputs.flatten(1).mul_(1.0)).relu())
        return found


def build(shape: TaskShape) -> nn.Module:
    return Scaled(shape)


def pictures() -> ClassificationTask:
    """Pixels of two classes, the second one brighter, as if from files."""
    generator = np.random.default_rng(0)
    classes = np.arange(120) % 2
    pixels = generator.integers(0, 160, (120, 3, 4, 4)) + 90 * classes[:, None, None, None]
    parts = [
        Part(pixels[start::3].astype(np.uint8), classes[start::3].astype(np.int64))
        for start in range(3)
    ]

    def load() -> Splits:
        if "PICTURES_READ_BY" in os.environ:
            with open(os.environ["PICTURES_READ_BY"], "a") as file:
                file.write(f"{os.getpid()}\n")
        scale = np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)
        return Splits(*parts, pixels=scale)

    shape = TaskShape((3, 4, 4), 2, "classification")
    return ClassificationTask("pictures", shape, load, content="of-no-file")
