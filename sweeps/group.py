"""The trainings of one model in one worker: as one where the model allows it, else one by one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sweeps import records
from sweeps.candidate import Training
from sweeps.course import CheckpointError, Course
from sweeps.last_words import Tail, Witness, took_too_long
from sweeps.live import Teller
from sweeps.run_directory import RunDirectory
from sweeps.stacking import ApartError, require_stackable
from sweeps.storing import UnwrittenError
from sweeps.together import StackedRun
from sweeps.worker import Worker, leave_if_forked, words

HANGING_SECONDS = 5.0
"""How much longer than it may a training's code may take until it lets us end it."""


def files_read(training_ids: Sequence[str]) -> list[str]:
    """The names, in a run directory, of what the `Group` of these trainings reads if it is there:
    what has ended of them, and the checkpoints of what has not.
    """
    run = RunDirectory("")
    every = [path for name in training_ids for path in (run.trace(name), run.record(name))]
    every += [run.checkpoint(name) for name in (*training_ids, _as_one(training_ids))]
    return [str(path) for path in every]


def _as_one(training_ids: Sequence[str]) -> str:
    """What trainings that take their steps as one go by."""
    return f"{training_ids[0]}-and-{len(training_ids) - 1}"


class Group:
    """Trains the replicates of a model in slices, and stores of each what became of it.

    ``trainings`` and ``training_ids`` are those of all replicates that belong together: their
    figures then are the same whether or not some are stored already. Those are left as they are.
    One by one, none is begun after one that failed, which decides the model's trials. `report`
    tells of one that is by itself, after the epochs in ``reports``. ``tidy`` makes the process for
    the next one what it was before the last, or says why it can't: then the rest is left to others.
    None may take longer than ``each_time`` seconds, of which all as one take their shares.
    ``witness`` sees to it, and to what is left if the process dies. Raises UnwrittenError where
    something of the sweep can't be written.
    """

    def __init__(
        self,
        run: Path,
        trainings: Sequence[str],
        training_ids: Sequence[str],
        trial: int,
        runner: str,
        reports: Sequence[int] = (),
        tidy: Callable[[], str] = lambda: "",
        each_time: float | None = None,
        witness: Witness | None = None,
    ) -> None:
        self._process = os.getpid()
        self._each_time = each_time
        self._witness = Witness() if witness is None else witness
        self._tidy = tidy
        self._used = False
        self._path, self._trial, self._runner = run, trial, runner
        self._reports = reports
        self._run = RunDirectory(run)
        self._trainings = dict(zip(training_ids, trainings, strict=True))
        self._log = Tail(self._witness.keep)
        self._teller = Teller(self._run)
        self._apart: str | None = "" if len(trainings) == 1 else None
        """Why they are trained one by one; None while they aren't."""
        self._together: StackedRun | None = None
        self._worker: Worker | None = None
        self.ended = False

    def advance(self, seconds: float) -> bool:
        """Train for about ``seconds``; True once all have ended and their records are stored."""
        deadline = time.monotonic() + seconds
        while not self.ended:
            left = max(0.0, deadline - time.monotonic())
            try:
                with self._witness.at_most(self._patience()):
                    self.ended = (
                        self._advance_together(left)
                        if self._apart is None
                        else self._advance_one(left)
                    )
            finally:
                # Whatever a forked process comes back with, it goes no further.
                leave_if_forked(self._process)
            if self._reports or time.monotonic() >= deadline:
                break
        self._tell()
        return self.ended

    def report(self) -> dict[str, Any] | None:
        """An evaluation that is to be reported and was not, with the seconds so far."""
        return None if self._worker is None else self._worker.report()

    def save(self) -> None:
        """Checkpoint what is under way, so that stopping it costs nothing."""
        for progress in (self._together, self._worker):
            if progress is not None:
                progress.save()
        self._teller.forget()

    def _patience(self) -> float | None:
        """After how many seconds what is under way is taken to hang, if it has a limit."""
        if self._each_time is None:
            return None
        under_way = self._together or (self._worker and self._worker.progress)
        limit = self._each_time * (len(self._trainings) if self._apart is None else 1)
        return max(0.0, limit - (under_way.seconds if under_way else 0.0)) + HANGING_SECONDS

    def _tell(self) -> None:
        """Tell whoever watches what is under way, or that nothing is any more."""
        if self._together is not None:
            self._teller.tell(self._trial, self._trainings, self._together)
        elif self._worker is not None and self._worker.progress is not None:
            name = self._worker.training_id
            self._teller.tell(self._trial, {name: self._trainings[name]}, self._worker.progress)
        else:
            self._teller.forget()

    # ---- as one

    @property
    def _checkpoint(self) -> Path:
        return self._run.checkpoint(_as_one(list(self._trainings)))

    def _advance_together(self, seconds: float) -> bool:
        with contextlib.redirect_stdout(self._log), contextlib.redirect_stderr(self._log):
            try:
                if self._together is None:
                    self._used = True
                    self._together = self._begin()
                if not self._together.advance(seconds):
                    limit = self._each_time
                    if limit is None or self._together.seconds <= limit * len(self._trainings):
                        return False
                    self._together.fail(took_too_long(limit))
                members = self._together.members()
            except UnwrittenError:
                raise
            except ApartError as error:
                self._part(str(error))
                return False
            # Whatever a user's code raises for all of them may be the fault of one, or of the way.
            except BaseException as error:
                self._part(f"trained together, they failed: {words(error)}")
                return False
        for (name, training), member in zip(self._trainings.items(), members, strict=True):
            if records.ended(self._run, name) is None:
                worker = Worker(self._path, training, name, self._trial, self._runner)
                leave_if_forked(self._process)
                worker.conclude(member, len(members), self._log)
        self._together = None
        self._checkpoint.unlink(missing_ok=True)
        return True

    def _begin(self) -> StackedRun:
        trainings = [Training.from_json(training) for training in self._trainings.values()]
        if [training.training_id for training in trainings] != list(self._trainings):
            raise ApartError("the code of its model or task changed")
        checkpoint = self._checkpoint
        if checkpoint.exists():
            try:
                return StackedRun(trainings, checkpoint)
            except CheckpointError as error:
                self._log.write(f"started anew, since the checkpoint can't be used: {error}\n")
                checkpoint.unlink()
        course = Course(trainings[0].candidate)
        require_stackable(course, [training.seed for training in trainings])
        return StackedRun(trainings, checkpoint)

    def _part(self, reason: str) -> None:
        leave_if_forked(self._process)
        self._apart = reason
        self._together = None
        self._checkpoint.unlink(missing_ok=True)

    # ---- one by one

    def _advance_one(self, seconds: float) -> bool:
        leave_if_forked(self._process)
        if self._worker is None:
            ended = {name: records.ended(self._run, name) for name in self._trainings}
            failed = any(each is not None and each.state != "COMPLETE" for each in ended.values())
            missing = [name for name, each in ended.items() if each is None]
            if failed or not missing:
                return True
            if self._used and self._tidy() and len(missing) < len(ended):
                # Another worker makes the others: this process isn't fit to.
                return True
            self._used = True
            self._worker = Worker(
                self._path,
                self._trainings[missing[0]],
                missing[0],
                self._trial,
                self._runner,
                self._reports,
                self._apart or "",
                self._each_time,
                self._witness.keep,
            )
        if self._worker.advance(seconds):
            self._worker = None
        return False
