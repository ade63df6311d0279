"""What a reader must know of models that begin from checkpoints: whether what the checkpoints know
shows on the task, by the side of the same architectures from random weights, and which of their
scores can't be compared.
"""

import math
from collections.abc import Sequence

import pandas as pd

from sweeps.ranking.eligibility import MetricInfo, confidence_bound, is_control


def about_checkpoints(
    models: pd.DataFrame, replicates: pd.DataFrame, ranked: Sequence[str], metric: MetricInfo
) -> list[str]:
    """All that applies, a sentence each.

    Args:
        models: one row per model: ``model_id``, ``settings``, whose ``checkpoint`` and ``tune``
            are read where they are there.
        replicates: one row per finished training: ``model_id``, ``metric``, ``metric_error``, and
            if it is known ``trained``, the number of parameters that took part.
        ranked: the models that are ranked.
        metric: what the metric is.
    """
    settings = dict(zip(models["model_id"], models["settings"], strict=True))
    told = {name: each for name, each in settings.items() if "checkpoint" in each}
    trainings = replicates[replicates["model_id"].isin(told)]
    if trainings.empty:
        return []
    return [
        *_about_controls(told, trainings, metric),
        *_about_tuning(told, trainings[trainings["model_id"].isin(ranked)]),
        *_about_blocks([told[name] for name in ranked if name in told], metric),
    ]


def _about_controls(
    settings: dict[str, dict[str, object]], trainings: pd.DataFrame, metric: MetricInfo
) -> list[str]:
    means = {
        str(name): metric.sign * float(own["metric"].mean())
        for name, own in trainings.groupby("model_id")
    }
    controls = [name for name in means if is_control(settings[name])]
    others = [name for name in means if not is_control(settings[name])]
    if not controls or not others:
        return []
    best, control = max(others, key=means.__getitem__), max(controls, key=means.__getitem__)
    figures = (
        f"the best model from a checkpoint ({best}) reaches {metric.name} "
        f"{metric.sign * means[best]:.4g}, the best control with random weights ({control}) "
        f"{metric.sign * means[control]:.4g}"
    )
    # The bound of a difference from those of its two sides: Zou & Donner 2008, Stat. Med. 27.
    within = math.hypot(
        _margin(trainings, best, metric.sign), _margin(trainings, control, -metric.sign)
    )
    if means[best] - means[control] > within:
        return [f"{figures}: with 95% confidence the checkpoint helps on this task"]
    return [
        f"{figures}: seeds and the sample of examples may make as much ({within:.2g}), so nothing "
        "shows that what the checkpoints know helps on this task"
    ]


def _about_tuning(settings: dict[str, dict[str, object]], ranked: pd.DataFrame) -> list[str]:
    if "trained" not in ranked:
        return []
    tuned = ranked["model_id"].map(lambda name: settings[name].get("tune", "full"))
    counts = ranked.groupby(tuned)["trained"].agg(["min", "max"])
    if len(counts) < 2:
        return []
    each = ", ".join(
        f"{tune}: {low:,}" + (f" to {high:,}" if high > low else "")
        for tune, low, high in counts.itertuples()
    )
    return [
        f"the ranked models differ in which parameters are trained ({each} of them): their metric "
        "can be compared, after as many examples; their stability and explainability are those of "
        "the trained parameters alone, so read them among models of which the same is trained"
    ]


def _about_blocks(settings: Sequence[dict[str, object]], metric: MetricInfo) -> list[str]:
    """Of language: a token at the start of a block is told by less than one at its end."""
    lengths = sorted({int(str(each["max_length"])) for each in settings if "max_length" in each})
    if metric.name != "bits_per_byte" or len(lengths) < 2:
        return []
    return [
        f"the ranked models read blocks of different lengths ({', '.join(map(str, lengths))} "
        f"tokens): a longer block tells more of what follows, so that part of the difference in "
        f"{metric.name} is the block's, and steps see different amounts of text"
    ]


def _margin(trainings: pd.DataFrame, model: str, sign: float) -> float:
    """From a model's mean metric to its one-sided 95% bound."""
    own = trainings[trainings["model_id"] == model]
    values, errors = (own[name].to_numpy(dtype=float) for name in ("metric", "metric_error"))
    return abs(float(values.mean() - confidence_bound(values, errors, sign)))
