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
    # Together those of the same steps, as arrays: one by one they take ten times as long.
    alike: dict[tuple[bytes, ...], list[int]] = {}
    for place, trainings in enumerate(models):
        alike.setdefault(tuple(each[0].tobytes() for each in trainings), []).append(place)
    axes: dict[tuple[float, ...], int] = {}
    axis, levels = [0] * len(models), [b""] * len(models)
    ends = np.zeros((2, len(models)))
    for places in alike.values():
        steps, rates = _means([models[place] for place in places])
        number = axes.setdefault(tuple(steps.tolist()), len(axes))
        own, ends[:, places] = _levels(rates)
        for place, each in zip(places, own, strict=True):
            axis[place], levels[place] = number, each.tobytes()
    return {
        "axes": [list(each) for each in axes],
        "axis": axis,
        "low": rounded(ends[0]),
        "high": rounded(ends[1]),
        "levels": base64.b64encode(b"".join(levels)).decode(),
    }


def _means(
    models: Sequence[Sequence[NDArray[Any]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps that all trainings have, (points,), and of each model the mean rate at each of those
    that have one there, (M, points). The trainings of all models are of the same steps.
    """
    given = [each[0] for each in models[0]]
    steps = reduce(np.intersect1d, given)
    shared = [np.isin(each, steps) for each in given]
    rates = np.array(
        [[each[1][at] for each, at in zip(own, shared, strict=True)] for own in models], np.float64
    )
    known = np.isfinite(rates)
    counts = known.sum(axis=1)
    total = np.where(known, rates, 0.0).sum(axis=1)
    means = np.divide(total, counts, out=np.full(total.shape, np.nan), where=counts > 0)
    return steps.astype(np.float64), means


def _levels(rates: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The levels of rates, (M, points) both, and (2, M) the least and greatest rate above 0."""
    known = np.isfinite(rates) & (rates > 0)
    some = known.any(axis=1)
    low = np.where(some, np.where(known, rates, np.inf).min(axis=1, initial=np.inf), 0.0)
    high = np.where(known, rates, 0.0).max(axis=1, initial=0.0)
    first, last = (np.log(np.where(some, each, 1.0))[:, None] for each in (low, high))
    logs = np.log(np.where(known, rates, 1.0))
    shares = (logs - first) / np.maximum(last - first, np.finfo(float).tiny)
    levels = np.where(known, 1 + np.rint(LEVELS * shares), 0.0)
    return levels.astype(np.uint8), np.stack([low, high])
