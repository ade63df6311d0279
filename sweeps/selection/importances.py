"""Which setting matters: the share of a figure's variation over the models that each explains.

Optuna's functional ANOVA over a random forest (Hutter et al. 2014, ICML). Models differ in which
settings they have, and a setting that only some have can't be compared over all: so those that all
have are judged over all models, and an architecture's own over the models of that architecture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator

from sweeps.selection.storage import be_quiet

FEWEST = 10
"""Models under which a forest says nothing."""
MOST = 200
"""Models that are judged by: more are drawn from, as the time grows with them."""
TREES = 16
ROUNDING = 1e-9
"""Spread, as a share of the figures, that counts as none."""
_LOG_FROM = 30
"""Ratio of the highest to the lowest value from which a setting is taken to be in logarithms."""


def setting_importances(
    settings: Sequence[Mapping[str, Any]], figures: Sequence[float], seed: int = 0
) -> dict[str, float]:
    """The share that each setting explains, for the settings that all models have and in which they
    differ, the greatest first; they sum to 1. Nothing under `FEWEST` models, or where figures or
    settings are all the same.

    Args:
        settings: of each model: numbers, truth values and names.
        figures: of each model; models whose figure isn't finite are left out.
        seed: of the forest.
    """
    finite = [i for i, figure in enumerate(figures) if np.isfinite(figure)]
    if len(finite) > MOST:
        finite = sorted(np.random.default_rng(seed).choice(finite, MOST, replace=False).tolist())
    kept = [settings[i] for i in finite]
    if len(kept) < FEWEST:
        return {}
    chosen = np.array([figures[i] for i in finite], dtype=np.float64)
    spread = float(np.ptp(chosen))
    if not spread > ROUNDING * float(np.abs(chosen).max()):
        return {}
    # A forest stops splitting at a spread that it takes for none, whatever the figures' scale.
    chosen = (chosen - chosen.min()) / spread
    shared = [name for name in kept[0] if all(name in each for each in kept)]
    distributions = {name: _distribution([each[name] for each in kept]) for name in shared}
    varying = {name: each for name, each in distributions.items() if each is not None}
    if len(varying) < 2:
        return dict.fromkeys(varying, 1.0)
    be_quiet()
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: _value(settings[i][name], varying[name]) for name in varying},
                distributions=varying,
                value=float(figure),
            )
            for i, figure in zip(finite, chosen, strict=True)
        ]
    )
    found = optuna.importance.get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(n_trees=TREES, seed=seed)
    )
    return {name: float(share) for name, share in found.items()}


def _distribution(values: Sequence[Any]) -> BaseDistribution | None:
    """What the values may have been drawn from; None where they are all the same."""
    if len({str(value) for value in values}) < 2:
        return None
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        low, high = min(values), max(values)
        log = low > 0 and high / low >= _LOG_FROM
        if all(isinstance(value, int) for value in values):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    return CategoricalDistribution(sorted({str(value) for value in values}))


def _value(value: Any, distribution: BaseDistribution) -> Any:
    return str(value) if isinstance(distribution, CategoricalDistribution) else value
