"""Samplers for which the conditional space is one without conditions: every trial has every
parameter, and those that its model doesn't have count for nothing.

Optuna's own treatment of conditional spaces, in all samplers but TPE, is to draw at random what not
every trial has.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container
from typing import Any, cast

import numpy as np
from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Choice, Dimension, IntRange

Seen = Callable[[FrozenTrial], FrozenTrial]

OUT_OF_REACH = 1e200
"""No objective value is as far from 0."""


class WholeSpace(BaseSampler):
    """Asks ``sampler`` for all of ``dimensions``, showing it the other trials as ``seen`` makes
    them.
    """

    def __init__(
        self, sampler: BaseSampler, dimensions: dict[str, Dimension], seen: Callable[[Study], Seen]
    ) -> None:
        self._sampler = sampler
        self._space = open_space(dimensions)
        self._seen = seen

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The whole space, whatever the trials so far had of it."""
        return dict(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the sampler suggests; of a parameter that is given elsewhere nothing."""
        shown = cast(Study, _Shown(study, trial.number, self._seen(study)))
        found = self._sampler.sample_relative(shown, trial, self._space)
        return {name: value for name, value in found.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """What the sampler draws where it suggests nothing."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


class LowDiscrepancy(BaseSampler):
    """A scrambled Sobol' sequence over the whole space, of which trial n takes point n."""

    def __init__(self, dimensions: dict[str, Dimension], seed: int) -> None:
        self._space = open_space(dimensions)
        self._dimensions = [dimensions[name] for name in self._space]
        self._seed = seed

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The whole space."""
        return dict(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The trial's point."""
        if not self._space:
            return {}
        from scipy.stats import qmc  # half a second, which the other samplers do without

        sequence = qmc.Sobol(len(self._space), seed=self._seed)
        if trial.number:
            sequence.fast_forward(trial.number)
        point = dict(zip(self._space, sequence.random(1)[0], strict=True))
        return {
            name: dimension.quantile(float(point[name]))
            for name, dimension in zip(self._space, self._dimensions, strict=True)
            if name in search_space
        }

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Nothing is left to draw alone."""
        raise AssertionError(param_name)


class Completed:
    """Trials with a value for every parameter, those of ended trials made once.

    ``share`` says, of a trial's number and a parameter's position, which quantile an absent
    parameter has.
    """

    def __init__(
        self, dimensions: dict[str, Dimension], share: Callable[[int], np.ndarray]
    ) -> None:
        self._dimensions = dimensions
        self._share = share
        self._ended: dict[int, FrozenTrial] = {}

    def __call__(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial with all parameters."""
        known = self._ended.get(trial.number)
        if known is not None:
            return known
        shares = self._share(trial.number)
        absent = {
            name: dimension.quantile(float(share))
            for (name, dimension), share in zip(self._dimensions.items(), shares, strict=True)
            if name not in trial.params
        }
        whole = copy.copy(trial)
        whole.params = {**absent, **trial.params}
        if trial.state.is_finished():
            self._ended[trial.number] = whole
        return whole


def penalised(study: Study) -> Seen:
    """Trials of one objective, those that break a constraint behind all others, by how much: for a
    sampler that knows no constraints, and of the values the order alone.
    """
    worse = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0

    def seen(trial: FrozenTrial) -> FrozenTrial:
        excess = sum(max(0.0, broken) for broken in trial.constraints.values())
        if trial.state != TrialState.COMPLETE or excess == 0:
            return trial
        behind = copy.copy(trial)
        behind.value = worse * OUT_OF_REACH * (1 + excess)
        return behind

    return seen


def open_space(dimensions: dict[str, Dimension]) -> dict[str, BaseDistribution]:
    """The distributions of the dimensions that leave a choice."""
    return {name: distribution(one) for name, one in dimensions.items() if one.size() != 1}


def distribution(dimension: Dimension) -> BaseDistribution:
    """What Optuna draws a dimension from."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if isinstance(dimension, IntRange):
        return IntDistribution(
            dimension.low, dimension.high, step=dimension.step, log=dimension.log
        )
    return FloatDistribution(dimension.low, dimension.high, step=dimension.step, log=dimension.log)


class _Shown:
    """A study in which the other trials are shown as ``seen`` makes them, and the one that is drawn
    isn't there: adopted half drawn, it would be taken for another that runs.
    """

    def __init__(self, study: Study, number: int, seen: Seen) -> None:
        self._study = study
        self._number = number
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = self._study._get_trials(False, states, use_cache)
        return [self._seen(trial) for trial in trials if trial.number != self._number]
