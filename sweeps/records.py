"""What became of a training: the record kept beside its trace.

A record exists if and only if the training has ended. The trace of a finished training is written
before its record, so a process killed between the two leaves a training that is simply not there
yet.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from sweeps.plain_text import plain, printable
from sweeps.redaction import without_secrets
from sweeps.run_directory import DAMAGE, RunDirectory, RunDirectoryError, doctor_command
from sweeps.sealed import read_sealed, write_sealed
from trace_core import Trace

State = Literal["COMPLETE", "PRUNED", "FAILED"]

_KINDS: dict[Any, tuple[str, ...]] = {
    str: (
        *("training_id", "model_id", "state", "runner", "apart", "reason", "log_tail"),
        *("made_with", "metric_name", "direction", "trace_sha256"),
    ),
    int: ("seed", "trial", "together", "parameters", "trained", "steps", "examples"),
    int | float: ("seconds",),
    int | float | None: ("baseline", "metric_test"),
    list: ("resumed", "history"),
}
"""The types of a record's fields: one may have been read from a file that holds anything."""

EARLIER = -1
"""The trial of a training that was taken over from an earlier sweep."""

_LEAST = {"seed": 0, "trial": EARLIER, "together": 1, "seconds": 0} | dict.fromkeys(
    ("parameters", "trained", "steps", "examples"), 0
)
_MOST = 2**63 - 1
"""As tables hold whole numbers."""
_MEASURED = ("metric", "train_loss", "metric_error")


@dataclass(frozen=True)
class TrainingRecord:
    """One ended training.

    ``history`` has one entry per evaluation, step 0 first: ``epoch``, ``step`` (optimiser steps
    taken), ``train_loss`` (mean since the last entry; None at step 0), ``metric`` (on the
    validation part) and ``metric_error`` (its standard error over the validation sample).
    ``metric_test`` is the metric on the held-out part at the end; ``examples`` how many training
    examples were seen, each as often as it was. ``together`` is how many replicates took their
    steps as one, of whose ``seconds`` this has its share, and ``apart`` why they didn't though they
    were to; ``made_with`` names the packages its figures may depend on, by version. A FAILED record
    has a ``reason`` and the ``log_tail`` of what the training printed, and
    no figures. A PRUNED one has a reason too, and of the history the evaluations by which it was
    judged. Of its ``parameters``, tied ones once, so many were ``trained``: 0 where an earlier
    version didn't tell. ``trace_sha256`` is the SHA-256 of the file of its trace, if it has one and
    an earlier version didn't write it.
    """

    training_id: str
    model_id: str
    seed: int
    state: State
    trial: int
    runner: str
    seconds: float
    together: int = 1
    apart: str = ""
    made_with: str = ""
    parameters: int = 0
    trained: int = 0
    steps: int = 0
    examples: int = 0
    resumed: list[int] = field(default_factory=list)
    reason: str = ""
    log_tail: str = ""
    metric_name: str = ""
    direction: str = ""
    baseline: float | None = None
    metric_test: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    trace_sha256: str = ""

    def __post_init__(self) -> None:
        for kind, names in _KINDS.items():
            for name in names:
                value = getattr(self, name)
                if not isinstance(value, kind) or isinstance(value, bool):
                    raise TypeError(f"{name} is of type {type(value).__name__}")
        for name in ("reason", "apart", "log_tail"):
            object.__setattr__(self, name, printable(without_secrets(getattr(self, name))))

    def metrics(self) -> list[float]:
        """The validation metric at every evaluation, step 0 first."""
        return [entry["metric"] for entry in self.history]


def save(run: RunDirectory, record: TrainingRecord, trace: Trace | None = None) -> None:
    """Store a record, after its trace if it has one, and drop the training's checkpoint."""
    if trace is not None:
        digest = trace.save(run.trace(record.training_id))
        record = replace(record, trace_sha256=digest)
    write_sealed(run.record(record.training_id), asdict(record))
    run.checkpoint(record.training_id).unlink(missing_ok=True)


def ended(run: RunDirectory, training_id: str) -> TrainingRecord | None:
    """The record of a training that has ended, and whose trace is there, undamaged, if it has one:
    otherwise it is made again.
    """
    record = load(run, training_id)
    if record is None or record.state != "COMPLETE":
        return record
    path = run.trace(training_id)
    return record if path.exists() and has_hash(path, record.trace_sha256) else None


def has_hash(path: Path, sha256: str) -> bool:
    """Whether a file has this SHA-256, if one is known."""
    if not sha256:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _sound(record: TrainingRecord) -> TrainingRecord:
    """The record, if a training may have ended so: what reads it counts on that. Raises ValueError,
    TypeError and KeyError.
    """
    _require(record.state in get_args(State), "state", "none that a training has")
    for name, least in _LEAST.items():
        _require_number(name, getattr(record, name), least, _MOST)
    for entry in record.history:
        for name in ("epoch", "step"):
            _require_number(name, entry[name], 0, _MOST)
            _require(isinstance(entry[name], int), name, "no whole number")
        _require(entry["metric"] is not None, "metric", "missing")
    told = [(n, entry[n]) for entry in record.history for n in _MEASURED]
    told += [("baseline", record.baseline), ("metric_test", record.metric_test)]
    for name, value in told:
        if value is not None:
            _require_number(name, value, -sys.float_info.max, sys.float_info.max)
    learned = record.state == "COMPLETE" or record.baseline is not None
    directions = ("maximize", "minimize") if learned else ("maximize", "minimize", "")
    _require(record.direction in directions, "direction", "neither maximize nor minimize")
    if record.state == "COMPLETE":
        _require(None not in (record.baseline, record.metric_test), "a metric", "missing")
        _require(record.steps > 0 and record.examples > 0, "steps or examples", "0")
        last = record.history[-1]["step"] if record.history else -1
        _require(last == record.steps, "the end of its history", "missing")
    return record


def _require(good: bool, what: str, otherwise: str) -> None:
    if not good:
        raise ValueError(f"{what} is {otherwise}")


def _require_number(name: str, value: object, least: float, most: float) -> None:
    """NaN is none; the value isn't told, as it may have thousands of digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is of type {type(value).__name__}")
    _require(least <= value <= most, name, "out of range")


def load(run: RunDirectory, training_id: str) -> TrainingRecord | None:
    """The record of a training, or None while it has not ended.

    Raises RunDirectoryError if the file is damaged.
    """
    path = run.record(training_id)
    try:
        return _sound(TrainingRecord(**read_sealed(path)))
    except FileNotFoundError:
        return None
    except DAMAGE as error:
        raise RunDirectoryError(
            f"{path}: not the record of a training ({plain(error)}); "
            f"see what can be had with: {doctor_command(run.path)}"
        ) from None
