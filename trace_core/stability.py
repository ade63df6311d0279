"""Kinds of stability: how steadily the parameters move over a window of observations (design §4.2).

Each is one number in [0, 1] for a window, higher is steadier, NaN where it is undefined. The rates
r are model-level `rms` change rates; standard deviations are those of the population.
"""

from __future__ import annotations

import math

import numpy as np

from trace_core.statistics import BoolArray, FloatArray, IntArray

STABILITIES = ("steadiness", "steadiness_raw", "magnitude", "directness")
TRAILING = 50
"""Observations in the trailing window of a live stability."""
LEAST_USABLE = 8
"""Usable observations below which `steadiness` is undefined."""
REFERENCE_RATE = 1e-3
"""r₀ of `magnitude`: the customary update-to-weight ratio (CS231n)."""


def usable(rates: FloatArray, learning_rates: FloatArray) -> BoolArray:
    """Whether each observation can enter `steadiness`: r and η are both above 0. Shape
    (observations,).
    """
    counts: BoolArray = np.isfinite(rates) & (rates > 0) & (learning_rates > 0)
    return counts


def steadiness(rates: FloatArray, learning_rates: FloatArray) -> float:
    """1/(1 + s), s = sd(diff log(r/η))/√2 over the usable observations: how evenly the parameters
    move, whatever the schedule of η does. NaN with fewer than 8 usable observations.
    """
    kept = usable(rates, learning_rates)
    if np.count_nonzero(kept) < LEAST_USABLE:
        return math.nan
    steps = np.diff(np.log(rates[kept] / learning_rates[kept]))
    return 1.0 / (1.0 + float(np.std(steps)) / math.sqrt(2.0))


def steadiness_raw(rates: FloatArray) -> float:
    """1/(1 + CV of r), the literal reading; it mostly reads the schedule. NaN if nothing moved, or
    with one rate.
    """
    known = rates[np.isfinite(rates)]
    if len(known) < 2 or not known.any():
        return math.nan
    return 1.0 / (1.0 + float(np.std(known) / np.mean(known)))


def magnitudes(rates: FloatArray) -> FloatArray:
    """1/(1 + r/r₀) of each observation."""
    values: FloatArray = 1.0 / (1.0 + rates / REFERENCE_RATE)
    return values


def magnitude(rates: FloatArray) -> float:
    """Mean over the observations of 1/(1 + r/r₀): how small the moves are. NaN without any rate."""
    known = rates[np.isfinite(rates)]
    return float(np.mean(magnitudes(known))) if len(known) else math.nan


def directness(displacement: float, path: float) -> float:
    """‖θ_b − θ_a‖ over the length of the path between: 1 is a straight line. NaN if nothing moved,
    or the training diverged.

    The path of a trace with ``every=k`` is an estimate, k times what was observed, so the quotient
    is held at 1.
    """
    direct = displacement / path if path > 0 else math.nan
    return 1.0 if direct > 1.0 else direct


def first_entering(histograms: IntArray, start: int) -> int:
    """Return the first observation that enters what `Trace.scores` gives from the one at ``start``
    on: of the trailing window, or the one with the histogram from which a concentration is carried
    on. histograms: the observations that have one, rising.
    """
    first = max(0, start - TRAILING + 1)
    carried = int(np.searchsorted(histograms, start, side="right")) - 1
    return first if carried < 0 else min(first, int(histograms[carried]))
