"""`tracerank score` on a series of saved checkpoints, beside reading and copying the same files.

Five checkpoints of 22.7 M parameters (a BERT of 6 layers, 384 wide), in files that the system holds
in memory, as both ways find them. The memory is that of a process of its own, above what it held
once its libraries were imported.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import fresh
from benchmarks.timing import duration, markdown

WIDTH, LAYERS, VOCABULARY = 384, 6, 30_522
CHECKPOINTS = 5
BLOCKS = 9
SPEED_AIM, PAIR_AIM, FIXED_AIM = 0.5, 1.3, 50
"""The least share of the speed of reading and copying; the most memory, as a multiple of the
largest pair of tensors and as MiB beside it.
"""


def table(width: int = WIDTH, vocabulary: int = VOCABULARY, blocks: int = BLOCKS) -> str:
    """Time and memory, as Markdown."""
    with tempfile.TemporaryDirectory() as name:
        largest = _write(Path(name), width, vocabulary)
        runs = [fresh.run("benchmarks.checkpoints", name, str(blocks)) for _ in range(3)]
        size = sum(file.stat().st_size for file in Path(name).glob("*.safetensors"))
    ours, copying = (median(run[k] for run in runs) for k in (0, 1))
    memory = max(run[2] for run in runs) / 2**20
    limit = PAIR_AIM * 2 * largest / 2**20 + FIXED_AIM
    rows = [
        ["files", "read and copied (the floor)", "scored", "share of its speed", "memory"],
        [
            f"{CHECKPOINTS} of {size / CHECKPOINTS / 2**20:.1f} MiB",
            f"{duration(copying)} ({size / copying / 1e9:.1f} GB/s)",
            f"{duration(ours)} ({size / ours / 1e9:.1f} GB/s)",
            f"{copying / ours:.2f} (aim ≥ {SPEED_AIM})",
            f"{memory:.0f} MiB (aim ≤ {limit:.0f} MiB)",
        ],
    ]
    return markdown(rows)


def _write(folder: Path, width: int, vocabulary: int) -> int:
    """Write the series; returns the bytes of its largest tensor."""
    import torch
    from safetensors.torch import save_file

    shapes: dict[str, tuple[int, ...]] = {"embeddings.word_embeddings.weight": (vocabulary, width)}
    shapes["embeddings.position_embeddings.weight"] = (512, width)
    for layer in range(LAYERS):
        parts = {f"attention.{name}": (width, width) for name in ("query", "key", "value", "out")}
        parts |= {"intermediate": (4 * width, width), "output": (width, 4 * width)}
        for name, shape in parts.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
    torch.manual_seed(0)
    state = {name: 0.05 * torch.randn(shape) for name, shape in shapes.items()}
    for step in range(CHECKPOINTS):
        save_file(state, folder / f"step-{step}.safetensors")
        state = {name: value + 1e-3 * torch.randn_like(value) for name, value in state.items()}
    return max(value.nbytes for value in state.values())


def _measured(folder: Path, blocks: int) -> list[float]:
    """Seconds of scoring and of reading and copying, medians of both in turns, and bytes that
    scoring took.
    """
    from trace_core.checkpoints import trace_checkpoints

    files = sorted(folder.glob("*.safetensors"))

    def score() -> None:
        trace_checkpoints(files)

    def copy() -> None:
        for file in files:
            np.fromfile(file, np.uint8).copy()

    fresh.forget_peak()
    before = fresh.peak()
    score()
    memory = fresh.peak() - before
    taken: dict[Callable[[], None], list[float]] = {score: [], copy: []}
    for _ in range(blocks):
        for way, seconds in taken.items():
            begun = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - begun)
    return [median(taken[score]), median(taken[copy]), memory]


if __name__ == "__main__":
    print(json.dumps(_measured(Path(sys.argv[1]), int(sys.argv[2]))))
