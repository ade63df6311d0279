"""What suggests a trial: a sampler made anew for each, seeded from (the sweep's seed, the trial's
number), so that an interrupted sweep asks what an undisturbed one would have asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    PartialFixedSampler,
    RandomSampler,
    TPESampler,
)

from search_spaces import Choice, Grid, Space
from sweeps.config import SweepConfig
from sweeps.config_selection import shared_numbers
from sweeps.selection.storage import be_quiet
from sweeps.selection.whole_space import Completed, LowDiscrepancy, WholeSpace, penalised


def coverage(space: Space) -> list[dict[str, Any]]:
    """Points that have every architecture and every initialisation once or more.

    As many as the longer of the two has, pairing them in order and starting the shorter anew.
    """
    architectures = list(space.architectures)
    init = space.dimensions["init"]
    inits = list(init.values) if isinstance(init, Choice) else []
    count = max(len(architectures), len(inits))
    return [
        {"architecture": architectures[i % len(architectures)]}
        | ({"init": inits[i % len(inits)]} if inits else {})
        for i in range(count)
    ]


class Samplers:
    """The samplers of a sweep, one for every trial.

    The first trials are fixed, in whole or in part, to ``earlier`` points, the configuration's
    ``first`` and then to `coverage`; a grid fixes all, in its own order.
    """

    def __init__(self, config: SweepConfig, earlier: Sequence[dict[str, Any]] = ()) -> None:
        self._config = config
        self._settings = config.sampler
        self._grid = Grid(config.space) if self._settings.name == "grid" else None
        self._given = [*earlier, *config.first, *coverage(config.space)]
        self._parameters = config.space.parameters()
        share = self._middle if self._settings.name == "gp" else self._anywhere
        self._completed = Completed(self._parameters, share)

    def for_trial(self, number: int) -> BaseSampler:
        """The sampler for the trial of this number."""
        be_quiet()
        made = self._made(number)
        given = self._point(number)
        return PartialFixedSampler(given, made) if given else made

    def _point(self, number: int) -> dict[str, Any]:
        if self._grid is not None:
            return self._grid.point(number)
        return self._given[number] if number < len(self._given) else {}

    def _made(self, number: int) -> BaseSampler:
        seed = self._seed(number)
        name = self._settings.name
        if name == "tpe":
            return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        if name == "nsga2":
            breeding = NSGAIISampler(seed=seed, population_size=self._settings.population)
            return WholeSpace(breeding, self._parameters, lambda study: self._completed)
        if name == "gp":
            process = GPSampler(seed=seed, warn_independent_sampling=False)
            return WholeSpace(process, self._parameters, lambda study: self._completed)
        if name == "cmaes":
            evolution = CmaEsSampler(seed=seed, warn_independent_sampling=False)
            return WholeSpace(evolution, shared_numbers(self._config.space), penalised)
        if name == "qmc":
            return LowDiscrepancy(self._parameters, self._seed())
        return RandomSampler(seed=seed)

    def _seed(self, *numbers: int) -> int:
        entropy = [self._settings.seed, *numbers]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def _anywhere(self, number: int) -> np.ndarray:
        """A quantile for every parameter, drawn from the trial's number."""
        generator = np.random.default_rng([self._settings.seed, number])
        return generator.random(len(self._parameters))

    def _middle(self, number: int) -> np.ndarray:
        """Absent parameters all alike, so that nothing is seen to follow from them."""
        return np.full(len(self._parameters), 0.5)
