"""Phases of a training: the spans between the changes in how its parameters move (design §4.7).

What is watched are log(r/η), r the `rms` change rate and η the learning rate, and the Gini index of
the importance; `trace_core.change_points` finds where either jumps beyond its drift and its noise.
Both are of the whole that the trace is of: a model, a layer or a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trace_core.change_points import change_points
from trace_core.errors import TraceError
from trace_core.statistics import FloatArray, IntArray
from trace_core.trace import Trace

NEAR = 0.05
"""Share of the run's length within which a change counts as that of a learning-rate step."""
STEP_FACTOR = 1.2
"""Least factor of a learning-rate step."""
ABRUPT = 3.0
"""How many times the changes beside it a learning-rate step is at the least."""


@dataclass(frozen=True)
class Phase:
    """A span of a training in which nothing changes abruptly."""

    start: int
    """First optimiser step."""
    stop: int
    """First optimiser step after it, so that ``trace.window(start, stop)`` is the phase."""
    schedule: bool
    """Whether the change at ``start`` lies within 5% of the trace's length of a learning-rate
    step.
    """


def phases(trace: Trace) -> tuple[Phase, ...]:
    """Return the phases of a trace in order: together they cover it, one alone if nothing changed,
    none if it has no observations.

    A phase is at least 5% of the trace, and its start is exact to 1% of it. Of fewer than 24
    observations there is one phase; the Gini index is heard where histograms fall into 24 of 100
    blocks of observations. Observations where a series is undefined (nothing moved, η = 0, no
    histogram, the training diverged) are passed over. Takes time linear in the observations.
    Raises TraceError for what is no trace.
    """
    if not hasattr(trace, "explainability"):
        raise TraceError(f"trace is a {type(trace).__name__}; give a Trace, such as tracer.trace()")
    if not len(trace):
        return ()
    gini = trace.explainability("gini")
    index = np.where((gini >= 0) & (gini <= 1), gini, np.nan)
    changes = change_points(np.stack([log_rate(trace), index]))
    steps = trace.steps
    length = int(steps[-1] - steps[0]) + 1
    turns = steps[_learning_rate_steps(trace.learning_rate())]
    starts = [int(steps[0]), *(int(step) for step in steps[changes])]
    return tuple(
        Phase(start, stop, bool(start > starts[0] and _near(start, turns, NEAR * length)))
        for start, stop in pairwise([*starts, int(steps[-1]) + 1])
    )


def _near(step: int, others: IntArray, distance: float) -> bool:
    return bool((np.abs(others - step) <= distance).any())


def log_rate(trace: Trace) -> FloatArray:
    """log(r/η) of each observation, NaN where either is 0 or unknown."""
    logs = np.full((2, len(trace)), np.nan)
    for values, out in zip((trace.change_rate("rms"), trace.learning_rate()), logs, strict=True):
        np.log(values, out=out, where=np.isfinite(values) & (values > 0))
    difference: FloatArray = logs[0] - logs[1]
    return difference


def _learning_rate_steps(rates: FloatArray) -> IntArray:
    """Observations at which the learning rate is another at once: by a factor of 1.2 or more, and
    by three times as much as from the observation before or to the next.

    Smooth schedules are not: their changes are like those beside them, in absolute terms even where
    a warm-up begins or a decay ends at 0 and the factors are large.
    """
    known = np.flatnonzero(np.isfinite(rates) & (rates > 0))
    rates = rates[known]
    if len(rates) < 2:
        return known[:0]
    change = np.abs(np.diff(rates))
    beside = np.pad(change, 1)
    beside = np.maximum(beside[:-2], beside[2:])
    large = np.abs(np.diff(np.log(rates))) >= np.log(STEP_FACTOR)
    steps: IntArray = known[1:][large & (change >= ABRUPT * beside)]
    return steps
