"""A model's score as a line in α: where lines cross, and which one leads.

The score of model m is ``α·S[m] + (1 − α)·E[m]``, so over the open interval (0, 1) two models
swap at most once. Floats are exact rationals: every crossing here is an exact
:class:`~fractions.Fraction`, and no decision rests on rounding.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import lcm
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_core.errors import TraceError, whole_number

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Crossing(NamedTuple):
    """Two models whose scores are equal at ``alpha`` and swap there; ``first < second``."""

    alpha: Fraction
    first: int
    second: int


class Span(NamedTuple):
    """The models that lead for every α in the open interval (``start``, ``stop``).

    ``models`` holds the positions of all models on the leading line: more than one only where
    their stability and explainability are both equal.
    """

    start: Fraction
    stop: Fraction
    models: tuple[int, ...]


def numbers(values: npt.ArrayLike, name: str) -> FloatArray:
    """These values in float64, in their shape.

    Raises:
        TraceError: naming ``name``, if they are no numbers, or their rows are of unequal lengths.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TraceError(f"{name} must hold numbers: {error}") from error


def vector(values: npt.ArrayLike, name: str, models: int | None = None) -> FloatArray:
    """One finite float64 value per model.

    Raises:
        TraceError: naming ``name``, if it is no vector (of ``models`` values), or holds a value
            that is not finite.
    """
    column = numbers(values, name)
    if column.ndim != 1 or len(column) != (len(column) if models is None else models):
        size = "" if models is None else f" of {models} values"
        raise TraceError(
            f"{name} must be a vector{size}, one per model; its shape is {column.shape}"
        )
    wrong = np.flatnonzero(~np.isfinite(column))
    if len(wrong):
        raise TraceError(f"{name} must be finite; at position {wrong[0]} it is {column[wrong[0]]}")
    return column


