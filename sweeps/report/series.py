"""Curves over a training's steps, for drawing: mean over the replicates, and their range.

What the ranking is computed from is never touched here; a curve is thinned only because a screen
has fewer dots than a training has steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import isfinite
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

POINTS = 110
"""Points a curve is thinned to: about one for every four dots of a chart's width."""


class Traced(Protocol):
    """What is read of a trace: its steps, and one value per step of either quantity."""

    @property
    def steps(self) -> Any: ...  # noqa: D102

    def change_rate(self, kind: str) -> Any: ...  # noqa: D102

    def explainability(self, kind: str) -> Any: ...  # noqa: D102


def curves(traces: Sequence[Traced], change_rate: str, concentration: str) -> dict[str, Any]:
    """``change_rate`` and ``explainability`` over the steps that all ``traces`` share.

    Each is what ``band`` gives; ``replicates`` is how many traces there are.
    """
    steps = [np.asarray(trace.steps, dtype=np.int64) for trace in traces]
    shared = reduce(np.intersect1d, steps) if steps else np.empty(0, dtype=np.int64)
    places = [np.searchsorted(own, shared) for own in steps]
    rates = [np.asarray(trace.change_rate(change_rate), dtype=float) for trace in traces]
    indices = [np.asarray(trace.explainability(concentration), dtype=float) for trace in traces]
    return {
        "change_rate": band(shared, [r[at] for r, at in zip(rates, places, strict=True)]),
        "explainability": band(shared, [e[at] for e, at in zip(indices, places, strict=True)]),
        "replicates": len(traces),
    }


def change_rate_curve(traces: Sequence[Traced], kind: str) -> dict[str, Any]:
    """`band` of the change rate over the steps that all ``traces`` share, of at least one."""
    steps = [np.asarray(trace.steps, dtype=np.int64) for trace in traces]
    shared = reduce(np.intersect1d, steps)
    rates = [np.asarray(trace.change_rate(kind), dtype=float) for trace in traces]
    places = [np.searchsorted(own, shared) for own in steps]
    return band(shared, [rate[at] for rate, at in zip(rates, places, strict=True)])


def band(steps: NDArray[np.int64], replicates: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """Thinned ``steps``, and the ``mean``, ``low`` and ``high`` of ``replicates`` over them.

    ``replicates`` are aligned with ``steps``; steps at which none has a value are left out.
    ``span`` is how many observations one point stands for.

    Each replicate is averaged over a span of steps before the replicates are compared, so that the
    band shows how seeds differ and not how noisy single steps are.
    """
    values = np.stack(replicates) if replicates else np.empty((0, len(steps)))
    # A histogram taken every few steps leaves gaps that are no breaks in the curve.
    observed = np.isfinite(values).any(axis=0)
    steps, values = steps[observed], values[:, observed]
    if not len(steps):
        return {"steps": [], "mean": [], "low": [], "high": [], "span": 1}
    width = -(-len(steps) // POINTS)
    starts = np.arange(0, len(steps), width)
    thinned = np.stack([_span_means(each, starts) for each in values])
    known = np.isfinite(thinned)
    counts = known.sum(axis=0)
    total = np.where(known, thinned, 0.0).sum(axis=0)
    mean = np.divide(total, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    low = np.where(known, thinned, np.inf).min(axis=0)
    high = np.where(known, thinned, -np.inf).max(axis=0)
    last = np.append(starts[1:], len(steps)) - 1
    middles = (steps[starts] + steps[last]) / 2
    return {
        "steps": [float(step) for step in middles],
        "mean": rounded(mean),
        "low": rounded(low),
        "high": rounded(high),
        "span": width,
    }


def _span_means(values: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    counts = np.add.reduceat(known.astype(np.int64), starts)
    total = np.add.reduceat(np.where(known, values, 0.0), starts)
    means = np.full(len(starts), np.nan)
    np.divide(total, counts, out=means, where=counts > 0)
    return means


def rounded(values: NDArray[np.float64]) -> list[float | None]:
    """Four significant figures, finer than a drawing shows and a third of the bytes; None for what
    is not finite.
    """
    known = np.isfinite(values) & (values != 0)
    digits = 3 - np.floor(np.log10(np.abs(values), where=known, out=np.zeros(len(values))))
    # A whole number over a power of ten is the float that is written in as few digits.
    power = 10.0 ** np.minimum(np.abs(digits), 300)
    with np.errstate(all="ignore"):
        short = np.where(
            digits >= 0, np.rint(values * power) / power, np.rint(values / power) * power
        )
    short = np.where(known, short, values)
    return [value if isfinite(value) else None for value in short.tolist()]
