"""What is said of models from checkpoints beside a ranking."""

import pandas as pd
import pytest

from sweeps.ranking.checkpoints import about_checkpoints
from sweeps.ranking.eligibility import MetricInfo

ACCURACY = MetricInfo("accuracy", "maximize", 0.5)
BITS = MetricInfo("bits_per_byte", "minimize", 4.0)


def said(metric, *models, ranked=("a", "b", "c")):
    """Of models: name, settings, the metric of three replicates, trained parameters."""
    table = pd.DataFrame(
        [{"model_id": name, "settings": settings} for name, settings, _, _ in models]
    )
    rows = [
        {"model_id": name, "metric": value, "metric_error": 0.01, "trained": trained}
        for name, _, values, trained in models
        for value in values
    ]
    return about_checkpoints(table, pd.DataFrame(rows), ranked, metric)


def model(name, checkpoint, level, tune="full", trained=100):
    return (
        name,
        {"checkpoint": checkpoint, "tune": tune},
        [level - 0.01, level, level + 0.01],
        trained,
    )


@pytest.mark.parametrize(
    ("metric", "checkpoint", "control", "words"),
    [
        (ACCURACY, 0.9, 0.7, "with 95% confidence the checkpoint helps"),
        (ACCURACY, 0.72, 0.7, "may make as much"),
        (ACCURACY, 0.5, 0.9, "may make as much"),
        (BITS, 1.5, 2.5, "with 95% confidence the checkpoint helps"),
        (BITS, 2.5, 1.5, "may make as much"),
    ],
)
def test_checkpoints_beside_their_controls(metric, checkpoint, control, words):
    worse = checkpoint - metric.sign * 0.2
    (sentence,) = said(
        metric,
        model("a", "one", checkpoint),
        model("b", "two", worse),
        model("c", "scratch:one", control),
    )
    assert words in sentence
    assert f"(a) reaches {metric.name} {checkpoint:.4g}" in sentence
    assert f"(c) {control:.4g}" in sentence


def test_without_a_control_or_a_checkpoint_nothing_is_said():
    assert said(ACCURACY, model("a", "one", 0.9), model("b", "two", 0.7)) == []
    assert said(ACCURACY, model("a", "scratch:one", 0.9)) == []
    assert said(ACCURACY, ("a", {"depth": 2}, [0.9], 100)) == []


def test_what_is_trained_is_told_where_the_ranked_models_differ_in_it():
    models = (
        model("a", "one", 0.9, trained=4000),
        model("b", "one", 0.8, tune="lora", trained=300),
        model("c", "two", 0.8, tune="lora", trained=500),
    )
    (sentence,) = said(ACCURACY, *models)
    assert "(full: 4,000, lora: 300 to 500 of them)" in sentence
    assert said(ACCURACY, *models, ranked=("b", "c")) == []


def test_blocks_of_different_lengths_are_told_of_language():
    models = [
        (name, {"checkpoint": name, "max_length": length}, [level], 100)
        for name, length, level in (("a", 64, 1.5), ("b", 128, 1.4), ("c", 128, 1.3))
    ]
    (sentence,) = said(BITS, *models)
    assert "blocks of different lengths (64, 128 tokens)" in sentence
    assert said(BITS, *models, ranked=("b", "c")) == []
    assert said(ACCURACY, *models) == []
