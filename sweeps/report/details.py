"""One model in depth: its curves over the steps, its layers, its phases, and what moved most.

Curves are thinned to what a screen shows; no score is computed from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sweeps.report.parts import parts
from sweeps.report.series import curves, rounded
from trace_core.phases import phases

if TYPE_CHECKING:
    from trace_core import Trace

COLUMNS = 60
"""Most spans of steps that a map of layers is thinned to."""
MOVERS = 8
History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ModelTraces:
    """What is stored of a model's trainings, at least one, in the order of their seeds.

    ``histories`` has an entry for every evaluation: ``step``, ``metric``, ``train_loss``.
    ``configuration`` is the sweep that trains this model alone, as YAML.
    """

    traces: Sequence[Trace]
    histories: Sequence[History] = field(default_factory=tuple)
    configuration: str = ""


def details(model: ModelTraces, kinds: Mapping[str, str], phased: bool = True) -> dict[str, Any]:
    """Its curves by the ``kinds`` of score, ``layers`` by spans of steps, ``parts``, ``phases``
    (None unless ``phased``: they take more time than all else), ``movers`` and ``important``.

    The last five are those of the first seed: a mean over seeds would blur what happened when.
    """
    first = model.traces[0]
    change_rate, concentration = kinds["change_rate"], kinds["explainability"]
    return {
        **curves(model.traces, change_rate, concentration),
        "metric": evaluated(model.histories, "metric"),
        "train_loss": evaluated(model.histories, "train_loss"),
        "layers": layer_map(first, change_rate, concentration),
        "parts": parts(first, kinds),
        "phases": [
            {"start": phase.start, "schedule": phase.schedule} for phase in phases(first)[1:]
        ]
        if phased
        else None,
        "movers": [[name, float(f"{path:.4g}")] for name, path in first.top_movers(MOVERS)],
        "important": [[name, float(f"{part:.4g}")] for name, part in first.most_important(MOVERS)],
        "configuration": model.configuration,
    }


def evaluated(histories: Sequence[History], name: str) -> dict[str, Any]:
    """Mean and range over the seeds of what was told at each evaluation that all seeds had."""
    tables = [{e["step"]: e[name] for e in each if e.get(name) is not None} for each in histories]
    steps = sorted(set.intersection(*map(set, tables))) if tables else []
    values = np.array([[table[step] for step in steps] for table in tables], np.float64)
    if not steps:
        return {"steps": [], "mean": [], "low": [], "high": []}
    return {
        "steps": steps,
        "mean": rounded(values.mean(axis=0)),
        "low": rounded(values.min(axis=0)),
        "high": rounded(values.max(axis=0)),
    }


def layer_map(
    trace: Trace,
    change_rate: str,
    concentration: str,
    parts: Mapping[str, Trace] | None = None,
) -> dict[str, Any]:
    """``names`` of the layers (or of other ``parts`` of the trace), ``steps`` in the middle of each
    span, and for every layer the mean ``change_rate`` and ``explainability`` over each span, None
    where there is none; the latter is carried on from the last histogram.
    """
    steps = np.asarray(trace.steps)
    width = max(1, -(-len(steps) // COLUMNS))
    starts = np.arange(0, len(steps), width)
    layers = trace.by_layer() if parts is None else parts
    return {
        "names": list(layers),
        "steps": [float(each) for each in np.add.reduceat(steps, starts) / _lengths(steps, starts)],
        "change_rate": [_spans(one.change_rate(change_rate), starts) for one in layers.values()],
        "explainability": [
            _carried(_spans(one.explainability(concentration), starts)) for one in layers.values()
        ],
    }


def _lengths(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.diff(np.append(starts, len(values)))


def _spans(values: NDArray[np.float64], starts: NDArray[np.int64]) -> list[float | None]:
    known = np.isfinite(values)
    counts = np.add.reduceat(known.astype(np.int64), starts)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    means = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    return rounded(means)


def _carried(values: list[float | None]) -> list[float | None]:
    """Each missing value taken from the last one before it: a histogram is taken now and then."""
    last: float | None = None
    found = []
    for value in values:
        last = last if value is None else value
        found.append(last)
    return found
