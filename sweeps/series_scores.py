"""What a series of saved checkpoints scores: the figures of its trace, for programs and people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trace_core import CHANGE_RATES, EXPLAINABILITIES, STABILITIES, TraceError

if TYPE_CHECKING:
    from trace_core import Trace
    from trace_core.checkpoints.series import Series

OF_THE_WHOLE = ("entropy", "article")
"""Kinds that fall with a model's size: of its parts they tell nothing."""


def series_scores(trace: Trace, series: Series) -> dict[str, Any]:
    """The figures as JSON (design §7): for each interval the change rates and the concentrations of
    |θ|, of the whole, of every block and of every tensor; for the series the stabilities.

    None is what is undefined, as `steadiness` is of fewer than eight intervals.
    """
    blocks, tensors = trace.by_block(), {name: trace.tensor(name) for name in trace.tensors}
    parts = {"": trace} | {f"block {k}": v for k, v in blocks.items()}
    parts |= {f"tensor {k}": v for k, v in tensors.items()}
    rates = {name: _each(part, "change_rate", CHANGE_RATES) for name, part in parts.items()}
    kinds = [kind for kind in EXPLAINABILITIES if kind not in OF_THE_WHOLE]
    shares = {name: _each(part, "explainability", kinds) for name, part in parts.items()}
    shares[""] = _each(trace, "explainability", EXPLAINABILITIES)
    labels, intervals = series.labels, []
    for i in range(len(trace)):
        of_part = {
            name: {"change_rate": _row(rates[name], i), "explainability": _row(shares[name], i)}
            for name in parts
        }
        between: dict[str, Any] = {"from": labels[i], "to": labels[i + 1]}
        if series.steps_known:
            between |= {"from_step": series.steps[i], "to_step": series.steps[i + 1]}
        intervals.append(
            between
            | of_part[""]
            | {
                "blocks": {name: of_part[f"block {name}"] for name in blocks},
                "tensors": {name: of_part[f"tensor {name}"] for name in tensors},
            }
        )
    return {
        "intervals": intervals,
        "stability": {kind: _stability(trace, kind) for kind in STABILITIES},
        "importance": trace.importance,
        "parameters": int(trace.sizes.sum()),
        "top_movers": [{"tensor": name, "path": path} for name, path in trace.top_movers(count=10)],
    }


def _stability(trace: Trace, kind: str) -> float | None:
    """None too where a checkpoint isn't finite."""
    try:
        return _defined(trace.stability(kind))
    except TraceError:
        return None


def _each(trace: Trace, method: str, kinds: Sequence[str]) -> dict[str, Any]:
    return {kind: getattr(trace, method)(kind) for kind in kinds}


def _row(figures: dict[str, np.ndarray[Any, Any]], interval: int) -> dict[str, float | None]:
    return {kind: _defined(float(values[interval])) for kind, values in figures.items()}


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
