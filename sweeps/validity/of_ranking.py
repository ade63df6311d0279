"""The assessment of a sweep's ranking, from its tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sweeps.validity.assessment import Assessment, assess

if TYPE_CHECKING:
    from sweeps.ranking import Ranking

_OF_MODELS = ("learning_rate", "weight_decay", "batch_size", "epochs")
_OF_TRAININGS = ("parameters", "metric_early", "train_loss", "train_loss_sum")
_LOGARITHMIC = ("learning_rate", "weight_decay", "parameters")
_CONFOUNDERS = (*_OF_MODELS, "parameters")
_NOT_TRIVIAL = ("weight_decay", "batch_size", "epochs")
_LOSSES = ("train_loss", "train_loss_sum")


def assess_ranking(
    ranking: Ranking, models: pd.DataFrame, replicates: pd.DataFrame, seed: int = 0
) -> Assessment:
    """Assess the order of the ranked models against their metric on the held-out part.

    Args:
        ranking: the ranking.
        models: its model table; ``learning_rate``, ``weight_decay``, ``batch_size`` and ``epochs``
            are read where they stand.
        replicates: its replicate table; ``parameters``, ``metric_early``, ``train_loss`` and
            ``train_loss_sum`` likewise.
        seed: of the resampled pools and permutations.
    """
    ids = list(ranking.frame["model_id"])
    score, performance = (
        ranking.frame[name].to_numpy(dtype=np.float64) for name in ("traceability", "metric_test")
    )
    properties: dict[str, pd.Series] = {}
    for table, names in ((models, _OF_MODELS), (replicates, _OF_TRAININGS)):
        for name in names:
            if name in table:
                means = table.astype({name: "float64"}).groupby("model_id")[name].mean()
                values = means.reindex(ids)
                properties[name] = _logarithm(values) if name in _LOGARITHMIC else values
    # Higher is to mean better of these too, as of the score: a τ of 1 is the same order.
    if "metric_early" in properties:
        properties["metric_early"] = ranking.metric.sign * properties["metric_early"]
    for name in set(_LOSSES) & set(properties):
        properties[name] = -properties[name]
    by_seed = ranking.scores.pivot_table(index="model_id", columns="seed", values="traceability")
    by_seed = by_seed.reindex(ids).dropna(axis="columns")
    found = assess(
        score,
        ranking.metric.sign * performance,
        trivial={name: each for name, each in properties.items() if name not in _NOT_TRIVIAL},
        confounders={name: properties[name] for name in _CONFOUNDERS if name in properties},
        by_seed=[by_seed[column] for column in by_seed],
        seed=seed,
    )
    return replace(found, fitted=ranking.alpha_source == "cross_validated")


def _logarithm(values: pd.Series) -> pd.Series:
    """Of values ≥ 0; a 0, such as of no weight decay, stands one power of ten below the least."""
    positive = values[values > 0]
    least = float(positive.min()) if len(positive) else 1.0
    logarithm: pd.Series = np.log(values.mask(values == 0, least / 10))
    return logarithm
