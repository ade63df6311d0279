"""Models from checkpoints in a ranking: the control beside them, and what can't be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweeps.ranking import MetricInfo, rank

ACCURACY = MetricInfo("accuracy", "maximize", 0.25)


def tables(
    models: dict[str, dict[str, Any]], metrics: dict[str, list[float]], sign: float = 1.0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A ranking's tables: ``models`` by id with their settings and ``trained``, and the metric of
    each replicate.
    """
    generator = np.random.default_rng(0)
    rows, trainings = [], []
    for name, settings in models.items():
        own = dict(settings)
        trained = own.pop("trained", 1000)
        rows.append({"model_id": name, "architecture": "pretrained", "init": "default"})
        rows[-1] |= {"settings": own, "state": "COMPLETE", "reason": ""}
        for seed, metric in enumerate(metrics[name]):
            scores = generator.uniform(0.5, 0.9, 5)
            trainings.append(
                {
                    "model_id": name,
                    "seed": seed,
                    **dict(zip(SCORES, scores, strict=True)),
                    "metric": metric,
                    "metric_best": metric,
                    "metric_start": 0.25 - 0.2 * (1 - sign),
                    "metric_error": 0.01,
                    "metric_test": metric,
                    "trained": trained,
                }
            )
    return pd.DataFrame(rows), pd.DataFrame(trainings)


SCORES = ("stability", "change_rate", "explainability", "article_change_rate", "article_score")
KNOWS = {"checkpoint": "a", "tune": "full"}
OTHER = {"checkpoint": "b", "tune": "full"}
CONTROL = {"checkpoint": "scratch:a", "tune": "full"}


def ranked(models: dict[str, dict[str, Any]], metrics: dict[str, list[float]]) -> Any:
    return rank(*tables(models, metrics), metric=ACCURACY, replicates_expected=3)


def test_a_control_is_compared_and_not_ranked() -> None:
    found = ranked(
        {"a": KNOWS, "b": OTHER, "c": CONTROL},
        {"a": [0.8, 0.81, 0.82], "b": [0.78, 0.8, 0.79], "c": [0.6, 0.61, 0.6]},
    )
    assert sorted(found.frame["model_id"]) == ["a", "b"]
    (left_out,) = found.excluded
    assert left_out.model_id == "c"
    assert left_out.reason.startswith("a control with random weights")
    assert "accuracy 0.6033" in left_out.reason
    (told,) = [each for each in found.warnings if "control" in each]
    assert "(a) reaches accuracy 0.81, the best control with random weights (c) 0.6033" in told
    assert told.endswith("with 95% confidence the checkpoint helps on this task")


def test_a_control_that_did_not_learn_is_left_out_for_that() -> None:
    found = ranked({"a": KNOWS, "c": CONTROL}, {"a": [0.8, 0.81, 0.82], "c": [0.26, 0.25, 0.24]})
    assert "does not beat the trivial baseline" in found.excluded[0].reason
    assert any("(c) 0.25: with 95% confidence" in each for each in found.warnings)


@pytest.mark.parametrize("control", [[0.79, 0.82, 0.8], [0.9, 0.91, 0.9]])
def test_a_control_that_is_as_good_shows_that_nothing_helps(control: list[float]) -> None:
    found = ranked({"a": KNOWS, "c": CONTROL}, {"a": [0.8, 0.81, 0.82], "c": control})
    (told,) = [each for each in found.warnings if "control" in each]
    assert "nothing shows that what the checkpoints know helps on this task" in told


def test_where_lower_is_better_the_better_one_has_less() -> None:
    bits = MetricInfo("bits_per_byte", "minimize", 4.0)
    models, replicates = tables({"a": KNOWS, "c": CONTROL}, {"a": [1.0, 1.1, 1.0], "c": [2.0] * 3})
    replicates["metric_start"] = 5.0
    found = rank(models, replicates, metric=bits, replicates_expected=3)
    assert any("with 95% confidence the checkpoint helps" in each for each in found.warnings)


def test_models_of_random_weights_alone_are_ranked() -> None:
    found = ranked(
        {"c": CONTROL, "d": {"checkpoint": "scratch:b"}},
        {"c": [0.8, 0.81, 0.82], "d": [0.7, 0.71, 0.7]},
    )
    assert sorted(found.frame["model_id"]) == ["c", "d"]
    assert not any("control" in each for each in found.warnings)


def test_models_of_which_another_part_is_trained_are_told() -> None:
    ways = {
        "a": KNOWS | {"trained": 22_000_000},
        "b": {"checkpoint": "a", "tune": "lora", "trained": 300_000},
        "d": {"checkpoint": "a", "tune": "lora", "trained": 150_000},
        "e": {"checkpoint": "a", "tune": "head", "trained": 770},
    }
    found = ranked(ways, {name: [0.8, 0.81, 0.82] for name in ways})
    (told,) = [each for each in found.warnings if "which parameters are trained" in each]
    assert "(full: 22,000,000, head: 770, lora: 150,000 to 300,000 of them)" in told
    same = ranked({"a": KNOWS, "b": OTHER}, {"a": [0.8, 0.81, 0.82], "b": [0.8, 0.81, 0.8]})
    assert not any("which parameters are trained" in each for each in same.warnings)


def test_models_without_checkpoints_are_told_nothing_of_them() -> None:
    plain = {"a": {"hidden": 8}, "b": {"hidden": 16}}
    found = ranked(plain, {"a": [0.8, 0.81, 0.82], "b": [0.8, 0.81, 0.8]})
    assert not any("control" in each or "checkpoint" in each for each in found.warnings)
