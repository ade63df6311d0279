"""What the trainings under way have come to, for people who watch a sweep.

A worker tells of its training about once a second in a small file, and of its trace now and then:
taking a trace costs time, of which it may use one part in a hundred. The files are replaced, never
flushed to the disk, and removed when the training ends; nothing else reads them, so losing them
costs nothing.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sweeps.run_directory import RunDirectory
from trace_core import Trace, TraceError
from trace_core.durable import write_atomically

SECONDS = 1.0
"""Between two times that a worker tells of a training."""

SHARE = 0.01
"""Most of a training's time that goes into telling, after the first time."""

_ID = re.compile("[0-9a-f]{12}")
_MOST = 2**53
_DAMAGE = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Live:
    """Trainings that one worker makes now, one or several replicates of a model as one.

    ``seeds`` and ``histories`` are of the ``training_ids`` in order: the evaluations so far of each
    (see `TrainingRecord.history`). ``told`` is when this was written, in seconds since the epoch.
    """

    trial: int
    training_ids: list[str]
    seeds: list[int]
    step: int
    total_steps: int
    seconds: float
    histories: list[list[dict[str, Any]]]
    told: float


class UnderWay(Protocol):
    """What is read of a training under way, or of several as one."""

    step: int
    total_steps: int
    seconds: float

    @property
    def histories(self) -> list[list[dict[str, Any]]]: ...  # noqa: D102

    def traces(self) -> list[Trace]: ...  # noqa: D102


class Teller:
    """Tells of the trainings that a worker makes, as often as is worth it."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._next = time.monotonic() + SECONDS
        self._next_trace = self._next + SECONDS
        self._told: list[str] = []

    def tell(self, trial: int, trainings: Mapping[str, str], under_way: UnderWay) -> None:
        """Tell of ``trainings`` (their JSON by id), if it is time to. What can't be written isn't:
        a full disk is no reason for a training to end.
        """
        begun = time.monotonic()
        if begun < self._next:
            return
        if self._told != list(trainings):
            self.forget()
            self._told = list(trainings)
        with contextlib.suppress(OSError):
            live = Live(
                trial=trial,
                training_ids=list(trainings),
                seeds=[json.loads(text)["seed"] for text in trainings.values()],
                step=under_way.step,
                total_steps=under_way.total_steps,
                seconds=under_way.seconds,
                histories=under_way.histories,
                told=time.time(),
            )
            text = json.dumps(vars(live))
            write_atomically(self._file(self._told[0], "json"), text.encode(), durably=False)
        self._next = begun + max(SECONDS, (time.monotonic() - begun) / SHARE)
        if begun >= self._next_trace:
            with contextlib.suppress(OSError, TraceError):
                for training_id, trace in zip(self._told, under_way.traces(), strict=True):
                    trace.save(self._file(training_id, "npz"), durably=False)
            self._next_trace = begun + (time.monotonic() - begun) / SHARE

    def forget(self) -> None:
        """Remove what was told."""
        for training_id in self._told:
            for kind in ("json", "npz"):
                with contextlib.suppress(OSError):
                    self._file(training_id, kind).unlink(missing_ok=True)
        self._told = []

    def _file(self, training_id: str, kind: str) -> Path:
        return self._run.live / f"{training_id}.{kind}"


def read_live(run: RunDirectory) -> list[Live]:
    """What is told of the trainings under way, by trial; what can't be read is left out."""
    found = []
    for path in sorted(run.live.glob("[!.]*.json")):
        # A worker may take the file away at any moment, and a killed machine leave half of one.
        with contextlib.suppress(*_DAMAGE):
            live = Live(**json.loads(path.read_text()))
            _require_told(live)
            found.append(live)
    return sorted(found, key=lambda each: each.trial)


def _require_told(live: Live) -> None:
    """Raises one of `_DAMAGE` for what no worker tells: a run directory may come from others."""
    ids, seeds, histories = live.training_ids, live.seeds, live.histories
    every = [entry for history in histories for entry in history]
    numbers = [live.trial, live.step, live.total_steps, live.seconds, live.told, *seeds]
    if not (
        len(ids) == len(seeds) == len(histories) > 0
        # An id becomes a path.
        and all(map(_ID.fullmatch, ids))
        and all(_is_number(each) for each in (*numbers, *(entry["step"] for entry in every)))
        # A training that diverges tells of a loss that is no number.
        and all(
            entry.get(name) is None or type(entry[name]) is float or _is_number(entry[name])
            for entry in every
            for name in ("metric", "train_loss")
        )
    ):
        raise ValueError("no worker tells this")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _MOST


def live_trace(run: RunDirectory, training_id: str) -> Trace | None:
    """The trace of a training under way as it was last told; None if there is none."""
    try:
        return Trace.load(run.live / f"{training_id}.npz")
    except (OSError, TraceError):
        return None
