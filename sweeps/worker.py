"""A training from its description to its record: whatever happens in it ends as a record.

Runs inside whatever executes trainings, and knows neither Ray nor Optuna.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sweeps import records
from sweeps.candidate import Training
from sweeps.course import CheckpointError, TrainingError
from sweeps.last_words import Tail, took_too_long
from sweeps.records import TrainingRecord
from sweeps.run_directory import RunDirectory
from sweeps.storing import UnwrittenError, storing
from sweeps.together import Member
from sweeps.training import TrainingRun
from trace_core import TraceError

LOG_LINES = 60


Progress = TrainingRun | Member
"""A training under way, or one that has ended among others."""


class Worker:
    """Trains one training in slices and stores its trace and record when it ends.

    ``reports`` are epochs after which `report` tells of it, ``apart`` why it isn't trained together
    with others, if it was to be, ``each_time`` how many seconds it may take, ``keep`` is given what
    it prints (see `Tail`). Raises UnwrittenError where something of it can't be written.
    """

    def __init__(
        self,
        run: Path,
        training: str,
        training_id: str,
        trial: int,
        runner: str,
        reports: Sequence[int] = (),
        apart: str = "",
        each_time: float | None = None,
        keep: Callable[[str, str], None] = lambda text, tail: None,
    ) -> None:
        self._process = os.getpid()
        self._each_time = each_time
        self._run = RunDirectory(run)
        self._training = Training.from_json(training)
        self.training_id = training_id
        self._trial = trial
        self._runner = runner
        self._reports = reports
        self._reported = 0
        self._progress: TrainingRun | None = None
        self._apart = apart
        self._together = 1
        self._log = Tail(keep)
        if apart:
            self._log.write(f"trained apart from its other replicates: {apart}\n")
        self._started = time.monotonic()
        self.ended = False

    @property
    def progress(self) -> TrainingRun | None:
        """The training under way; None before it began and after it ended."""
        return self._progress

    def advance(self, seconds: float) -> bool:
        """Train for about ``seconds``, or to the end of an epoch that is to be reported, and no
        further while one is; True once the training has ended and its record is stored.
        """

        def train() -> Progress | None:
            if self._progress is None:
                self._progress = self._begin()
            if self._unreported() is not None:
                # An earlier driver was killed before it had judged by it.
                return None
            if self._progress.advance(seconds, self._reports):
                return self._progress
            require_in_time(self._progress.seconds, self._each_time)
            return None

        return self._store(train)

    def conclude(self, member: Member, together: int, log: Tail) -> None:
        """Store how the training ended among several ``together``, which have printed ``log``."""

        def check() -> Progress:
            if member.failed:
                raise TrainingError(member.failed)
            return member

        self._together, self._log = together, log
        self._started = time.monotonic() - member.seconds
        self._store(check)

    def _store(self, end: Callable[[], Progress | None]) -> bool:
        """Store the training that ``end`` returns, or why it raised; None has not ended."""
        trace = None
        with contextlib.redirect_stdout(self._log), contextlib.redirect_stderr(self._log):
            try:
                ended = end()
                if ended is None:
                    return False
                record, trace = self._finished(ended), ended.trace()
            except (TrainingError, TraceError) as error:
                record = self._failed(str(error))
            except UnwrittenError:
                raise
            # A user's model or task may raise anything, SystemExit and KeyboardInterrupt too: its
            # trial fails, and the sweep goes on. (Ctrl-C doesn't reach Ray's workers.)
            except BaseException as error:
                self._log.write("\n" + traceback.format_exc())
                record = self._failed(words(error))
        leave_if_forked(self._process)
        with storing():
            records.save(self._run, record, trace)
        self._progress = None
        self.ended = True
        return True

    def report(self) -> dict[str, Any] | None:
        """The first evaluation that is to be reported and was not, with the seconds so far."""
        first = self._unreported()
        if first is None or self._progress is None:
            return None
        self._reported = first["epoch"]
        return {**first, "seconds": self._progress.seconds}

    def _unreported(self) -> dict[str, Any] | None:
        for entry in self._progress.history if self._progress is not None else ():
            if entry["epoch"] in self._reports and entry["epoch"] > self._reported:
                return entry
        return None

    def save(self) -> None:
        """Checkpoint a training that is under way, so that stopping it costs nothing."""
        if self._progress is not None:
            self._progress.save()

    def _begin(self) -> TrainingRun:
        if self._training.training_id != self.training_id:
            raise TrainingError("the code of its model or task changed while the sweep ran")
        checkpoint = self._run.checkpoint(self.training_id)
        try:
            return TrainingRun(self._training, checkpoint)
        except CheckpointError as error:
            self._log.write(f"started anew, since the checkpoint can't be used: {error}\n")
            checkpoint.unlink()
            return TrainingRun(self._training, checkpoint)

    def _finished(self, progress: Progress) -> TrainingRecord:
        task = progress.task
        test, _ = progress.evaluate("test")
        baseline = progress.course.baseline
        for name, value in (("baseline", baseline), ("metric on the held-out part", test)):
            if not math.isfinite(value):
                raise TrainingError(f"the {name} of task {task.name} is {value}")
        return TrainingRecord(
            training_id=self.training_id,
            model_id=self._training.candidate.model_id,
            seed=self._training.seed,
            state="COMPLETE",
            trial=self._trial,
            runner=self._runner,
            seconds=progress.seconds,
            resumed=progress.resumed,
            together=self._together,
            apart=self._apart,
            made_with=f"torch {torch.__version__}, numpy {np.__version__}",
            parameters=progress.parameters,
            trained=progress.trained,
            steps=progress.step,
            examples=progress.examples,
            metric_name=task.metric.name,
            direction=task.metric.direction,
            baseline=baseline,
            metric_test=test,
            history=progress.history,
        )

    def _failed(self, reason: str) -> TrainingRecord:
        tail = self._log.text.strip().splitlines()[-LOG_LINES:]
        return TrainingRecord(
            training_id=self.training_id,
            model_id=self._training.candidate.model_id,
            seed=self._training.seed,
            state="FAILED",
            trial=self._trial,
            runner=self._runner,
            seconds=time.monotonic() - self._started,
            together=self._together,
            apart=self._apart,
            reason=reason,
            log_tail="\n".join(tail),
        )


def require_in_time(seconds: float, each_time: float | None) -> None:
    """Raise TrainingError if a training has taken longer than it may."""
    if each_time is not None and seconds > each_time:
        raise TrainingError(took_too_long(each_time))


def leave_if_forked(process: int) -> None:
    """End a process that isn't the one which was to train: a user's code has forked, and the other
    one goes on as well.
    """
    if os.getpid() != process:
        os._exit(0)


def words(error: BaseException) -> str:
    """An exception in a line; a user's exception may even raise when it is turned into text."""
    try:
        text = str(error).strip()
    except Exception:
        text = ""
    name = type(error).__name__
    return f"{name}: {text.splitlines()[0]}" if text else name
