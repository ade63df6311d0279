"""Every training as a Tune trial on a reused actor.

Tune's searcher interface is the whole coupling: ``suggest`` hands out the conductor's next
training, ``on_trial_complete`` returns it. Tune's own experiment state is never read back, so its
folder is a temporary one and its snapshots are switched off; what counts is in the run directory.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.air._internal import usage
from ray.tune import registry
from ray.tune.execution import class_cache
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.execution.tune_controller import TuneController
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweeps.config_sections import MOST
from sweeps.execution.actor import TuneTraining, portable
from sweeps.execution.pruning import Pruning
from sweeps.execution.session import replaced
from sweeps.run_directory import RunDirectory
from sweeps.storing import UnwrittenError

if TYPE_CHECKING:
    from sweeps.conductor import Conductor
    from sweeps.data import Prepared
    from sweeps.execution.loss import Presence
    from sweeps.execution.sharing import Sharing

_NODE_LOST = (
    *("node has died", "node died", "preempted", "node was terminated"),
    # Ray knows that a process has died within a second, and of a node only much later.
    "The actor is temporarily unavailable",
)

ACTOR_START_SECONDS = 60.0
"""How long the others wait for an actor that is being started."""

IDLE_SECONDS = 0.1
"""How often a sweep asks for work that has no place for any."""


class _TuneSearcher(Searcher):  # type: ignore[misc]
    """Answers Tune's questions from the conductor; has nothing of its own to save.

    What goes wrong in the conductor (a full disk, say) is kept in ``error``, and ends the sweep:
    Tune would bury it under its own traceback.
    """

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor
        self.error: Exception | None = None

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """What is asked of the conductor; what goes wrong in it ends the sweep."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            self._conductor.broken = True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        work = None
        with self.kept():
            work = self._conductor.next(trial_id)
        if work is None and self._conductor.exhausted:
            return str(self.FINISHED)
        if work is None:
            if not self._conductor.running:
                # On a cluster that has no place for us now: Tune would ask again at once.
                time.sleep(IDLE_SECONDS)
            return None
        return {
            "trainings": [training.to_json() for training in work.trainings],
            "training_ids": work.ids,
            "trial": work.trial,
            "reports": work.reports,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        with self.kept():
            self._conductor.ended(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study is the ledger."""


class _Watch(TrialProgressCallback):  # type: ignore[misc]
    """Tells the conductor why an actor died, and lets the display move.

    It stands in the place of the callback that Tune would add, which prints, and keeps every trial.
    """

    def __init__(self, conductor: Conductor, searcher: _TuneSearcher, presence: Presence) -> None:
        super().__init__()
        self._conductor = conductor
        self._searcher = searcher
        self._presence = presence
        self.begun: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.begun.add(trial.trial_id)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        pass

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.begun.discard(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._presence.require()
        with self._searcher.kept():
            self._conductor.tick()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Not trial.get_error(): that one asks the experiment's storage, which we keep empty.
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        with self._searcher.kept():
            self._conductor.died(
                trial.trial_id,
                text,
                begun=trial.trial_id in self.begun,
                # Of a Ray of our own no node is lost but with all of it.
                lost=not self._presence.own and _node_lost(text),
            )


def _node_lost(text: str) -> bool:
    """Whether it was its node that took a worker with it, by what Ray says of its death."""
    return any(words in text for words in _NODE_LOST)


def _forget(controller: Any) -> None:
    """Let Tune go of the trainings that have ended, of which it keeps 25 KB each to its end, and
    looks through all at every step. Nothing of it is read again.
    """
    trials = controller.get_trials()
    ended = [trial for trial in trials if trial.is_finished()]
    if ended:
        trials[:] = [trial for trial in trials if not trial.is_finished()]
    # These are not of its interface: where another version lacks them, it only keeps more.
    tune = getattr(controller, "_tune_controller", None)
    for name in ("_stopped_trials", "_failed_trials", "_trials_to_cache"):
        kept = getattr(tune, name, None)
        if isinstance(kept, set):
            kept.difference_update(ended)


class _Release(FIFOScheduler):  # type: ignore[misc]
    """Decides when an actor whose training has ended is free for the next one.

    Tune gives the actor of a finished trial to whichever trial waits for one, and then abandons the
    actor it was starting for that trial. With trainings shorter than an actor's start, one actor
    would thus do all the work, for ever. So an actor is kept until every training handed out has
    begun on an actor of its own.
    """

    def __init__(
        self,
        conductor: Conductor,
        searcher: _TuneSearcher,
        watch: _Watch,
        pruning: Pruning | None,
        share: Sharing | None,
    ) -> None:
        super().__init__()
        self._pruning = pruning
        self._share = share
        self._seen: dict[str, list[dict[str, Any]]] = {}
        self._conductor = conductor
        self._searcher = searcher
        self._watch = watch
        self._deadline: float | None = None
        self._patient = True

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result["unwritten"]:
            with self._searcher.kept():
                raise UnwrittenError(result["unwritten"])
        if self._conductor.broken or self._conductor.out_of_time:
            return str(self.STOP)
        if not result["ended"]:
            return str(self.STOP if self._prunes(trial, result) else self.CONTINUE)
        waited_for = not self._conductor.running <= self._watch.begun
        if self._share is not None:
            # Its places come and go: another actor may be worth waiting for again.
            self._patient = not self._share.in_vain and (self._patient or not waited_for)
        if self._patient and waited_for:
            now = time.monotonic()
            self._deadline = self._deadline or now + ACTOR_START_SECONDS
            # A cluster with fewer places than workers never starts them all.
            self._patient = now < self._deadline
            return str(self.CONTINUE)
        self._deadline = None
        self._seen.pop(trial.trial_id, None)
        return str(self.STOP)

    def choose_trial_to_run(self, controller: Any) -> Any:
        _forget(controller)
        if self._share is not None:
            with self._searcher.kept():
                self._share.follow(controller)
        return super().choose_trial_to_run(controller)

    def _prunes(self, trial: Any, result: dict[str, Any]) -> bool:
        """Whether a training is stopped here for good."""
        # Tune flattens results.
        report = {
            name.removeprefix("report/"): value
            for name, value in result.items()
            if name.startswith("report/")
        }
        if self._pruning is None or not report:
            return False
        self._seen.setdefault(trial.trial_id, []).append(report)
        if not self._pruning.stops(
            trial.config["training_ids"][0], report["epoch"], report["metric"]
        ):
            return False
        with self._searcher.kept():
            self._conductor.pruned(trial.trial_id, self._seen.pop(trial.trial_id))
        return True


def _ask_once(controller: TuneController, blocking: bool = False, timeout: int = 600) -> bool:
    """In the place of a method of Tune's that, where no trial is live, may wait ten minutes for the
    next and do nothing else.
    """
    return bool(_update_trial_queue(controller, blocking=False))


_update_trial_queue = TuneController._update_trial_queue


def train_all(
    conductor: Conductor,
    data: Mapping[str, Prepared],
    presence: Presence,
    *,
    run: Path,
    import_path: list[str],
    place: dict[str, str] | None = None,
    share: Sharing | None = None,
) -> None:
    """Work off the conductor's trainings as Tune trials, on the Ray that this process is connected
    to, at most ``conductor.workers`` at once, which follows the sweep's ``share`` of a cluster.
    ``data`` is put into Ray's object store, of which every worker's arrays are views.
    Workers on other nodes send what they write to ``place``, which `courier.receiving` gives.

    Returns when the conductor is exhausted or was told to stop. Raises whatever the conductor
    raised, and RayLost once ``presence`` finds Ray gone.
    """
    searcher = _TuneSearcher(conductor)
    watch = _Watch(conductor, searcher, presence)
    pruning, needs = _pruning(conductor), conductor.config.resources
    limits = conductor.config.limits
    # By default a searcher's trials start one after another, each with an actor's whole start.
    # Tune reads it once; on a cluster there may be more places later.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(MOST if share else conductor.workers)
    with (
        RunDirectory(run).scratch() as scratch,
        # Tune counts callbacks for Ray's usage statistics, which are off, and imports mlflow and
        # wandb to tell them from ours: a second, where they are installed.
        replaced(usage, "tag_callbacks", lambda callbacks: False),
        replaced(TuneController, "_update_trial_queue", _ask_once),
        # Tune asks the GCS for it, for each trial three times; where that is gone, it waits.
        replaced(registry, "_has_trainable", lambda name: True),
        replaced(registry._global_registry, "get", cache(registry._global_registry.get)),
        # The credentials of the driver's storage among them: its actors would have them, on every
        # node, and Ray tells whoever may look at an actor what it was given.
        replaced(class_cache, "ENV_VARS_TO_PROPAGATE", frozenset()),
    ):
        tune.run(
            tune.with_parameters(TuneTraining, data=dict(data)) if data else TuneTraining,
            config={
                "run": str(run.resolve()),
                "import_path": [portable(folder) for folder in import_path],
                "place": place,
                "limits": {"time": limits.each_time, "memory": limits.each_memory},
            },
            num_samples=-1,
            search_alg=searcher,
            resources_per_trial=PlacementGroupFactory([needs.demand()]),
            reuse_actors=True,
            storage_path=str(scratch),
            name="sweep",
            trial_dirname_creator=lambda trial: trial.trial_id,
            callbacks=[watch],
            scheduler=_Release(conductor, searcher, watch, pruning, share),
            raise_on_failed_trial=False,
            verbose=0,
            progress_reporter=_Silent(),
        )
    if searcher.error is not None:
        raise searcher.error


def _pruning(conductor: Conductor) -> Pruning | None:
    """The sweep's rule, knowing what ended before and told of what ends from now on."""
    config = conductor.config
    if config.pruner.name == "none":
        return None
    pruning = Pruning(
        config.pruner, config.metric_direction, config.most_rounds(), config.sampler.seed
    )
    for record in conductor.judged():
        pruning.ended(record)
    conductor.on_judged = pruning.ended
    return pruning


class _Silent(tune.ProgressReporter):  # type: ignore[misc]
    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: Any) -> None:
        raise AssertionError("a silent reporter has nothing to report")
