"""A model's score as a line in α: where lines cross, and which one leads.

The score of model m is ``α·S[m] + (1 − α)·E[m]``, so over the open interval (0, 1) two models
swap at most once. Floats are exact rationals: every crossing here is an exact
:class:`~fractions.Fraction`, and no decision rests on rounding.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import lcm
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_core.errors import TraceError, whole_number

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
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
    # The difference of two floats never rounds to zero or past it, so these signs are exact.
    above, gain = second - second[model], first - first[model]
    ahead = (above > 0) | ((above == 0) & (gain > 0))
    rank = 1 + int(ahead.sum())
    steps, start = [], 0.0
    for alpha, change in _rank_changes(first, second, model, ahead, np.sign(above) * gain < 0):
        steps.append((start, alpha, rank))
        start = alpha
        rank += change
    return [*steps, (start, 1.0, rank)]


def _rank_changes(
    first: FloatArray, second: FloatArray, model: int, ahead: BoolArray, crossing: BoolArray
) -> Iterator[tuple[float, int]]:
    """Where the rank of ``model`` changes and by how much, in order: at the lines of those that are
    ``crossing`` its own, some of which are ``ahead`` of it at 0.
    """
    others = np.flatnonzero(crossing)
    s, e = _exact_lines(first[[*others, model]], second[[*others, model]])
    places: dict[float, list[tuple[int, int, int]]] = {}
    for at_one, at_zero, was_ahead in zip(s, e, ahead[others].tolist(), strict=False):
        above, gain = at_zero - e[-1], at_one - s[-1]
        crossed = (above, above - gain, -1 if was_ahead else 1)
        places.setdefault(above / (above - gain), []).append(crossed)
    # Rounding is monotone: the floats order all but their ties, and those the fractions settle.
    for alpha in sorted(places):
        if len(places[alpha]) == 1:
            yield alpha, places[alpha][0][-1]
            continue
        changes: dict[Fraction, int] = {}
        for numerator, denominator, change in places[alpha]:
            exact = Fraction(numerator, denominator)
            changes[exact] = changes.get(exact, 0) + change
        yield from ((alpha, changes[exact]) for exact in sorted(changes) if changes[exact])
