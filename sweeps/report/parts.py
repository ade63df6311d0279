"""A model's parts: its own modules, and the blocks that each of them repeats.

A head that is new usually changes more, for its size, than a backbone from a checkpoint, so the two
are told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.report.series import rounded
from sweeps.scoring import defined_stability, mean
from trace_core.statistics import Statistic

if TYPE_CHECKING:
    from trace_core import Trace

MOST = 120
"""Most rows of parts that a page shows."""


def parts(trace: Trace, kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each of the model's own modules and, below it, for each of its blocks where it has
    several: ``name``, ``depth`` (0 or 1), ``parameters`` that take part at the end, ``share`` of
    the squared movement of the whole model, and its scores of these ``kinds`` over the run, None
    where they are undefined.

    No rows for a model whose parts are single blocks, which its layers tell as well, or of more
    than `MOST`.
    """
    chosen = list(_named(trace))
    if not any(depth for _, depth, _ in chosen) or len(chosen) > MOST:
        return []
    moved = _moved(trace)
    return [
        {
            "name": name,
            "depth": depth,
            "parameters": int(part.active[-1]) if len(part) else 0,
            "share": _figure(_moved(part) / moved) if moved else None,
            "change_rate": _figure(mean(part.change_rate(kinds["change_rate"]))),
            "stability": _figure(defined_stability(part, kinds["stability"])),
            "explainability": _figure(mean(part.explainability(kinds["explainability"]))),
        }
        for name, depth, part in chosen
    ]


def _named(trace: Trace) -> Iterator[tuple[str, int, Trace]]:
    for name, part in trace.by_part().items():
        yield name, 0, part
        blocks = part.by_block()
        if len(blocks) > 1:
            for block, each in blocks.items():
                yield (f"{name}, the rest" if block == name else block), 1, each


def _moved(trace: Trace) -> float:
    return float(trace.statistics[:, :, Statistic.SQ_DELTA].sum())


def _figure(value: float) -> float | None:
    return rounded(np.array([float(value)]))[0]
