"""Who may be ranked: one case for each reason."""

from math import inf, nan, sqrt

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from sweeps.ranking.eligibility import MetricInfo, confidence_bound, judge

ACCURACY = MetricInfo("accuracy", "maximize", 0.1)
LOSS = MetricInfo("loss", "minimize", 2.3)


def tables(**cases):
    """Tables of one model per case: a dict of what differs from a model that learned."""
    models, rows = [], []
    for model_id, case in cases.items():
        values = case.get("metric", [0.9, 0.91, 0.92])
        models.append(
            {
                "model_id": model_id,
                "state": case.get("state", "COMPLETE"),
                "reason": case.get("reason", ""),
                "settings": {"hidden": 8},
            }
        )
        rows += [
            {
                "model_id": model_id,
                "metric": value,
                "metric_start": case.get("start", 0.1),
                "metric_error": case.get("error", 0.01),
                "stability": case.get("stability", 0.8),
                "explainability": 0.5,
            }
            for value in values
        ]
    columns = ["model_id", "metric", "metric_start", "metric_error", "stability", "explainability"]
    return pd.DataFrame(models), pd.DataFrame(rows, columns=columns)


def verdicts(metric=ACCURACY, floor=0.5, **cases):
    eligible, excluded = judge(*tables(**cases), metric, 3, floor, ("stability", "explainability"))
    return eligible, {each.model_id: each.reason for each in excluded}


def test_a_model_that_learned_is_eligible():
    assert verdicts(a={}) == (["a"], {})


@pytest.mark.parametrize("state", ["PRUNED", "FAILED", "INTERRUPTED"])
def test_unfinished_states_are_listed_with_their_reason(state):
    eligible, reasons = verdicts(a={}, b={"state": state, "reason": "loss is NaN at step 7"})
    assert eligible == ["a"]
    assert reasons == {"b": f"{state}: loss is NaN at step 7"}


def test_a_part_diverged_model_is_not_averaged_over_its_survivors():
    _, reasons = verdicts(a={}, b={"metric": [0.99, 0.99]}, c={"metric": []})
    assert reasons["b"].startswith("2 of 3 replicates finished")
    assert reasons["c"].startswith("0 of 3 replicates finished")
    _, reasons = verdicts(a={}, b={"metric": [0.9, nan, 0.9]})
    assert reasons["b"] == "metric is not a finite number in 1 of 3 replicates"


def test_a_score_that_is_not_defined_is_said_so():
    _, reasons = verdicts(a={}, b={"stability": nan}, c={"stability": inf})
    assert reasons["b"] == "stability is not a finite number in 3 of 3 replicates"
    assert "c" in reasons


def test_a_model_that_did_not_beat_the_trivial_predictor():
    # On average above the baseline, but not beyond the error.
    _, reasons = verdicts(a={}, b={"metric": [0.11, 0.12, 0.10], "start": 0.05, "error": 0.02})
    assert "does not beat the trivial baseline 0.1" in reasons["b"]
    assert "accuracy 0.11 (lower 95% bound 0.07" in reasons["b"]


def test_a_pretrained_model_that_never_moves_cannot_win():
    eligible, reasons = verdicts(a={}, b={"metric": [0.95] * 3, "start": 0.95, "error": 0.0})
    assert eligible == ["a"]
    assert "does not beat the model's own 0.95 at step 0" in reasons["b"]


def test_a_start_that_is_unknown_proves_nothing():
    _, reasons = verdicts(a={"start": nan})
    assert "step 0 is missing" in reasons["a"]


def test_the_floor_is_a_share_of_the_best_models_skill():
    eligible, reasons = verdicts(
        a={"metric": [0.9] * 3}, b={"metric": [0.49] * 3}, c={"metric": [0.51] * 3}
    )
    assert eligible == ["a", "c"]
    assert "49% of the way" in reasons["b"]
    assert "floor of 50%" in reasons["b"]
    assert verdicts(floor=0.0, a={"metric": [0.9] * 3}, b={"metric": [0.3] * 3})[0] == ["a", "b"]


def test_an_ineligible_model_does_not_raise_the_floor():
    stuck = {"metric": [0.99] * 3, "start": 0.99}
    assert verdicts(a={"metric": [0.4] * 3}, b=stuck)[0] == ["a"]


def test_a_minimised_metric():
    eligible, reasons = verdicts(
        LOSS,
        a={"metric": [0.3, 0.31, 0.32], "start": 2.4},
        b={"metric": [2.28, 2.31, 2.25], "start": 2.4},
        c={"metric": [0.3, 0.3, 0.3], "start": 0.3},
        d={"metric": [1.9, 1.9, 1.9], "start": inf},
        e={"metric": [1.0, 1.0, 1.0], "start": inf},
    )
    assert eligible == ["a", "e"]
    assert "upper 95% bound" in reasons["b"]
    assert "own 0.3 at step 0" in reasons["c"]
    assert "floor" in reasons["d"]


def test_without_a_baseline_nothing_is_eligible():
    eligible, reasons = verdicts(MetricInfo("accuracy", "maximize", nan), a={})
    assert eligible == []
    assert "baseline" in reasons["a"]


def test_bound_of_one_replicate_is_the_samples_alone():
    bound = confidence_bound(pd.Series([0.8]), pd.Series([0.02]), 1.0)
    assert bound == pytest.approx(0.8 - norm.ppf(0.95) * 0.02)


def test_bound_without_a_sampling_error_is_students():
    values = np.array([0.7, 0.8, 0.75])
    half = student.ppf(0.95, 2) * values.std(ddof=1) / sqrt(3)
    errors = pd.Series([0.0, 0.0, nan])
    assert confidence_bound(pd.Series(values), errors, 1.0) == pytest.approx(0.75 - half)
    assert confidence_bound(pd.Series(values), errors, -1.0) == pytest.approx(0.75 + half)


def test_more_replicates_do_not_shrink_the_samples_error():
    bound = confidence_bound(pd.Series([0.8] * 50), pd.Series([0.02] * 50), 1.0)
    assert bound == pytest.approx(0.8 - norm.ppf(0.95) * 0.02)


def test_bounds_of_many_models_are_those_of_each():
    rng = np.random.default_rng(0)
    values, errors = rng.normal(0.8, 0.05, (6, 3)), rng.uniform(0, 0.02, (6, 3))
    values[0] = 0.8
    errors[1, 2] = nan
    together = confidence_bound(values, errors, -1.0)
    assert together.tolist() == [
        float(confidence_bound(*each, -1.0)) for each in zip(values, errors, strict=True)
    ]


def test_a_wrong_direction_is_refused():
    with pytest.raises(ValueError, match="'maximize' or 'minimize'"):
        MetricInfo("accuracy", "up", 0.1)
