"""Loops that take turns, so that whatever else the machine does hits them alike."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping

import numpy as np

Step = Callable[[], object]
FEWEST = 3
"""Blocks that are run, however long they take."""


def take_turns(
    steps: Mapping[str, Step],
    *,
    blocks: int,
    block_seconds: float,
    limit: float,
    periods: Mapping[str, int] | None = None,
) -> dict[str, list[float]]:
    """Return the seconds per call of each step, block after block.

    In each block every step is called for about ``block_seconds``, in an order that is drawn anew,
    so that none always follows the same other. ``periods`` names steps that are not all alike: they
    are called a multiple of so many times. After ``limit`` seconds `FEWEST` blocks have to do.
    """
    periods = periods or {}
    counts = {
        name: _calls(step, block_seconds, periods.get(name, 1)) for name, step in steps.items()
    }
    found: dict[str, list[float]] = {name: [] for name in steps}
    shuffle = random.Random(0).shuffle
    order = list(steps)
    started = time.perf_counter()
    for block in range(blocks):
        if block >= FEWEST and time.perf_counter() - started > limit:
            break
        shuffle(order)
        for name in order:
            found[name].append(_seconds(steps[name], counts[name]))
    return found


def _calls(step: Step, block_seconds: float, period: int) -> int:
    """How many calls fill a block. The first call, which may prepare something, doesn't count, and
    what a quick one takes once warm is only known from a second look.
    """
    step()
    count = 1
    for _ in range(2):
        fitting = math.ceil(block_seconds / _seconds(step, count))
        count = -(-fitting // period) * period
        if fitting == 1:
            break
    return count


def _seconds(step: Step, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - started) / count


def ratio(found: list[float], to: list[float]) -> tuple[float, float, float]:
    """Return quartiles (0.5, 0.25, 0.75) of the ratios of two steps of the same block."""
    low, middle, high = np.quantile(np.divide(found, to), (0.25, 0.5, 0.75))
    return float(middle), float(low), float(high)


def spread(found: list[float], to: list[float]) -> str:
    """The median ratio and the range between its quartiles, for a table."""
    return "{:.2f} ({:.2f}–{:.2f})".format(*ratio(found, to))


def duration(seconds: float) -> str:
    """A time with three digits and a unit that fits."""
    units = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}
    unit = next((unit for unit, size in units.items() if abs(seconds) >= size), "µs")
    value = seconds / units[unit]
    return f"{value:.{max(0, 2 - int(math.log10(max(abs(value), 1))))}f} {unit}"


def markdown(rows: list[list[str]]) -> str:
    """A table, its first row the head."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])
