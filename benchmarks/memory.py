"""What the tracer adds to the peak of a training's resident memory, against the parameters' bytes.

Each figure is of a process of its own, where the plain training has come to its peak before the
tracer is made; how far the peak rises from there is what is told. A small training is traced
before, so that the code itself, once in memory, doesn't count.

The allocator is told to give large blocks back as they are freed. As it comes, glibc's keeps some,
more or fewer from run to run: 30 MiB, which would hide what is looked for.
"""

from __future__ import annotations

import json
import sys

from benchmarks import fresh
from benchmarks.timing import markdown

TENSORS, WIDTH = 48, 1024
STEPS, SETTLED = 4, 16
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
WAYS = {"sketched": 1, "exact": 2}
"""What ``exact_directness`` False and True may take at most: so many copies and 1%."""


def table(tensors: int = TENSORS, width: int = WIDTH) -> str:
    """The table, as Markdown."""
    rows = [["exact_directness", "parameters", "their bytes", "peak rises by", "copies", "aim"]]
    parameters = tensors * width**2
    for way, copies in WAYS.items():
        rise = fresh.run("benchmarks.memory", way, str(tensors), str(width), **GIVING_BACK)
        rows.append(
            [
                str(way == "exact"),
                f"{parameters:,}",
                f"{4 * parameters / 2**20:.1f} MiB",
                f"{rise / 2**20:.1f} MiB",
                f"{rise / (4 * parameters):.3f}",
                f"≤ {copies + 0.01:.2f}",
            ]
        )
    return markdown(rows)


def _rise(exact: bool, tensors: int, width: int) -> int:
    """Bytes by which the peak of this process rises with a tracer."""
    _traced(exact, tensors=2, width=8)
    return _traced(exact, tensors, width)


def _traced(exact: bool, tensors: int, width: int) -> int:
    import torch
    from torch import nn

    from trace_core import Tracer

    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(tensors)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs = torch.randn(4, width)

    def step() -> None:
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()

    for _ in range(SETTLED):
        step()
    before = fresh.peak()
    with Tracer(model, optimizer, exact_directness=exact) as tracer:
        for _ in range(STEPS):
            step()
        tracer.trace()
        return fresh.peak() - before


if __name__ == "__main__":
    print(json.dumps(_rise(sys.argv[1] == "exact", int(sys.argv[2]), int(sys.argv[3]))))
