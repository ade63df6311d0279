"""Small models and training loops that the tracer is tested on."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

INPUTS = 16


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(INPUTS, 12), nn.Tanh(), nn.Dropout(0.2), nn.Linear(12, 3))


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * INPUTS, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(x.view(-1, 1, 4, 4)))).flatten(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x.view(-1, 4, 4))[1][0])


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)
        self.place = nn.Parameter(torch.zeros(4, 4))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(x.view(-1, 4, 4) + self.place).flatten(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, INPUTS)
        self.second = nn.Linear(INPUTS, INPUTS)
        self.second.weight = self.first.weight
        self.head = nn.Linear(INPUTS, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> list:
    """Train on a fixed stream of batches, from the ``first`` of them; return the losses."""
    stream = torch.Generator().manual_seed(7)
    losses = []
    for _ in range(first):
        torch.randn(8, INPUTS, generator=stream)
    for step in itertools.islice(itertools.count(first), steps):
        x = torch.randn(8, INPUTS, generator=stream)
        y = (torch.arange(8) + step) % 3
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
