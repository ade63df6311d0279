"""What a series of saved checkpoints scores: the figures of its trace, for programs and people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trace_core import CHANGE_RATES, EXPLAINABILITIES, STABILITIES, TraceError
from trace_core.statistics import Statistic, total

if TYPE_CHECKING:
    from trace_core import Trace
    from trace_core.checkpoints import Measured, Series

OF_THE_WHOLE = ("entropy", "article")
"""Kinds that fall with a model's size: of its parts they tell nothing."""
_OF_PARTS = tuple(kind for kind in EXPLAINABILITIES if kind not in OF_THE_WHOLE)
_NAMED = 5
"""Checkpoints that a note names."""


def series_scores(measured: Measured, series: Series) -> dict[str, Any]:
    """The figures as JSON (design §7): for each interval the change rates and the concentrations of
    |θ| before it, of the whole, of every block and of every tensor; those concentrations of the
    last checkpoint (``end``); for the series the stabilities; and what was left out.

    None is what is undefined, as `steadiness` is of fewer than eight intervals.
    """
    trace, labels = measured.trace, series.labels
    rates = _parts(trace, "change_rate", CHANGE_RATES, CHANGE_RATES)
    shares = _parts(trace, "explainability", EXPLAINABILITIES, _OF_PARTS)
    at_end = _parts(measured.end, "explainability", EXPLAINABILITIES, _OF_PARTS)
    intervals = []
    for i in range(len(trace)):
        between: dict[str, Any] = {"from": labels[i], "to": labels[i + 1]}
        if series.steps_known:
            between |= {"from_step": series.steps[i], "to_step": series.steps[i + 1]}
        if series.rates_known:
            steps = series.steps[i + 1] - series.steps[i]
            between["learning_rate"] = _defined(float(series.learning_rates[i]) / steps)
        told = _row({"change_rate": rates, "explainability": shares}, i)
        intervals.append(between | told)
    end: dict[str, Any] = {"checkpoint": labels[-1]}
    if series.steps_known:
        end["step"] = series.steps[-1]
    movers = [{"tensor": name, "path": _defined(path)} for name, path in trace.top_movers(count=10)]
    return {
        "intervals": intervals,
        "end": end | _row({"explainability": at_end}, 0),
        "stability": {kind: _stability(trace, kind) for kind in STABILITIES},
        "importance": trace.importance,
        "parameters": int(trace.sizes.sum()),
        "top_movers": movers,
        "left_out": _left_out(series),
    }


def series_notes(measured: Measured, series: Series) -> list[str]:
    """What to know before the figures are relied on, in words."""
    notes = []
    if series.reordered:
        notes.append("taken in the order of their steps, not as they were given")
    if not series.steps_known:
        notes.append(
            "nothing tells the steps of all of them: taken in the order they were named in"
        )
    trace, labels = measured.trace, series.labels
    sums = [each.statistics[:, :, Statistic.ABS_THETA] for each in (trace, measured.end)]
    finite = [bool(row.all()) for row in np.isfinite(np.concatenate(sums))]
    if not all(finite):
        bad = [label for label, is_finite in zip(labels, finite, strict=True) if not is_finite]
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        are = "isn't" if len(bad) == 1 else "aren't"
        notes.append(f"{', '.join(bad[:_NAMED])}{more} {are} finite")
    elif _stability(trace, "steadiness") is None:
        notes.append("steadiness needs eight intervals in which something moved")
    return notes


@dataclass(frozen=True)
class Block:
    """One of a model's repeated or top-level parts."""

    name: str
    trace: Trace
    end: Trace
    path: float
    """Σ‖δ‖/mean ‖θ‖: the length of its path for its size, ∞ if it was 0 until it moved, NaN where a
    checkpoint isn't finite.
    """

    @property
    def parameters(self) -> int:
        """How many it has."""
        return int(self.trace.sizes.sum())


def blocks_by_path(measured: Measured) -> list[Block]:
    """All blocks, the one that moved most for its size first."""
    at_end = measured.end.by_block()
    blocks = [
        Block(name, part, at_end[name], _path(part))
        for name, part in measured.trace.by_block().items()
    ]
    return sorted(blocks, key=lambda block: math.inf if math.isnan(block.path) else -block.path)


def _path(part: Trace) -> float:
    moved, size = (
        float(np.sqrt(total(part.statistics, statistic)).sum())
        for statistic in (Statistic.SQ_DELTA, Statistic.SQ_THETA)
    )
    if size == 0:
        return math.inf if moved > 0 else 0.0
    return moved * len(part) / size


def _left_out(series: Series) -> list[dict[str, Any]]:
    """Each tensor that isn't followed: why, and in how many checkpoints it is."""
    counts = Counter(
        named for checkpoint in series.checkpoints for named in checkpoint.left_out.items()
    )
    return [
        {"tensor": name, "reason": reason, "checkpoints": count}
        for (name, reason), count in counts.items()
    ]


def _stability(trace: Trace, kind: str) -> float | None:
    """None too where a checkpoint isn't finite."""
    try:
        return _defined(trace.stability(kind))
    except TraceError:
        return None


Figures = dict[str, "np.ndarray[Any, Any]"]
"""One value per observation, by kind."""


def _parts(
    trace: Trace, method: str, kinds: Sequence[str], of_parts: Sequence[str]
) -> dict[str, dict[str, Figures]]:
    """The figures of the whole (under "" alone), of its blocks and of its tensors."""

    def each(part: Trace, kinds: Sequence[str]) -> Figures:
        return {kind: getattr(part, method)(kind) for kind in kinds}

    return {
        "": {"": each(trace, kinds)},
        "blocks": {name: each(part, of_parts) for name, part in trace.by_block().items()},
        "tensors": {name: each(trace.tensor(name), of_parts) for name in trace.tensors},
    }


def _row(methods: dict[str, dict[str, dict[str, Figures]]], row: int) -> dict[str, Any]:
    """One observation's figures by method, of the whole and of its parts."""

    def told(of: str, name: str) -> dict[str, Any]:
        return {
            method: {kind: _defined(float(values[row])) for kind, values in all_[of][name].items()}
            for method, all_ in methods.items()
        }

    some = next(iter(methods.values()))
    parts = {of: {name: told(of, name) for name in some[of]} for of in ("blocks", "tensors")}
    return told("", "") | parts


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
