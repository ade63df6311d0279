"""Models of a user's own, most of which can't be trained together with their replicates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces import TaskShape


class Counting(nn.Module):
    """Keeps something from step to step, out of sight."""

    def __init__(self, shape: TaskShape) -> None:
        super().__init__()
        self.layer = nn.Linear(shape.features, shape.outputs)
        self.mean: Tensor | float = 0.0

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.layer(inputs.flatten(1))
        self.mean = 0.9 * self.mean + 0.1 * output.detach().mean()
        return output * (1 + self.mean)


class Unseen(nn.Module):
    """Draws a tensor of its own at birth that is neither parameter nor buffer."""

    def __init__(self, shape: TaskShape) -> None:
        super().__init__()
        self.layer = nn.Linear(shape.features, shape.outputs)
        self.scale = torch.rand(shape.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.layer(inputs.flatten(1)) * self.scale
        return output


class Branching(nn.Module):
    """Does one thing or another, as the data is."""

    def __init__(self, shape: TaskShape) -> None:
        super().__init__()
        self.layer = nn.Linear(shape.features, shape.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.layer(inputs.flatten(1))
        return output if output.mean() > 0 else 2 * output


class Failing(nn.Module):
    """Raises at its ninth step."""

    def __init__(self, shape: TaskShape) -> None:
        super().__init__()
        self.layer = nn.Linear(shape.features, shape.outputs)
        self.steps = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.steps += self.training
        if self.steps == 9:
            raise ValueError("nine is too many")
        output: Tensor = self.layer(inputs.flatten(1))
        return output


class Projected(nn.Module):
    """Has a buffer that each seed draws anew, a part that is frozen and a tied weight."""

    def __init__(self, shape: TaskShape) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(shape.features, 8) / shape.features**0.5)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.head = nn.Linear(8, shape.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.frozen(inputs.flatten(1) @ self.projection)
        output: Tensor = self.head(self.second(torch.tanh(self.first(hidden))))
        return output


def counting(shape: TaskShape) -> nn.Module:
    return Counting(shape)


def unseen(shape: TaskShape) -> nn.Module:
    return Unseen(shape)


def branching(shape: TaskShape) -> nn.Module:
    return Branching(shape)


def failing(shape: TaskShape) -> nn.Module:
    return Failing(shape)


def projected(shape: TaskShape) -> nn.Module:
    return Projected(shape)


def dropout(shape: TaskShape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(shape.features, shape.outputs))


def batchnorm(shape: TaskShape) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(shape.features, 16, bias=False),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, shape.outputs),
    )


def differing(shape: TaskShape) -> nn.Module:
    """Its width follows from the seed."""
    width = int(torch.randint(4, 60, ()))
    return nn.Sequential(
        nn.Flatten(), nn.Linear(shape.features, width), nn.Linear(width, shape.outputs)
    )
