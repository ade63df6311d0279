"""The scores of stored traces, kept in a file of the run directory so that a trace is scored once.

The file can be thrown away at any time, and is made again. A row holds for the file it was made
from, by its size and its times, for a span of steps, for the configured kinds, and for the code
that computes scores: where any of these is another one, or the file of scores is damaged, the trace
is read. Only a sweep's driver and the writer of a report write it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import trace_core
from sweeps import scoring
from sweeps.config_sections import RankingSettings
from sweeps.records import TrainingRecord, has_hash
from sweeps.run_directory import (
    RunDirectory,
    RunDirectoryError,
    doctor_command,
    resume_command,
)
from trace_core import Trace, TraceError
from trace_core.durable import write_atomically
from trace_core.statistics import Array
from trace_core.storage import DAMAGE

_WHOLE = -1
"""Steps of a row that is of a whole trace."""


@dataclass(frozen=True)
class Scores:
    """Of one trace: ``values`` by `scoring.TRACE_COLUMNS`, and its `scoring.curve`.

    ``made_from`` is the size of its file, the two times of its last changes in nanoseconds, and the
    steps that were scored.
    """

    values: Array
    curve: Array
    made_from: tuple[int, int, int, int]

    def row(self) -> dict[str, float]:
        """The values by name."""
        return dict(zip(scoring.TRACE_COLUMNS, self.values.tolist(), strict=True))


class KeptScores:
    """The scores of a run directory's traces, read from where they are kept or computed; all are
    computed ``anew`` if that is asked for.
    """

    def __init__(self, run: RunDirectory, kinds: RankingSettings, *, anew: bool = False) -> None:
        self._run = run
        self._kinds = kinds
        self._kept = {} if anew else _read(run.scores, _made_by(kinds))
        self._added = False

    def unlike(self, other: KeptScores) -> list[str]:
        """The trainings of which the ``other`` has different scores, made from the same file."""
        return [
            training_id
            for training_id, mine in self._kept.items()
            if (theirs := other._kept.get(training_id)) is not None
            and mine.made_from == theirs.made_from
            and not (
                np.array_equal(mine.values, theirs.values, equal_nan=True)
                and np.array_equal(mine.curve, theirs.curve.astype(np.float32), equal_nan=True)
            )
        ]

    def of(self, training_id: str, steps: int | None = None, sha256: str = "") -> Scores:
        """The scores of a training's trace over its first ``steps`` optimiser steps (default: all).

        Raises RunDirectoryError if the trace is missing, damaged, or isn't the file with the hash
        that its record has; TraceError if the configured stability has no value.
        """
        path = self._run.trace(training_id)
        made_from = (*_state(path, self._run), _WHOLE if steps is None else steps)
        kept = self._kept.get(training_id)
        if kept is None or kept.made_from != made_from:
            trace = self._loaded(path, sha256)
            span = trace if steps is None else trace.window(0, steps)
            values = scoring.of_trace(span, self._kinds)
            kept = Scores(
                np.array([values[name] for name in scoring.TRACE_COLUMNS]),
                scoring.curve(trace, self._kinds.change_rate),
                made_from,
            )
            self._kept[training_id] = kept
            self._added = True
        return kept

    def _loaded(self, path: Path, sha256: str) -> Trace:
        try:
            trace = Trace.load(path)
            if not has_hash(path, sha256):
                raise TraceError(
                    f"{path}: is not the trace that its record was made with, or is damaged"
                )
        except TraceError as error:
            # Not TraceError, which says that a sound one has no such score.
            raise RunDirectoryError(
                f"{error}; see what can be had with: {doctor_command(self._run.path)}"
            ) from None
        return trace

    def curve(self, training_id: str) -> Array:
        """The `scoring.curve` of a training whose scores were asked for."""
        return self._kept[training_id].curve

    def save(self) -> None:
        """Write what was computed since, durably, if anything was."""
        if self._added:
            write_atomically(self._run.scores, _bytes(self._kept, _made_by(self._kinds)))
            self._added = False


def replicate_table(
    run: RunDirectory,
    scores: KeptScores,
    models: Mapping[str, Sequence[str]],
    ended: Mapping[str, TrainingRecord | None],
    examples: int | None = None,
) -> pd.DataFrame:
    """One row of scores per finished training of the given models (``model_id`` → training ids),
    given what became of each.

    ``examples`` limits every training to the steps in which it saw that many, so that trainings of
    unequal budget are compared over an equal span. Raises RunDirectoryError for a record or trace
    that is missing, a record that is another training's or a trace that is damaged, TraceError for
    one without a configured score.
    """
    rows = []
    for training_id, made in {
        one: (model_id, seed) for model_id, ids in models.items() for seed, one in enumerate(ids)
    }.items():
        record = ended[training_id]
        if record is None:
            raise _missing(run.record(training_id), run)
        if (record.model_id, record.seed) != made:
            raise RunDirectoryError(
                f"{run.record(training_id)}: not the record of a training of model {made[0]} with "
                f"seed {made[1]}; see what can be had with: {doctor_command(run.path)}"
            )
        if record.state != "COMPLETE":
            _state(run.trace(training_id), run)
            continue
        steps = None if examples is None else round(record.steps * examples / record.examples)
        if steps == 0:
            raise RunDirectoryError(
                f"{run.record(training_id)}: says that a step saw about "
                f"{record.examples / record.steps:,.0f} examples, more than the {examples:,} over "
                "which the models are compared"
            )
        found = scores.of(training_id, steps, record.trace_sha256)
        rows.append(scoring.of_record(record) | found.row())
    return pd.DataFrame(rows, columns=[*scoring.REPLICATE_COLUMNS, *scoring.KIND_COLUMNS])


def _state(path: Path, run: RunDirectory) -> tuple[int, int, int]:
    """Size of a file and its times: who writes it, or puts another one in its place, changes one of
    them.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise _missing(path, run) from None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _missing(path: Path, run: RunDirectory) -> RunDirectoryError:
    return RunDirectoryError(f"{path}: missing; make it again with: {resume_command(run.path)}")


