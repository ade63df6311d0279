"""Run directories into one table: every measure of every training, over shares of its budget."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.validity.pools import Pool
from sweeps import records
from sweeps.records import TrainingRecord
from sweeps.run_directory import RunDirectory
from sweeps.selection import read_trials
from trace_core import Trace, TraceError

SHARES = (0.1, 0.3, 1.0)
"""Of the budget that is read; 0.5 is added for what is foretold of the second half."""

HALF = 0.5
SETTINGS = ("architecture", "init", "learning_rate", "weight_decay", "schedule")
STABILITIES = ("steadiness", "steadiness_raw", "magnitude", "directness")
RATES = ("rms", "global_l1", "tensor_l1", "symmetric", "elementwise")
CONCENTRATIONS = ("gini", "hoyer", "effective_sparsity", "top_mass", "entropy")


def gather(runs: Path, pools: list[Pool]) -> pd.DataFrame:
    """One row per finished training and share, float32 but for what names it."""
    rows: list[dict[str, Any]] = []
    for pool in pools:
        run = RunDirectory(runs / pool.name)
        known = candidates(runs, pool)
        # In the order of their names, so that the table is the same whoever ended first.
        for path in sorted((run.path / "traces").glob("*.json")):
            record = records.load(run, path.stem)
            # A model of which a seed diverged is not averaged over the others.
            if record is not None and record.model_id in known:
                trace = Trace.load(run.trace(record.training_id))
                named = {"task": pool.task, "kind": pool.kind, "importance": pool.importance}
                named |= {name: known[record.model_id][name] for name in SETTINGS}
                rows += [named | _row(record, trace, share) for share in (*SHARES, HALF)]
    return pd.DataFrame(rows)


def candidates(runs: Path, pool: Pool) -> dict[str, dict[str, Any]]:
    """What determines each model of a pool, by its id."""
    trials = read_trials(RunDirectory(runs / pool.name))
    return {
        trial.details["model"]: trial.details["candidate"]
        for trial in trials
        if trial.state == "COMPLETE"
    }


def _row(record: TrainingRecord, trace: Trace, share: float) -> dict[str, Any]:
    span = trace.window(0, max(1, round(share * record.steps)))
    sign = 1.0 if record.direction == "maximize" else -1.0
    history = [entry for entry in record.history if entry["step"] <= share * record.steps + 0.5]
    losses = [entry["train_loss"] for entry in history if entry["train_loss"] is not None]
    return {
        "model_id": record.model_id,
        "seed": record.seed,
        "share": share,
        "test": sign * float(record.metric_test or 0),
        "validation": sign * record.metrics()[-1],
        "baseline": sign * float(record.baseline or 0),
        "early": sign * float(history[-1]["metric"]),
        "loss": losses[-1],
        "loss_sum": math.fsum(losses),
        "parameters": record.parameters,
        **{f"stability.{kind}": _or_nan(span, "stability", kind) for kind in STABILITIES},
        **{f"change_rate.{kind}": _mean(span.change_rate(kind)) for kind in RATES},
        **{f"explainability.{kind}": _mean(span.explainability(kind)) for kind in CONCENTRATIONS},
        "article": span.score(alpha=0.5, reading="article"),
    }


def _or_nan(span: Trace, what: str, kind: str) -> float:
    try:
        return float(getattr(span, what)(kind))
    except TraceError:
        return math.nan


def _mean(values: Any) -> float:
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    return float(array.mean()) if len(array) else math.nan
