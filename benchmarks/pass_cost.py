"""What one pass over N parameters costs, against the time that the memory alone takes.

The pass reads the parameters, their gradients and their snapshots, and writes the snapshots: four
times 4N bytes in float32. A copy reads 4N bytes and writes 4N, so that the floor is the time of two
copies, made in the same blocks.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.machine import THREADS
from benchmarks.timing import Step, duration, markdown, spread, take_turns
from trace_core import Tracer, kernel

SIZES = (
    *((10**power, 1) for power in range(2, 9)),
    *((10**power, 100) for power in (4, 6, 7)),
)
"""Elements in all, and equal tensors that they are in."""
TORCH_UP_TO = 10_000_000
"""Elements up to which PyTorch's operations are timed too, since it takes seconds beyond."""
LIMIT = 5.0
"""Seconds that the blocks of one row may take."""
NEVER = 1 << 30
COPIES = ("copy_", "memmove", "threaded memmove")


class Still(Optimizer):
    """An optimiser that moves one element of each tensor, so that a step costs next to nothing."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__(tensors, {"lr": 0.01})
        self._first = [tensor.detach().view(-1)[:1] for tensor in tensors]

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Add a little to the first elements."""
        torch._foreach_add_(self._first, 1e-6)


@contextmanager
def _passes(name: str) -> Iterator[None]:
    """Let tracers read parameters by the pass of this name, ``compiled`` or ``torch``."""
    if name == "torch":
        os.environ[kernel.VARIABLE] = "torch"
    kernel.library.cache_clear()
    try:
        yield
    finally:
        os.environ.pop(kernel.VARIABLE, None)
        kernel.library.cache_clear()


def table(
    sizes: Sequence[tuple[int, int]] = SIZES, *, blocks: int = 9, block_seconds: float = 0.02
) -> str:
    """The table, as Markdown."""
    names = ["torch"] if kernel.library() is None else ["compiled", "torch"]
    head = ["parameters", "tensors", "pass", "floor"]
    for cadence in ("without histogram", "with histogram"):
        head += [cadence, "× floor"]
    rows = [head]
    for size, tensors in sizes:
        for name in names:
            if name == "torch" and size > TORCH_UP_TO:
                continue
            with _passes(name):
                cells = _cells(size, tensors, blocks, block_seconds)
            rows.append([f"{size:,}", str(tensors), name, *cells])
    return markdown(rows)


def _still(size: int, tensors: int) -> tuple[nn.Module, Still]:
    """A model with gradients, and its optimiser. Each tracer has its own: where another's optimiser
    moves the parameters too, snapshots are renewed once more than in a training.
    """
    torch.manual_seed(0)
    model = nn.ParameterList(nn.Parameter(torch.randn(size // tensors)) for _ in range(tensors))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model, Still(list(model.parameters()))


def _cells(size: int, tensors: int, blocks: int, block_seconds: float) -> list[str]:
    _, bare = _still(tensors, tensors)
    (plain_model, plain), (full_model, full) = (_still(size, tensors) for _ in range(2))
    with (
        Tracer(plain_model, plain, exact_directness=False, histogram_every=NEVER),
        Tracer(full_model, full, exact_directness=False, histogram_every=1),
    ):
        found = take_turns(
            {"bare": bare.step, "plain": plain.step, "full": full.step, **_copies(size)},
            blocks=blocks,
            block_seconds=block_seconds,
            limit=LIMIT,
        )
    step = statistics.median(found["bare"])
    quickest = min(COPIES, key=lambda name: statistics.median(found[name]))
    floors = [2 * seconds for seconds in found[quickest]]
    cells = [duration(statistics.median(floors))]
    for name in ("plain", "full"):
        passes = [seconds - step for seconds in found[name]]
        cells += [duration(statistics.median(passes)), spread(passes, floors)]
    return cells


def _copies(size: int) -> dict[str, Step]:
    """Copies of N float32 by one thread and by as many as the pass may use; the quickest is the
    floor's.
    """
    source, target = torch.randn(size), torch.zeros(size)
    start, end, count = source.data_ptr(), target.data_ptr(), source.nbytes
    cuts = [count * i // THREADS for i in range(THREADS + 1)]

    def threaded() -> None:
        threads = [
            threading.Thread(target=ctypes.memmove, args=(end + at, start + at, stop - at))
            for at, stop in pairwise(cuts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    steps: tuple[Step, ...] = (
        lambda: target.copy_(source),
        lambda: ctypes.memmove(end, start, count),
        threaded,
    )
    return dict(zip(COPIES, steps, strict=True))
