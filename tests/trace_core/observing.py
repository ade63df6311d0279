"""What a tracer must have seen of a step, worked out with numpy in float64, and steps with known
ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from trace_core import Trace, Tracer
from trace_core.histogram import BINS
from trace_core.kernel import library
from trace_core.statistics import DISPLACEMENT, FloatArray, Statistic

PASSES = ["compiled", "torch"] if library() is not None else ["torch"]
"""The ways in which parameters are read here."""


@contextmanager
def passes(name: str) -> Iterator[None]:
    """Read parameters with the compiled pass, or with PyTorch's operations."""
    if name == "compiled":
        yield
    else:
        with (
            mock.patch("trace_core.watched.library", return_value=None),
            mock.patch("trace_core.kernel.library", return_value=None),
        ):
            yield


# ---- the oracle


@dataclass
class Seen:
    """What one step did to one tensor."""

    statistics: FloatArray
    """As `Statistic` orders them."""
    scales: FloatArray
    """The size of what was added up for each of them, which errors are relative to."""
    importance: FloatArray
    """c of each element."""


def look(before: Tensor, after: Tensor, gradient: Tensor, importance: str = "taylor") -> Seen:
    """Work out the statistics of a step, as they are defined."""
    theta, updated, g = (
        tensor.detach().to_dense().double().numpy().ravel().copy()
        if tensor.is_sparse
        else tensor.detach().double().numpy().ravel()
        for tensor in (before, after, gradient)
    )
    with np.errstate(all="ignore"):
        delta = updated - theta
        c = {
            "uniform": np.ones_like(theta),
            "magnitude": np.abs(theta),
            "gradient": np.abs(g),
            "taylor": np.abs(theta * g),
        }[importance]
        both = np.abs(theta) + np.abs(updated)
        log_c = np.where(c == 0, 0.0, np.log(np.where(c == 0, 1.0, c)))
        terms = [
            np.ones_like(theta),
            np.abs(theta),
            theta**2,
            np.abs(delta),
            delta**2,
            theta * delta,
            np.where(theta == 0, 0.0, np.abs(delta) / np.abs(theta)),
            theta == 0,
            np.where(both == 0, 0.0, np.abs(delta) / both),
            c,
            c**2,
            c * log_c,
        ]
        statistics = np.array([term.sum() for term in terms])
        scales = np.array([np.abs(term).sum() for term in terms])
        # A product's error can be of any sign: it is relative to the factors. So is that of c ln c
        # to c, where the logarithm is small.
        scales[Statistic.THETA_DELTA] = np.sqrt(
            scales[Statistic.SQ_THETA] * scales[Statistic.SQ_DELTA]
        )
        scales[Statistic.C_LOG_C] += c.sum()
    return Seen(statistics, scales, c)


def assert_seen(rows: FloatArray, wanted: Sequence[Seen], rtol: float) -> None:
    """Compare (T, columns) of a trace, at one observation, with the oracle."""
    for tensor, (row, seen) in enumerate(zip(rows, wanted, strict=True)):
        for statistic in Statistic:
            value, expected = row[statistic], seen.statistics[statistic]
            with np.errstate(invalid="ignore"):
                close = abs(value - expected) <= rtol * seen.scales[statistic]
            same = value == expected or (np.isnan(value) and np.isnan(expected))
            assert close or same, (
                f"{statistic.name} of tensor {tensor}: {value!r}, expected {expected!r}"
            )


def dense_counts(trace: Trace, row: int) -> FloatArray:
    """(T, BINS) histogram of one observation."""
    histogram = trace.histogram.window(row, row + 1)
    counts = np.zeros((len(trace.tensors), BINS), np.int64)
    owner = np.repeat(np.arange(len(trace.tensors)), histogram.filled[0])
    counts[owner, histogram.bins] = histogram.counts
    return counts


