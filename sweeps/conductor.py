"""Trials out, trainings in: who waits for which training, and what is told when.

A trial asks for one training per replicate. A training that has ended is answered from its record,
one in flight is waited for, and only what is left goes to a worker; so two trials that differ in α
alone cost one training. The conductor knows neither Ray nor Optuna: it is handed a study to ask and
tell, and is asked for work by whatever executes it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from search_spaces import source_of
from sweeps import last_words, records
from sweeps.candidate import Candidate, Training
from sweeps.config import SweepConfig
from sweeps.last_words import LastWords
from sweeps.objectives import Objectives
from sweeps.plain_text import printable
from sweeps.records import TrainingRecord
from sweeps.run_directory import RunDirectory

if TYPE_CHECKING:
    from sweeps.selection import Study, StudyTrial

REPLAY_SECONDS = 0.1
"""How long one call may answer replays while workers run, whose results wait meanwhile."""

STARTS = 3
"""How many workers a training is given to, of which each is lost before it has begun."""

LOSSES = 20
"""How often a training may lose its node before that is taken for the training's own doing."""

DEATHS = 3
"""Of how many workers' deaths without a word, as by SIGKILL, that is taken."""

KEPT_RECORDS = 2048
"""Most records of ended trainings that are held: those asked for last."""

FLUSH_SECONDS = 0.5
"""What a driver that is killed may lose of the study: it is asked and told again."""

_SILENT = "killed, as by the system when memory runs out, or ended by its code (os._exit)"


@dataclass(frozen=True)
class Work:
    """Trainings of one model for a worker, the number of the trial on whose behalf they are made,
    the epochs after which the one is judged that is alone, how many workers were given them, how
    many of them had ended before the last of these, how many nodes were lost with them, and how
    many workers died of them without a word.
    """

    trainings: tuple[Training, ...]
    trial: int
    reports: tuple[int, ...] = ()
    starts: int = 1
    ended: int = 0
    losses: int = 0
    deaths: int = 0

    @property
    def ids(self) -> list[str]:
        """The ids of the trainings."""
        return [training.training_id for training in self.trainings]


@dataclass
class _OpenTrial:
    number: int
    candidate: Candidate
    alpha: float
    trainings: list[Training]
    missing: set[str]

    @property
    def model(self) -> dict[str, Any]:
        """The model, as the study keeps it."""
        candidate = self.candidate
        return {
            "model": candidate.model_id,
            "candidate": candidate.to_dict(),
            "alpha": self.alpha,
        }


@dataclass
class Progress:
    """Counts for the display, and the seconds that all trainings took. ``best`` is the model with
    the best validation metric so far, ``waiting`` says what holds up all trainings, if anything.
    """

    target: int
    done: int = 0
    failed: int = 0
    pruned: int = 0
    replayed: int = 0
    running: int = 0
    trained: int = 0
    seconds: float = 0.0
    best: tuple[str, float] | None = None
    waiting: str = ""


ENDING_SECONDS = 4.0
"""What a sweep takes to end when nothing is under way any more."""
REPORT_SECONDS = 0.02
"""What each training adds to the report's time."""