@cache
def _code() -> str:
    """A hash of the code that a score may depend on; numpy's sums may differ from version to
    version.
    """
    digest = hashlib.sha256(np.__version__.encode())
    measure = sorted(Path(str(trace_core.__file__)).parent.glob("*.py"))
    for path in (Path(str(scoring.__file__)), *measure):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _made_by(kinds: RankingSettings) -> dict[str, Any]:
    return {
        "code": _code(),
        "kinds": [kinds.stability, kinds.change_rate, kinds.explainability],
        "columns": list(scoring.TRACE_COLUMNS),
    }


def _bytes(kept: Mapping[str, Scores], made_by: Mapping[str, Any]) -> bytes:
    curves = np.full((len(kept), 2, scoring.POINTS), np.nan, np.float32)
    for row, each in enumerate(kept.values()):
        curves[row, :, : each.curve.shape[1]] = each.curve
    file = io.BytesIO()
    np.savez(
        file,
        allow_pickle=False,
        made_by=np.array(json.dumps(made_by)),
        ids=np.array(list(kept), np.str_),
        made_from=np.array([each.made_from for each in kept.values()], np.int64),
        values=np.array([each.values for each in kept.values()], np.float64),
        points=np.array([each.curve.shape[1] for each in kept.values()], np.int64),
        curves=curves,
    )
    return file.getvalue()


def _read(path: Path, made_by: Mapping[str, Any]) -> dict[str, Scores]:
    """What the file holds, by the training's id; nothing if it isn't there, is damaged (its bytes
    don't fit the checksums beside them) or was made in another way.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            if json.loads(str(file["made_by"])) != made_by:
                return {}
            ids = _column(file, "ids", "U", ())
            values = _column(file, "values", "f", (len(scoring.TRACE_COLUMNS),))
            curves = _column(file, "curves", "f", (2, scoring.POINTS))
            points = _column(file, "points", "i", ())
            made_from = _column(file, "made_from", "i", (4,))
            return {
                training_id: Scores(values[row], curves[row, :, : points[row]], tuple(state))
                for row, (training_id, state) in enumerate(
                    zip(ids.tolist(), made_from.tolist(), strict=True)
                )
            }
    except DAMAGE:
        return {}


def _column(file: Mapping[str, Any], name: str, kind: str, shape: tuple[int, ...]) -> Array:
    """An array of the file. Raises ValueError if it isn't of the kind and shape that is written."""
    column: Array = np.asarray(file[name])
    if column.dtype.kind != kind or column.shape[1:] != shape or not column.ndim:
        raise ValueError(f"{name}: {column.dtype} of {column.shape}")
    return column