def assert_counted(counts: FloatArray, wanted: Sequence[Seen]) -> None:
    """Compare (T, BINS) with c: only elements at the edge of a bin may be in the next one."""
    for found, seen in zip(counts, wanted, strict=True):
        c = seen.importance
        with np.errstate(all="ignore"):
            place = 4 * np.log2(c)
        place = np.where(np.isnan(place), np.inf, place)
        bins = np.clip(np.floor(place) + 4 * 96 + 2, 1, BINS - 1)
        bins[c == 0] = 0
        expected = np.bincount(bins.astype(np.int64), minlength=BINS)
        with np.errstate(invalid="ignore"):
            doubtful = np.count_nonzero(np.abs(place - np.round(place)) < 1e-5)
        assert found.sum() == expected.sum()
        assert np.abs(found - expected).sum() <= 2 * doubtful


def gini(c: FloatArray) -> float:
    """Gini index by its definition over ranks, NaN where undefined."""
    n, mass = len(c), c.sum()
    if n < 2 or not 0 < mass < np.inf:
        return np.nan
    return float(2 * np.arange(1, n + 1) @ np.sort(c) / (n * mass) - (n + 1) / n)


# ---- steps with known ends


class Place(torch.optim.Optimizer):
    """Puts every parameter where ``targets`` says."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__(parameters, {"lr": 1.0})
        self.targets: Sequence[Tensor] = []

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for parameter, target in zip(self.param_groups[0]["params"], self.targets, strict=True):
            parameter.copy_(target)


class Holder(nn.Module):
    """A layer of one or two tensors."""

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__()
        self.first, self.second = (*map(nn.Parameter, tensors), None)[:2]


def observe(
    points: Sequence[Sequence[Tensor]], gradients: Sequence[Sequence[Tensor]], **settings: object
) -> Trace:
    """Trace steps from point to point, each of a list of tensors, with these gradients."""
    start = [point.clone() for point in points[0]]
    model = nn.Sequential(*(Holder(*start[i : i + 2]) for i in range(0, len(start), 2)))
    optimizer = Place(list(model.parameters()))
    tracer = Tracer(model, optimizer, **settings)
    for targets, given in zip(points[1:], gradients, strict=True):
        for parameter, gradient in zip(model.parameters(), given, strict=True):
            parameter.grad_dtype = None
            parameter.grad = gradient
        optimizer.targets = targets
        optimizer.step()
    return tracer.trace()


def assert_right(
    trace: Trace,
    points: Sequence[Sequence[Tensor]],
    gradients: Sequence[Sequence[Tensor]],
    importance: str,
    rtol: float,
) -> list[list[Seen]]:
    """Compare all that `observe` traced with the oracle, and return what that saw."""
    seen_of_rows = []
    for row, (before, after, given) in enumerate(
        zip(points[:-1], points[1:], gradients, strict=True)
    ):
        wanted = [look(*each, importance) for each in zip(before, after, given, strict=True)]
        seen_of_rows.append(wanted)
        assert_seen(trace.statistics[row], wanted, rtol)
        assert_counted(dense_counts(trace, row), wanted)
        for tensor, seen in enumerate(wanted):
            if len(seen.importance) < 4096:
                np.testing.assert_allclose(
                    trace.exact[row, tensor, 0], gini(seen.importance), rtol=1e-5, atol=1e-6
                )
        for column, anchor in enumerate(trace.anchors):
            for tensor, (origin, now) in enumerate(zip(points[anchor], after, strict=True)):
                expected = (now.double() - origin.double()).square().sum().item()
                found = trace.statistics[row, tensor, DISPLACEMENT + column]
                if anchor > row:
                    assert np.isnan(found)
                else:
                    np.testing.assert_allclose(found, expected, rtol=1e-9)
    return seen_of_rows


def assert_alike(one: Trace, other: Trace, wanted: Sequence[Sequence[Seen]]) -> None:
    """Compare what two passes saw of the same steps, of which the oracle says how large it is."""
    scales = np.array([[seen.scales for seen in row] for row in wanted])
    left, right = (each.statistics[..., : len(Statistic)] for each in (one, other))
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        assert (same | (np.abs(left - right) <= 1e-6 * scales)).all()
    displaced = (each.statistics[..., DISPLACEMENT:] for each in (one, other))
    np.testing.assert_allclose(*displaced, rtol=1e-9)
    np.testing.assert_allclose(one.exact, other.exact, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(one.steps, other.steps)
    np.testing.assert_array_equal(one.learning_rates, other.learning_rates)
