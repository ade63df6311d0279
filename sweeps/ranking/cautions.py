"""What a reader of a ranking must know before trusting it, in plain words."""

from collections.abc import Sequence

import pandas as pd

from sweeps.ranking.rank_intervals import LEVEL, RankIntervals, smallest_p_value
from trace_core.alpha import AlphaChoice

FEW_REPLICATES = 3
_DIFFER = {
    "learning_rate": "learning rate: the change rate follows it, whatever the model",
    "weight_decay": "weight decay: with normalisation layers it sets the change rate with the "
    "learning rate, whatever the model",
    "batch_size": "batch size: directness rises with it, so that these models are not comparable "
    "as they stand",
    "epochs": "number of epochs: their scores are taken over the examples that all of them saw, "
    "their metrics after the whole training",
}


def warnings_of(
    ranked: pd.DataFrame,
    replicates: pd.DataFrame,
    sizes: Sequence[int],
    choice: AlphaChoice,
    intervals: RankIntervals,
) -> list[str]:
    """Every warning that applies.

    Args:
        ranked: the eligible rows of the model table.
        replicates: their rows of the replicate table.
        sizes: replicates per eligible model.
        choice: the common α.
        intervals: the rank intervals and the tests behind them.
    """
    return [
        *_about_evidence(sizes, intervals),
        *_about_settings(ranked),
        *_about_alpha(choice),
        *_about_metric(replicates),
    ]


def _about_evidence(sizes: Sequence[int], intervals: RankIntervals) -> list[str]:
    if len(sizes) < 2:
        count = "only one model is" if sizes else "no model is"
        return [f"{count} eligible: there is nothing to compare"]
    found = []
    fewest = min(sizes)
    if fewest == 1:
        found.append("one replicate a model: without a spread over seeds no rank can be bounded")
    elif fewest < FEW_REPLICATES:
        found.append(f"{fewest} replicates a model are few: rank intervals are wide and unsteady")
    if intervals.p_value is None or intervals.distinguishable:
        return found
    found.append(
        "the ranked models cannot be told apart by their traceability (permutation test, "
        f"p = {intervals.p_value:.3g}): treat their order as chance"
    )
    if smallest_p_value(sizes) > LEVEL:
        found.append(
            f"{len(sizes)} models with {fewest} replicates can never be told apart at "
            f"{LEVEL:.0%} by a permutation test: add replicates"
        )
    return found


def _about_settings(ranked: pd.DataFrame) -> list[str]:
    return [
        f"the ranked models differ in {consequence}"
        for column, consequence in _DIFFER.items()
        if column in ranked and ranked[column].dropna().nunique() > 1
    ]


def _about_alpha(choice: AlphaChoice) -> list[str]:
    found = []
    if choice.alpha in (0.0, 1.0):
        ignored = "the stability" if choice.alpha == 0 else "the explainability"
        found.append(f"α = {choice.alpha:g} lies at an end: {ignored} does not count at all")
    if choice.depends_on_pool:
        found.append(
            f"α comes from the pool of eligible models ({choice.source}): adding or removing a "
            "model may reverse ranks"
        )
    if "fallback" in choice.source:
        found.append(choice.note)
    return found


def _about_metric(replicates: pd.DataFrame) -> list[str]:
    missing = replicates.loc[replicates["metric_error"].isna(), "model_id"].nunique()
    if not missing:
        return []
    return [
        f"the sampling error of the validation metric is unknown for {missing} models: their "
        "bounds cover the seeds alone"
    ]
