"""A training step with the tracer against the plain step and the article's own way of scoring.

The three loops take turns, block by block, so that whatever else the machine does hits them alike;
each figure is the median over the blocks of the ratio to the plain loop of the same block. The
floor is the plain loop itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from search_spaces import get_architecture, get_task
from trace_core import Tracer

BLOCKS = 15
STEPS = 40


def _article_mlp() -> tuple[nn.Module, torch.Tensor, torch.Tensor, Callable[..., torch.Tensor]]:
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 1)).double()
    inputs = torch.randn(10, 10, dtype=torch.float64)
    return model, inputs, inputs.sum(1, keepdim=True), nn.functional.mse_loss


def _digits(
    name: str, **settings: int
) -> tuple[nn.Module, torch.Tensor, torch.Tensor, Callable[..., torch.Tensor]]:
    task = get_task("digits")
    part = task.data().train
    inputs = torch.from_numpy(part.inputs[:64])
    targets = torch.from_numpy(part.targets[:64])
    return get_architecture(name).build(task.shape, **settings), inputs, targets, task.loss


CASES = {
    "article's MLP, 241 parameters": _article_mlp,
    "digits mlp, 64 × 1": lambda: _digits("mlp", hidden=64, depth=1),
    "digits gru, 32": lambda: _digits("gru", hidden=32),
    "digits transformer, 64 × 2": lambda: _digits("transformer", width=64, depth=2),
}


def _article_way(model: nn.Module, before: list[torch.Tensor]) -> float:
    """What the article's code does after each step: per-tensor L1 ratios and 1/N."""
    after = [parameter.detach().clone() for parameter in model.parameters()]
    rates = [
        float((new - old).abs().sum() / old.abs().sum())
        for old, new in zip(before, after, strict=True)
    ]
    size = sum(parameter.numel() for parameter in model.parameters())
    return 0.5 * sum(rates) / len(rates) + 0.5 / size


def _loop(make: Callable[[], tuple], way: str) -> Iterator[float]:
    """Seconds per step of one block after another."""
    torch.manual_seed(0)
    model, inputs, targets, loss = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    if way == "tracer":
        Tracer(model, optimizer, histogram_every=8)
    while True:
        started = time.perf_counter()
        for _ in range(STEPS):
            if way == "article":
                before = [parameter.detach().clone() for parameter in model.parameters()]
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()
            if way == "article":
                _article_way(model, before)
        yield (time.perf_counter() - started) / STEPS


def table() -> str:
    """The table, as Markdown."""
    torch.set_num_threads(1)
    rows = [
        "| model | plain step | with the tracer | the article's way |",
        "|---|---|---|---|",
    ]
    for name, make in CASES.items():
        loops = {way: _loop(make, way) for way in ("plain", "tracer", "article")}
        for loop in loops.values():
            next(loop)
        blocks = [{way: next(loop) for way, loop in loops.items()} for _ in range(BLOCKS)]
        plain = statistics.median(block["plain"] for block in blocks)
        tracer, article = (
            statistics.median(block[way] / block["plain"] for block in blocks)
            for way in ("tracer", "article")
        )
        rows.append(f"| {name} | {plain * 1e6:.0f} µs | {tracer:.2f} × | {article:.2f} × |")
    return "\n".join(rows)
