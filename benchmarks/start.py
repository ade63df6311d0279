"""What a training waits for before its first traced step, in a fresh interpreter.

PyTorch is imported before the clock starts, since a training needs it anyway. The training is a
small one on one thread, so that nothing else is large.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from itertools import pairwise

from benchmarks import fresh
from benchmarks.timing import duration, markdown

REPEATS = 5
WAYS = ("plain", "traced")
PARTS = {
    "imported": "import trace_core",
    "made": "make the Tracer",
    "first": "first step",
    "second": "second step",
}


def table(repeats: int = REPEATS) -> str:
    """The table, as Markdown."""
    runs = [{way: fresh.run("benchmarks.start", way) for way in WAYS} for _ in range(repeats)]
    rows = [["", "plain", "with the tracer", "difference"]]
    for part, words in (*PARTS.items(), ("all", "in all")):
        plain, traced = ([_part(run[way], part) for run in runs] for way in WAYS)
        difference = [there - here for here, there in zip(plain, traced, strict=True)]
        medians = (statistics.median(values) for values in (plain, traced, difference))
        rows.append([words, *(duration(median) if median else "–" for median in medians)])
    return markdown(rows)


def _part(seconds: dict[str, float], part: str) -> float:
    return sum(seconds.values()) if part == "all" else seconds[part]


def _seconds(traced: bool) -> dict[str, float]:
    """What each part takes in this process, in seconds; 0 for what isn't done."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs, targets = torch.randn(64, 64), torch.randint(10, (64,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    marks = [time.perf_counter()]
    if traced:
        from trace_core import Tracer
    marks.append(time.perf_counter())
    if traced:
        Tracer(model, optimizer)
    marks.append(time.perf_counter())
    for _ in range(2):
        step()
        marks.append(time.perf_counter())
    spans = [end - start for start, end in pairwise(marks)]
    if not traced:
        spans[:2] = 0.0, 0.0
    return dict(zip(PARTS, spans, strict=True))


if __name__ == "__main__":
    print(json.dumps(_seconds(sys.argv[1] == "traced")))
