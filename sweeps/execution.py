"""Ray Tune: every training runs as a Tune trial on a reused actor. All that imports Ray.

Tune's searcher interface is the whole coupling: ``suggest`` hands out the conductor's next
training, ``on_trial_complete`` returns it. Tune's own experiment state is never read back, so its
folder is a temporary one and its snapshots are switched off; what counts is in the run directory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_THRESHOLD_S": "1000000000",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# Ray reads some of these while it is imported.
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import FIFOScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

if TYPE_CHECKING:
    from sweeps.conductor import Conductor

SLICE_SECONDS = 1.0
"""How long a training runs between two signs of life to the driver."""

WAITING_SECONDS = 0.05
"""How often an actor whose training has ended asks whether it may go on to another one."""

STOP_SECONDS = 20.0
"""How long an orderly stop on SIGTERM may take."""

STOPPED = 3
"""The exit code of a sweep that was stopped (design §7)."""

ACTOR_START_SECONDS = 60.0
"""How long the others wait for an actor that is being started."""


class TuneTraining(tune.Trainable):  # type: ignore[misc]
    """The actor: trains what it is given, slice by slice, and writes trace and record itself."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take a training; the imports cost seconds, once per actor."""
        for folder in config["import_path"]:
            if folder not in sys.path:
                sys.path.insert(0, folder)
        from sweeps.group import Group

        self._worker = Group(
            Path(config["run"]),
            config["trainings"],
            config["training_ids"],
            config["trial"],
            self.trial_id,
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next training on the same warm actor."""
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Leave a checkpoint when the sweep is stopped in the middle of a training."""
        self._worker.save()

    def step(self) -> dict[str, Any]:
        """Train for a slice of time; once the training has ended, wait to be let go."""
        if self._worker.ended:
            time.sleep(WAITING_SECONDS)
        else:
            self._worker.advance(SLICE_SECONDS)
        return {"ended": self._worker.ended}


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
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = self.error or error

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        work = None
        with self._kept():
            work = self._conductor.next(trial_id)
        if self.error is not None or (work is None and self._conductor.exhausted):
            return str(self.FINISHED)
        if work is None:
            return None
        return {
            "trainings": [training.to_json() for training in work.trainings],
            "training_ids": work.ids,
            "trial": work.trial,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        with self._kept():
            self._conductor.ended(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study is the ledger."""


class _Watch(tune.Callback):  # type: ignore[misc]
    """Tells the conductor why an actor died, and lets the display move."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self.begun: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.begun.add(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._conductor.tick()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Not trial.get_error(): that one asks the experiment's storage, which we keep empty.
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        self._conductor.died(trial.trial_id, text)


class _Release(FIFOScheduler):  # type: ignore[misc]
    """Decides when an actor whose training has ended is free for the next one.

    Tune gives the actor of a finished trial to whichever trial waits for one, and then abandons the
    actor it was starting for that trial. With trainings shorter than an actor's start, one actor
    would thus do all the work, for ever. So an actor is kept until every training handed out has
    begun on an actor of its own.
    """

    def __init__(self, conductor: Conductor, searcher: _TuneSearcher, watch: _Watch) -> None:
        super().__init__()
        self._conductor = conductor
        self._searcher = searcher
        self._watch = watch
        self._deadline: float | None = None
        self._patient = True

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self._searcher.error is not None:
            return str(self.STOP)
        if not result["ended"]:
            return str(self.CONTINUE)
        if self._patient and not self._conductor.running <= self._watch.begun:
            now = time.monotonic()
            self._deadline = self._deadline or now + ACTOR_START_SECONDS
            # A cluster with fewer places than workers never starts them all.
            self._patient = now < self._deadline
            return str(self.CONTINUE)
        self._deadline = None
        return str(self.STOP)


@contextlib.contextmanager
def _connected(address: str | None, workers: int) -> Iterator[None]:
    """A Ray of our own on this machine, or the cluster at ``address``.

    ``address="local"`` because the file that a dead cluster leaves behind would otherwise send
    ``ray.init`` to it.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"address": "local", "num_cpus": workers, "include_dashboard": False}
    else:
        options |= {"address": address}
    for name in ("ray", "ray.tune", "ray.train"):
        # A lost worker is a record with its reason; Tune would print its traceback as well.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        ray.init(**options)
    except (ValueError, RuntimeError, OSError) as error:
        raise ConnectionError(f"Ray at {address or 'this machine'}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def execute(
    conductor: Conductor,
    *,
    run: Path,
    workers: int,
    address: str | None,
    import_path: list[str],
) -> None:
    """Work off the conductor's trainings as Tune trials, at most ``workers`` at once.

    Returns when the conductor is exhausted or was told to stop. Raises ConnectionError if the
    cluster at ``address`` can't be reached, and whatever the conductor raised.
    """
    searcher, watch = _TuneSearcher(conductor), _Watch(conductor)
    # By default a searcher's trials start one after another, each with an actor's whole start.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
    with (
        _stoppable(conductor),
        _connected(address, workers),
        tempfile.TemporaryDirectory(prefix="tracerank-") as scratch,
        # Ray's start has put a handler of its own in the place of ours.
        _stoppable(conductor),
    ):
        tune.run(
            TuneTraining,
            config={"run": str(run.resolve()), "import_path": import_path},
            num_samples=-1,
            search_alg=searcher,
            resources_per_trial={"cpu": 1},
            reuse_actors=True,
            storage_path=scratch,
            name="sweep",
            trial_dirname_creator=lambda trial: trial.trial_id,
            callbacks=[watch],
            scheduler=_Release(conductor, searcher, watch),
            raise_on_failed_trial=False,
            verbose=0,
            progress_reporter=_Silent(),
        )
    if searcher.error is not None:
        raise searcher.error


@contextlib.contextmanager
def _stoppable(conductor: Conductor) -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does: Tune ends its loop, and lets the actors save their trainings.

    Tune leaves its own SIGINT handler behind, which would swallow a later Ctrl-C.
    """

    def terminate(signum: int, frame: FrameType | None) -> None:
        conductor.stopping = True
        last_resort.start()
        os.kill(os.getpid(), signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Where the signal took Ray's own processes as well, Ray waits for them for a minute and then
    # kills us. What is stored is whole at any moment, so we may as well leave.
    last_resort = threading.Timer(STOP_SECONDS, os._exit, (STOPPED,))
    last_resort.daemon = True
    interrupt = signal.getsignal(signal.SIGINT)
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        last_resort.cancel()
        signal.signal(signal.SIGTERM, previous)
        signal.signal(signal.SIGINT, interrupt)


class _Silent(tune.ProgressReporter):  # type: ignore[misc]
    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: Any) -> None:
        raise AssertionError("a silent reporter has nothing to report")
