"""A model and a task of a user's, named by the configurations that are made here."""

from __future__ import annotations

import numpy as np
from torch import nn

from search_spaces import ClassificationTask, Part, Splits, TaskShape

number = 3


def build(shape: TaskShape, width: int = 4, rate: float = 0.5, kind: str = "a") -> nn.Module:
    inputs = int(np.prod(shape.input_shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.Linear(width, shape.outputs))


def open_build(shape: TaskShape, **settings: object) -> nn.Module:
    return build(shape)


def failing(shape: TaskShape) -> nn.Module:
    raise RuntimeError("red \x1b[31m\nand on")


def task() -> ClassificationTask:
    drawn = np.random.default_rng(0)
    part = Part(drawn.normal(size=(90, 5)).astype(np.float32), np.arange(90) % 3)
    shape = TaskShape((5,), 3, "classification")
    return ClassificationTask("own", shape, lambda: Splits(part, part, part))


def failing_task() -> ClassificationTask:
    raise RuntimeError("red \x1b[31m\nand on")