@dataclass
class Conductor:
    """Hands out trainings until ``trials`` trials were asked and told.

    ``on_progress`` is called after everything that changes the counts, ``on_judged`` with what
    became of a training that may be pruned. The wall time that a sweep may take counts from
    ``begun``, a time of `time.monotonic`. All stops so early that the report is done by then, and
    also once something is ``broken``, as where the study can't be reached any more.
    """

    study: Study
    run: RunDirectory
    config: SweepConfig
    workers: int
    trials: int
    objectives: Objectives
    progress: Progress
    on_progress: Callable[[Progress], None] = lambda progress: None
    on_judged: Callable[[TrainingRecord], None] = lambda record: None
    begun: float = field(default_factory=time.monotonic)
    stopping: bool = False
    broken: bool = False
    _queue: deque[Work] = field(default_factory=deque)
    _running: dict[str, Work] = field(default_factory=dict)
    _open: dict[int, _OpenTrial] = field(default_factory=dict)
    _unexplained: set[str] = field(default_factory=set)
    _restoring: set[str] = field(default_factory=set)
    _flushed: float = field(default_factory=time.monotonic)
    _ended: dict[str, TrainingRecord] = field(default_factory=dict)

    def adopt(self) -> None:
        """Take over the trials that an earlier driver left running."""
        for number, parameters in self.study.adopt():
            self._start(number, parameters)

    def restore(self, trial: StudyTrial) -> None:
        """Make the trainings of a COMPLETE trial again whose record or trace is gone."""
        candidate = Candidate.from_dict(trial.details["candidate"])
        trainings = [Training(candidate, seed) for seed in range(self.config.replicates)]
        needed = {
            training.training_id
            for training in trainings
            # Another id means that the user's code is no longer what the trial was made with.
            if training.training_id in trial.details["trainings"]
            and self._record(training.training_id) is None
        }
        self._restoring |= needed
        self._enqueue(trainings, needed, trial.number, judged=False)

    def _enqueue(
        self, trainings: list[Training], needed: set[str], trial: int, *, judged: bool = True
    ) -> None:
        """Queue the trainings of a model of which some are needed, in the groups that train as one:
        the first by itself where it may be pruned, which is ``judged`` then.
        """
        reports = self.config.pruner.reports(trainings[0].candidate.rounds)
        needed = needed - {
            name for work in (*self._queue, *self._running.values()) for name in work.ids
        }
        groups = [trainings[:1], trainings[1:]] if reports else [trainings]
        if not self._whole(trainings[0].candidate.architecture):
            groups = [[training] for training in trainings]
        for group in groups:
            if not needed.isdisjoint(training.training_id for training in group):
                first = group[0] is trainings[0]
                self._queue.append(Work(tuple(group), trial, reports if first and judged else ()))

    def _whole(self, architecture: str) -> bool:
        """Whether one worker is given all replicates of a model: those from checkpoints can't take
        their steps as one, and several workers make them sooner.
        """
        return self.config.replicates_together and source_of(architecture) is None

    @property
    def running(self) -> set[str]:
        """The workers that have a training."""
        return set(self._running)

    @property
    def most(self) -> int:
        """How many workers could have trainings at once from now on, at most."""
        left = self.trials - len(self.study)
        whole = all(map(self._whole, self.config.space.architectures))
        replicates = 1 if whole else self.config.replicates
        missing = sum(min(len(trial.missing), replicates) for trial in self._open.values())
        return left * replicates + missing + len(self._restoring)

    @property
    def out_of_time(self) -> bool:
        """Whether the time is over that the sweep may take; what is under way stops as well."""
        wall = self.config.limits.wall_time
        if wall is None:
            return False
        trainings = (self.progress.done - self.progress.replayed) * self.config.replicates
        ending = ENDING_SECONDS + REPORT_SECONDS * trainings
        return time.monotonic() >= self.begun + max(wall - ending, wall / 2)

    @property
    def halted(self) -> bool:
        """Whether all that is under way is to stop now; that is no fault of any training."""
        return self.stopping or self.broken or self.out_of_time

    @property
    def limit(self) -> str:
        """The limit that was reached, by its key; empty while there is none."""
        spent = self.config.limits.training_time
        if spent is not None and self.progress.seconds >= spent:
            return "training_time"
        return "wall_time" if self.out_of_time else ""

    @property
    def exhausted(self) -> bool:
        """Whether no work will ever be handed out again. While a training is under way there may
        be: what follows from it, or itself, if its worker is lost.
        """
        return self.halted or self.complete or bool(self.limit)

    @property
    def complete(self) -> bool:
        """Whether every trial asked for has been told."""
        return len(self.study) >= self.trials and not self._open and not self._restoring

    def prepare(self, seconds: float = math.inf) -> bool:
        """Answer what needs no worker, for so long while any is at work; says whether there is work
        for one now.
        """
        until = time.monotonic() + seconds
        while not self._queue and len(self.study) < self.trials and not self.exhausted:
            if self._running and time.monotonic() > until:
                return False
            self._start(*self.study.ask())
            self._flush()
        return bool(self._queue) and not self.exhausted

    def next(self, runner: str) -> Work | None:
        """The next training for the worker known as ``runner``; None if there is none just now."""
        if len(self._running) >= self.workers or not self.prepare(REPLAY_SECONDS):
            return None
        work = self._queue.popleft()
        work = replace(work, ended=self._ended_of(work))
        # A training is of a trial that the study has: whatever is killed, none is made for nothing.
        self.study.flush()
        self._running[runner] = work
        self.progress.waiting = ""
        self._show()
        return work

    def ended(self, runner: str) -> None:
        """A worker has ended its trainings; without a record of each, or of one that failed, it
        died, and ``died`` may say of what.
        """
        work = self._running.get(runner)
        if work is None:
            return
        if self._lacking(work) is not None:
            self._unexplained.add(runner)
        else:
            del self._running[runner]
            self._settle(work)

    def _ended_of(self, work: Work) -> int:
        return sum(self._record(name) is not None for name in work.ids)

    def _lacking(self, work: Work) -> Training | None:
        """The first of a worker's trainings without a record, if it matters: after one that failed
        it doesn't.
        """
        lacking = None
        for training in work.trainings:
            record = self._record(training.training_id)
            if record is not None and record.state != "COMPLETE":
                return None
            if record is None:
                lacking = lacking or training
        return lacking

    def died(self, runner: str, message: str, *, begun: bool = True, lost: bool = False) -> None:
        """A worker was lost with its trainings: that is a FAILED record of the first that hadn't
        finished. One that was lost before its training had ``begun`` gives it back, some times, and
        one that had ended some of several the others: it may have been unfit to go on. One that was
        ``lost`` with its node gives them back: they go on elsewhere; and so does one that died
        without a word, a few times, as what kills it may have meant another.
        """
        work = self._running.pop(runner, None)
        self._unexplained.discard(runner)
        if work is None:
            return
        lacking = self._lacking(work)
        if lacking is None:
            self._settle(work)
            return
        left = last_words.take(self.run.last_words(runner), self.config.limits.each_time)
        again = None
        if left is None or not left.reason:
            again = self._again(work, begun=begun, lost=lost)
        if again is not None:
            self._queue.appendleft(again)
        # Whatever stops us has stopped the worker as well: that is no fault of its model.
        elif not self.halted:
            self._fail(work, lacking, runner, left, message)

    def _again(self, work: Work, *, begun: bool, lost: bool) -> Work | None:
        """The work of a worker that died without a word as another one is given it; None where it
        isn't.
        """
        if not begun and not lost and work.starts < STARTS:
            return replace(work, starts=work.starts + 1)
        if lost and work.losses < LOSSES:
            return replace(work, losses=work.losses + 1)
        if self.halted:
            return None
        if self._ended_of(work) > work.ended:
            return work
        if begun and not lost and work.deaths + 1 < DEATHS:
            return replace(work, deaths=work.deaths + 1)
        return None

    def _fail(
        self, work: Work, lacking: Training, runner: str, left: LastWords | None, message: str
    ) -> None:
        """Make the death of a worker the record of the training that died with it; ``left`` are its
        last words, ``message`` is what Ray says.
        """
        lines = message.strip().splitlines()
        if left is not None and left.reason:
            reason = left.reason
        elif left is not None:
            reason = f"the worker process died without a word, {work.deaths + 1} times: {_SILENT}"
        else:
            reason = f"the worker process died{f': {lines[-1]}' if lines else ' without a message'}"
        tail = left.tail.splitlines()[-40:] if left is not None else []
        record = TrainingRecord(
            training_id=lacking.training_id,
            model_id=lacking.candidate.model_id,
            seed=lacking.seed,
            state="FAILED",
            trial=work.trial,
            runner=runner,
            seconds=0.0,
            reason=reason,
            log_tail=left.tail if left and left.reason else "\n".join([*tail, *lines[-20:]]),
        )
        records.save(self.run, record)
        self._settle(work)

    def lost_all(self, waiting: str) -> None:
        """Every worker was lost at once, by no fault of its training, which goes on elsewhere;
        ``waiting`` says what is waited for until another one is at work.
        """
        self.progress.waiting = waiting
        self._show()
        for runner in list(self._running):
            self.died(runner, "", lost=True)

    def pruned(self, runner: str, seen: list[dict[str, Any]]) -> None:
        """A worker's training is stopped for good, after the evaluations by which it was judged."""
        work = self._running[runner]
        last = seen[-1]
        task = self.config.task_object()
        (training,) = work.trainings
        rounds = "evaluations" if training.candidate.steps else "epochs"
        record = TrainingRecord(
            training_id=training.training_id,
            model_id=training.candidate.model_id,
            seed=training.seed,
            state="PRUNED",
            trial=work.trial,
            runner=runner,
            seconds=last["seconds"],
            reason=f"pruned after {last['epoch']} of {training.candidate.rounds} {rounds}, at "
            f"{task.metric.name} {last['metric']:.4g}",
            steps=last["step"],
            metric_name=task.metric.name,
            direction=task.metric.direction,
            history=[{k: v for k, v in entry.items() if k != "seconds"} for entry in seen],
        )
        records.save(self.run, record)

    def judged(self) -> Iterator[TrainingRecord]:
        """What became of the trainings that may be pruned and have ended, trial by trial: those of
        trials that wait for other replicates too.
        """
        first = {
            trial.number: trial.details["trainings"][0]
            for trial in self.study.trials()
            if trial.details.get("trainings")
        }
        first |= {number: trial.trainings[0].training_id for number, trial in self._open.items()}
        for number in sorted(first):
            record = records.load(self.run, first[number])
            if record is not None and record.trial == number:
                yield record

    def tick(self) -> None:
        """Settle workers that died without a word, and refresh the display."""
        for runner in list(self._unexplained):
            self.died(runner, "")
        self._flush()
        self.on_progress(self.progress)

    def _flush(self) -> None:
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.study.flush()
            self._flushed = time.monotonic()

    def _start(self, number: int, parameters: dict[str, Any]) -> None:
        candidate, alpha = Candidate.from_parameters(self.config, parameters)
        trainings = [Training(candidate, seed) for seed in range(self.config.replicates)]
        trial = _OpenTrial(number, candidate, alpha, trainings, {t.training_id for t in trainings})
        self._open[number] = trial
        # Those who read the study may have neither the data nor the checkpoints that tell the id.
        self.study.note(number, trial.model)
        ended = [self._record(training.training_id) for training in trainings]
        known = [record for record in ended if record is not None]
        for record in known:
            trial.missing.discard(record.training_id)
            if record.trial == number:
                # An earlier driver's, which has not told of it.
                self.progress.seconds += record.seconds
                if record.seed == 0:
                    self.on_judged(record)
        self._decide(trial, known)

    def _decide(self, trial: _OpenTrial, ended: Iterable[TrainingRecord]) -> None:
        """Tell a trial if it is decided, given what has ended of it just now; otherwise queue what
        it waits for. Where trainings may be pruned, the first replicate decides on the others.
        """
        if not trial.missing or any(record.state != "COMPLETE" for record in ended):
            self._tell(trial)
            return
        first = trial.trainings[0].training_id
        pruned = bool(self.config.pruner.reports(trial.candidate.rounds))
        needed = {first} if pruned and first in trial.missing else trial.missing
        self._enqueue(trial.trainings, needed, trial.number)

    def _record(self, training_id: str) -> TrainingRecord | None:
        """What became of a training; kept for a while, since it doesn't change any more."""
        record = self._ended.pop(training_id, None) or records.ended(self.run, training_id)
        if record is not None:
            self._ended[training_id] = record
            if len(self._ended) > KEPT_RECORDS:
                del self._ended[next(iter(self._ended))]
        return record

    def _settle(self, work: Work) -> None:
        """Account for the trainings that a worker has ended and that something waited for."""
        needed = self._needed()
        found = [self._record(name) for name in work.ids if name in needed]
        ended = [record for record in found if record is not None]
        for record in ended:
            self.progress.trained += 1
            self.progress.seconds += record.seconds
            self._restoring.discard(record.training_id)
            if record.seed == 0:
                self.on_judged(record)
        for trial in list(self._open.values()):
            own = [record for record in ended if record.training_id in trial.missing]
            if own:
                trial.missing.difference_update(record.training_id for record in own)
                self._decide(trial, own)
        self._show()

    def _tell(self, trial: _OpenTrial) -> None:
        del self._open[trial.number]
        self._drop_unneeded()
        ended = [self._record(training.training_id) for training in trial.trainings]
        known = [record for record in ended if record is not None]
        own = [record for record in known if record.trial == trial.number]
        outcome = self.objectives.evaluate(trial.candidate, trial.alpha, known)
        details = trial.model | {
            "trainings": [training.training_id for training in trial.trainings],
            "ray": [record.runner for record in own],
            "replayed": not own,
            "seconds": sum(record.seconds for record in own),
            "metric": outcome.metric,
            "reason": printable(outcome.reason),
        }
        self.study.tell(
            trial.number,
            outcome.values,
            details,
            outcome.constraint,
            pruned=outcome.state == "PRUNED",
        )
        self.progress.done += 1
        self.progress.failed += outcome.state == "FAILED"
        self.progress.pruned += outcome.state == "PRUNED"
        self.progress.replayed += not own
        self.progress.best = self.objectives.best
        self._show()

    def _needed(self) -> set[str]:
        """The trainings that a trial waits for, or that are made again."""
        waited_for = (trial.missing for trial in self._open.values())
        return self._restoring.union(*waited_for)

    def _drop_unneeded(self) -> None:
        needed = self._needed()
        self._queue = deque(work for work in self._queue if not needed.isdisjoint(work.ids))

    def _show(self) -> None:
        self.progress.running = len(self._running)
        self.on_progress(self.progress)
