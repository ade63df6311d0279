"""Examples as sequences of vectors, for the architectures that read sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def rows(inputs: Tensor) -> Tensor:
    """Images (batch, channels, height, width) as (batch, height, channels × width).

    Sequences (batch, steps, features) stay as they are.
    """
    if inputs.dim() == 4:
        return inputs.transpose(1, 2).flatten(2)
    return inputs


class RowTokens(nn.Module):
    """One token a row or step: a linear map of it, plus a learned position.

    (batch, steps, features) or images -> (batch, steps, width). Positions start normal, std 0.02.
    """

    def __init__(self, steps: int, features: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.position = nn.Parameter(0.02 * torch.randn(steps, width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Tokens of the rows."""
        tokens: Tensor = self.embed(rows(inputs)) + self.position
        return tokens


class FeatureTokens(nn.Module):
    """One token a feature of a table: the feature times a learned vector, plus another.

    (batch, features) -> (batch, features, width), as in Gorishniy et al. 2021 (arXiv 2106.11959).
    Both vectors start uniform in ±1/√width.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(features, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(features, width).uniform_(-bound, bound))

    def forward(self, inputs: Tensor) -> Tensor:
        """Tokens of the features."""
        return inputs.unsqueeze(-1) * self.weight + self.bias
