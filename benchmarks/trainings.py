"""The trainings that the overhead is measured on, from 241 parameters to some millions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from search_spaces import get_architecture, get_task

Batches = list[tuple[Tensor, Tensor]]


@dataclass
class Training:
    """A model in training, on batches that come round again and again."""

    model: nn.Module
    optimizer: Optimizer
    loss: nn.Module
    batches: Batches
    taken: int = field(default=0, init=False)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the next batch."""
        self.taken += 1
        return self.batches[self.taken % len(self.batches)]

    def step(self) -> Tensor:
        """Take the plain step, and return its loss."""
        inputs, targets = self.batch()
        self.optimizer.zero_grad()
        loss: Tensor = self.loss(self.model(inputs), targets)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


@dataclass(frozen=True)
class Case:
    """A training to measure; ``threads`` None is as many as PyTorch takes."""

    name: str
    make: Callable[[], Training]
    threads: int | None
    blocks: int
    block_seconds: float


def article_mlp() -> Training:
    """The article's 10-20-1 network in float64; noise in the targets keeps the gradients alive."""
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 1)).double()
    inputs = torch.randn(500, 10, dtype=torch.float64)
    targets = inputs.sum(1, keepdim=True) + torch.randn(500, 1, dtype=torch.float64)
    batches = list(zip(inputs.split(10), targets.split(10), strict=True))
    return Training(model, SGD(model.parameters(), lr=0.01), nn.MSELoss(), batches)


def digits(name: str, **settings: int) -> Training:
    """An architecture of the search space on handwritten digits, 64 in a batch."""
    task = get_task("digits")
    part = task.data().train
    whole = len(part.inputs) // 64 * 64
    inputs, targets = (torch.from_numpy(a[:whole]) for a in (part.inputs, part.targets))
    batches = list(zip(inputs.split(64), targets.split(64), strict=True))
    model = get_architecture(name).build(task.shape, **settings)
    return Training(model, SGD(model.parameters(), lr=0.01), nn.CrossEntropyLoss(), batches)


class Encoder(nn.Module):
    """A transformer encoder with a classifier of the mean of its tokens."""

    def __init__(self, width: int, depth: int, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        layer = nn.TransformerEncoderLayer(width, width // 64, 4 * width, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scores (batch, classes) of tokens (batch, length)."""
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


def transformer(
    optimizer: Callable[..., Optimizer], rate: float, *, width: int = 256, depth: int = 6
) -> Training:
    """An encoder of 5.3 million parameters unless told otherwise, on 16 sequences of 32 tokens."""
    model = Encoder(width, depth, vocabulary=2048, classes=256)
    batches = [(torch.randint(2048, (16, 32)), torch.randint(256, (16,))) for _ in range(8)]
    return Training(model, optimizer(model.parameters(), lr=rate), nn.CrossEntropyLoss(), batches)


CASES = (
    Case("the article's MLP, SGD", article_mlp, 1, 25, 0.03),
    Case("digits MLP 64 × 1, SGD", lambda: digits("mlp", hidden=64, depth=1), 1, 25, 0.03),
    Case("digits CNN 16, 32, SGD", lambda: digits("cnn", channels=16, depth=2), 1, 25, 0.03),
    Case("transformer 256 × 6, AdamW", lambda: transformer(AdamW, 1e-4), None, 9, 0.2),
    Case("transformer 256 × 6, SGD", lambda: transformer(SGD, 1e-2), None, 9, 0.2),
)
