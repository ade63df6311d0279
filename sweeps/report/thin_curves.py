"""The change rate over the steps of every ranked model, small enough that a page can hold them all.

Quantised for drawing, which nothing is computed from: each point is one of 255 levels between the
least and the greatest rate of its model, on a logarithmic scale.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeps.report.series import rounded

LEVELS = 254
"""The highest level, but one: 0 is a point without a rate above 0, and the rest begin at 1."""


def thin_curves(models: Sequence[Sequence[NDArray[Any]]]) -> dict[str, Any]:
    """The mean curve of each model's trainings, which are (2, points) each: steps and rates.

    ``axes`` holds each sequence of steps once, ``axis`` which of them a model has, ``low`` and
    ``high`` its least and greatest rate (0 where it has none), ``levels`` the levels of all
    models' points in base64, a byte each, one model after the other.
    """
    axes: dict[tuple[float, ...], int] = {}
    axis, levels = [], []
    ends = np.zeros((2, len(models)))
    for place, trainings in enumerate(models):
        steps, rates = _mean(trainings)
        axis.append(axes.setdefault(tuple(steps.tolist()), len(axes)))
        known = np.isfinite(rates) & (rates > 0)
        found = np.zeros(len(rates), np.uint8)
        if known.any():
            ends[:, place] = rates[known].min(), rates[known].max()
            low, high = np.log(ends[:, place])
            share = (np.log(rates[known]) - low) / max(high - low, np.finfo(float).tiny)
            found[known] = 1 + np.rint(LEVELS * share).astype(np.uint8)
        levels.append(found.tobytes())
    return {
        "axes": [list(each) for each in axes],
        "axis": axis,
        "low": rounded(ends[0]),
        "high": rounded(ends[1]),
        "levels": base64.b64encode(b"".join(levels)).decode(),
    }


def _mean(trainings: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps that all trainings have, and the mean rate at each of those that have one there."""
    first = trainings[0][0]
    if all(np.array_equal(each[0], first) for each in trainings):
        steps, own = first, [each[1] for each in trainings]
    else:
        steps = reduce(np.intersect1d, [each[0] for each in trainings])
        own = [each[1][np.isin(each[0], steps)] for each in trainings]
    steps, rates = steps.astype(np.float64), np.stack(own).astype(np.float64)
    known = np.isfinite(rates)
    counts = known.sum(axis=0)
    total = np.where(known, rates, 0.0).sum(axis=0)
    return steps, np.divide(total, counts, out=np.full(len(steps), np.nan), where=counts > 0)