def columns(
    stability: npt.ArrayLike, explainability: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Both components as float64 vectors of one length M.

    Raises:
        TraceError: see :func:`vector`; or for unequal lengths.
    """
    first = vector(stability, "stability")
    return first, vector(explainability, "explainability", len(first))


def scaled_integers(values: Sequence[float]) -> list[int]:
    """The floats times the one positive factor that makes all of them integers, exactly."""
    ratios = [float(value).as_integer_ratio() for value in values]
    factor = lcm(*(denominator for _, denominator in ratios))
    return [numerator * (factor // denominator) for numerator, denominator in ratios]


def _exact_lines(first: FloatArray, second: FloatArray) -> tuple[list[int], list[int]]:
    both = scaled_integers([*first.tolist(), *second.tolist()])
    return both[: len(first)], both[len(first) :]


def crossings(stability: npt.ArrayLike, explainability: npt.ArrayLike) -> list[Crossing]:
    """Every pair that swaps inside (0, 1), in order of α, then of position.

    A pair crosses there exactly if its differences in the two components have opposite signs.
    Pairs that meet at 0 or 1 only, and identical ones, never swap.

    Args:
        stability: shape (M,).
        explainability: shape (M,).

    Returns:
        At most M(M − 1)/2 crossings. O(M² log M).

    Raises:
        TraceError: see :func:`columns`.
    """
    first, second = columns(stability, explainability)
    # The difference of two floats never rounds to zero or past it, so these signs are exact.
    opposite = np.sign(np.subtract.outer(first, first)) * np.sign(np.subtract.outer(second, second))
    s, e = _exact_lines(first, second)
    found = []
    for i, j in zip(*(index.tolist() for index in np.nonzero(np.triu(opposite < 0))), strict=True):
        gain = e[i] - e[j]
        alpha = Fraction(gain, gain - (s[i] - s[j]))
        found.append((float(alpha), Crossing(alpha, i, j)))
    # Rounding is monotone: the floats order all but their ties, and those the fractions settle.
    found.sort()
    return [crossing for _, crossing in found]


def breakpoints(stability: npt.ArrayLike, explainability: npt.ArrayLike) -> list[Fraction]:
    """The distinct α in (0, 1) at which some pair swaps, ascending.

    Raises:
        TraceError: see :func:`columns`.
    """
    return list(dict.fromkeys(each.alpha for each in crossings(stability, explainability)))


def leaders(stability: npt.ArrayLike, explainability: npt.ArrayLike) -> list[Span]:
    """The upper envelope of the lines: who leads where, exactly.

    Walks from α = 0 to 1; from each leader to the first steeper line that overtakes it. A model
    that only touches the envelope at a point leads nowhere.

    Args:
        stability: shape (M,).
        explainability: shape (M,).

    Returns:
        Adjoining spans that cover [0, 1], in order; empty for no models. O(M·h), h the number
        of spans.

    Raises:
        TraceError: see :func:`columns`.
    """
    first, second = columns(stability, explainability)
    if not len(first):
        return []
    s, e = _exact_lines(first, second)
    same: dict[tuple[int, int], list[int]] = {}
    for model, line in enumerate(zip(s, e, strict=True)):
        same.setdefault(line, []).append(model)
    leader = max(same, key=lambda line: (line[1], line[0]))
    spans, start = [], Fraction(0)
    while True:
        overtakers = [
            (Fraction(leader[1] - line[1], leader[1] - line[1] + line[0] - leader[0]), line)
            for line in same
            if line[0] - line[1] > leader[0] - leader[1] and line[0] > leader[0]
        ]
        if not overtakers:
            spans.append(Span(start, Fraction(1), tuple(same[leader])))
            return spans
        stop, successor = min(overtakers, key=lambda each: (each[0], each[1][1] - each[1][0]))
        spans.append(Span(start, stop, tuple(same[leader])))
        leader, start = successor, stop


def share_first(stability: npt.ArrayLike, explainability: npt.ArrayLike) -> FloatArray:
    """The share of [0, 1] in which each model is first; identical models share it evenly.

    Args:
        stability: shape (M,).
        explainability: shape (M,).

    Returns:
        Shape (M,), in [0, 1], with sum 1 (to rounding) if M > 0.

    Raises:
        TraceError: see :func:`columns`.
    """
    spans = leaders(stability, explainability)
    shares = np.zeros(np.size(stability))
    for span in spans:
        shares[list(span.models)] = float((span.stop - span.start) / len(span.models))
    return shares


def rank_steps(
    stability: npt.ArrayLike, explainability: npt.ArrayLike, model: int
) -> list[tuple[float, float, int]]:
    """One model's rank against α: the data of a rank-against-α chart.

    Args:
        stability: shape (M,).
        explainability: shape (M,).
        model: the position of the model.

    Returns:
        ``(start, stop, rank)`` over [0, 1], in order, without gaps, neighbours of different
        rank: 1 + the number of models that score higher. O(M log M), decided exactly.

    Raises:
        TraceError: see :func:`columns`; or for a model that isn't there.
    """
    first, second = columns(stability, explainability)
    if whole_number("model", model, 0) >= len(first):
        raise TraceError(f"model is {model}; there are {len(first)}, counted from 0")
    s, e = _exact_lines(first, second)
    rank, changes = 1, dict[Fraction, int]()
    for at_one, at_zero in zip(s, e, strict=True):
        above, gain = at_zero - e[model], at_one - s[model]
        ahead = above > 0 or (above == 0 and gain > 0)
        rank += ahead
        if above * gain < 0:
            crossing = Fraction(above, above - gain)
            changes[crossing] = changes.get(crossing, 0) + (-1 if ahead else 1)
    steps, start = [], 0.0
    for crossing in sorted(changes):
        if changes[crossing]:
            steps.append((start, float(crossing), rank))
            start = float(crossing)
            rank += changes[crossing]
    return [*steps, (start, 1.0, rank)]
