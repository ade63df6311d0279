"""Pruning by Ray Tune's schedulers: which trainings are stopped early, by their validation metric.

The schedulers are asked directly, since Tune's own trials are trainings, and only the first
replicate of a model is judged. What they know is made anew from the records of a sweep that goes
on: Tune's state is never read back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from sweeps.config_sections import PrunerSettings
from sweeps.records import TrainingRecord

_METRIC, _EPOCH = "metric", "epoch"


@dataclass(eq=False)
class _Judged:
    """What Tune's schedulers know of a trial, and the last epoch at which it was judged."""

    trial_id: str
    epoch: int = 0


class _Alone:
    """Tune's controller, of which a scheduler asks whether others wait: none does here."""

    def get_live_trials(self) -> list[Any]:
        return []


class Pruning:
    """The rule of a sweep whose trainings last up to ``epochs``; trainings go by their ids."""

    def __init__(self, settings: PrunerSettings, direction: str, epochs: int, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._judged: dict[str, _Judged] = {}
        self._scheduler = _scheduler(settings, epochs)
        mode = "max" if direction == "maximize" else "min"
        self._scheduler.set_search_properties(_METRIC, mode)

    def stops(self, name: str, epoch: int, metric: float) -> bool:
        """Whether a training is to be stopped that came to this metric after so many epochs."""
        judged = self._known(name)
        if epoch <= judged.epoch:
            return False
        judged.epoch = epoch
        result = {_EPOCH: epoch, _METRIC: metric}
        decision = self._scheduler.on_trial_result(_Alone(), judged, result)
        return bool(decision == TrialScheduler.STOP)

    def ended(self, record: TrainingRecord) -> None:
        """A training has ended, now or in an earlier part of the sweep."""
        if record.state == "FAILED":
            return
        *earlier, last = record.history
        reports = self._settings.reports(last["epoch"])
        for entry in earlier:
            if entry["epoch"] in reports:
                self.stops(record.training_id, entry["epoch"], entry["metric"])
        if record.state == "COMPLETE":
            result = {_EPOCH: last["epoch"], _METRIC: last["metric"]}
            judged = self._known(record.training_id)
            self._scheduler.on_trial_complete(_Alone(), judged, result)
        else:
            self.stops(record.training_id, last["epoch"], last["metric"])

    def _known(self, name: str) -> _Judged:
        if name not in self._judged:
            self._judged[name] = _Judged(name)
            # Hyperband draws a training's bracket from NumPy's global generator.
            state = np.random.get_state()  # noqa: NPY002
            np.random.seed([self._seed, len(self._judged)])  # noqa: NPY002
            self._scheduler.on_trial_add(_Alone(), self._judged[name])
            np.random.set_state(state)  # noqa: NPY002
        return self._judged[name]


def _scheduler(settings: PrunerSettings, epochs: int) -> FIFOScheduler:
    if settings.name == "median":
        return MedianStoppingRule(
            time_attr=_EPOCH,
            grace_period=settings.grace,
            min_samples_required=settings.startup,
        )
    return AsyncHyperBandScheduler(
        time_attr=_EPOCH,
        # No training reaches it: the last epoch ends one, and nothing is to be judged there.
        max_t=epochs + 1,
        grace_period=settings.grace,
        reduction_factor=settings.reduction,
        brackets=3 if settings.name == "hyperband" else 1,
    )
