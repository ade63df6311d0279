"""Traceability in TensorBoard: each observation of a tracer, or of a finished trace, as scalars."""

from __future__ import annotations

import math
from collections.abc import Iterator
from os import PathLike, fspath
from types import TracebackType

import numpy as np

from trace_core.change_rate import CHANGE_RATES
from trace_core.concentration import EXPLAINABILITIES
from trace_core.errors import require_kind
from trace_core.integrations.extras import needs
from trace_core.integrations.scalars import CHANGE_RATE, checked_alpha, tag
from trace_core.stability import TRAILING, steadiness
from trace_core.statistics import FloatArray
from trace_core.trace import Trace
from trace_core.tracer import Tracer

with needs("tensorboard"):
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardWriter:
    """Writes the observations of ``source`` as TensorBoard scalars, at their optimiser steps.

    source: a tracer, from which each `write` takes what is new, without reading a parameter; or a
        trace. Of sharded parameters a tracer knows this process's part: for the whole, give what
        `Tracer.trace` returns.
    to: the folder of the events, or a ``SummaryWriter`` that is open already (torch's, or one with
        its ``add_scalar`` and ``flush``), which stays open.
    alpha: weight of the stability in the score.

    After ``traceability/``: ``score``, ``steadiness`` (of the trailing 50 observations),
    ``change_rate_KIND`` and ``explainability_KIND`` of every kind; after ``traceability_layers/``:
    ``change_rate_rms/LAYER``, where ``the-model`` stands for the parameters outside of any layer.
    What is undefined at a step is left out there. TensorBoard keeps float32.

    A context manager: on leaving it, what isn't written yet is written. Raises TraceError if alpha
    is outside [0, 1], or if the source is neither.
    """

    def __init__(
        self,
        source: Tracer | Trace,
        to: SummaryWriter | str | PathLike[str],
        *,
        alpha: float = 0.5,
    ) -> None:
        wanted = "give the Tracer, or a Trace"
        self._source = require_kind("source", source, Tracer | Trace, wanted)
        self._alpha = checked_alpha(alpha)
        self._owns = isinstance(to, str | PathLike)
        self._events = SummaryWriter(fspath(to)) if isinstance(to, str | PathLike) else to
        self._next = 0

    def write(self) -> None:
        """Write the observations made since the last time.

        O((new observations + 50 + those since the last histogram) × tensors), however long the
        trace is.
        """
        trace = self._source
        if isinstance(trace, Tracer):
            trace = trace.recorded(self._next)
        start = int(np.searchsorted(trace.steps, self._next))
        if start == len(trace):
            return
        self._next = int(trace.steps[-1]) + 1
        for name, values in _values(trace, start, self._alpha):
            for step, value in zip(trace.steps[start:], values, strict=True):
                if not math.isnan(value):
                    self._events.add_scalar(name, float(value), int(step))

    def close(self) -> None:
        """Write what isn't written yet; close the events if their folder was given, else flush
        them.
        """
        self.write()
        if self._owns:
            self._events.close()
        else:
            self._events.flush()

    def __enter__(self) -> TensorBoardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _values(trace: Trace, start: int, alpha: float) -> Iterator[tuple[str, FloatArray]]:
    """Yield the name and the values of each scalar, from the observation at ``start``."""
    yield tag("score"), trace.scores(alpha)[start:]
    yield tag("steadiness"), _steadiness(trace, start)
    for kind in CHANGE_RATES:
        yield tag(f"change_rate_{kind}"), trace.change_rate(kind)[start:]
    for kind in EXPLAINABILITIES:
        yield tag(f"explainability_{kind}"), trace.explainability(kind)[start:]
    layers = np.array(trace.layers, object)
    for layer in trace.layer_names:
        rates = CHANGE_RATES[CHANGE_RATE](trace.statistics[start:, layers == layer])
        yield f"traceability_layers/change_rate_{CHANGE_RATE}/{layer or 'the-model'}", rates


def _steadiness(trace: Trace, start: int) -> FloatArray:
    rate, learning_rate = trace.change_rate("rms"), trace.learning_rate()
    windows = [slice(max(0, end - TRAILING), end) for end in range(start + 1, len(trace) + 1)]
    return np.array([steadiness(rate[window], learning_rate[window]) for window in windows])
