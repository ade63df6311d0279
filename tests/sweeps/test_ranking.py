"""The ranking as a whole: order, invariances, warnings, and the contract of its JSON."""

import json
from math import nan

import numpy as np
import pandas as pd
import pytest

from sweeps.ranking import COLUMNS, MetricInfo, rank

ACCURACY = MetricInfo("accuracy", "maximize", 0.1)
MODEL_KEYS = {
    "rank", "rank_low", "rank_high", "model_id", "architecture", "init", "settings",
    "traceability", "stability", "change_rate", "explainability", "article_score", "metric",
    "metric_best", "metric_test", "metric_name", "share_first", "p_first", "replicates",
}  # fmt: skip
TOP_KEYS = {"schema", "alpha", "alpha_source", "reading", "models", "excluded", "trials"}
TRIAL_KEYS = {"COMPLETE", "PRUNED", "FAILED", "INTERRUPTED", "trained", "replayed"}
REPLICATE_COLUMNS = [
    "model_id", "seed", "stability", "change_rate", "explainability", "article_score", "metric",
    "metric_best", "metric_start", "metric_error", "metric_test",
]  # fmt: skip


def make(count, replicates=3, seed=0, spread=0.08, noise=0.01):
    rng = np.random.default_rng(seed)
    models, rows = [], []
    for index in range(count):
        model_id = f"m{index:03}"
        models.append(
            {
                "model_id": model_id,
                "architecture": "mlp",
                "init": "default",
                "settings": {"depth": index % 3, "hidden": 16 + index},
                "state": "COMPLETE",
                "reason": "",
                "learning_rate": 0.1,
                "weight_decay": 0.0,
                "batch_size": 64,
                "epochs": 15,
            }
        )
        S, E = 0.6 + spread * rng.normal(), 0.5 + spread * rng.normal()
        quality = 0.8 + 0.5 * (S - 0.6)
        rows += [
            {
                "model_id": model_id,
                "seed": replicate,
                "stability": S + noise * rng.normal(),
                "change_rate": 0.002,
                "explainability": E + noise * rng.normal(),
                "article_score": 0.001 * (1 + index) + 1e-5 * rng.normal(),
                "metric": quality + 0.003 * rng.normal(),
                "metric_best": quality + 0.01,
                "metric_start": 0.1,
                "metric_error": 0.01,
                "metric_test": quality + 0.01 * rng.normal(),
            }
            for replicate in range(replicates)
        ]
    columns = ["model_id", "architecture", "init", "settings", "state", "reason"]
    return (
        pd.DataFrame(models, columns=None if models else columns),
        pd.DataFrame(rows, columns=REPLICATE_COLUMNS),
    )


def ranked(models, replicates, expected=3, **options):
    return rank(models, replicates, metric=ACCURACY, replicates_expected=expected, **options)


def strict(ranking):
    return json.loads(json.dumps(ranking.to_json(), allow_nan=False))


def test_models_are_ordered_by_mean_traceability():
    models, replicates = make(12)
    ranking = ranked(models, replicates, alpha=0.3)
    means = replicates.groupby("model_id")[["stability", "explainability"]].mean()
    scores = 0.3 * means["stability"] + 0.7 * means["explainability"]
    assert ranking.frame["model_id"].tolist() == scores.sort_values(ascending=False).index.tolist()
    assert ranking.frame["rank"].tolist() == list(range(1, 13))
    assert ranking.frame["traceability"].tolist() == pytest.approx(
        sorted(scores, reverse=True), abs=1e-14
    )
    assert (ranking.frame["rank_low"] <= ranking.frame["rank"]).all()
    assert (ranking.frame["rank"] <= ranking.frame["rank_high"]).all()
    assert ranking.frame["p_first"].sum() == pytest.approx(1)
    assert ranking.frame["share_first"].sum() == pytest.approx(1)
    assert ranking.frame["model_id"].iloc[0] in ranking.leading_group


def test_equal_traceability_is_ordered_by_metric_then_id():
    models, replicates = make(3, noise=0)
    replicates[["stability", "explainability"]] = 0.5
    replicates["metric"] = replicates["model_id"].map({"m000": 0.8, "m001": 0.8, "m002": 0.9})
    found = ranked(models, replicates)
    assert found.frame["model_id"].tolist() == ["m002", "m000", "m001"]
    assert not found.distinguishable


def test_json_keeps_the_contract():
    models, replicates = make(5)
    models.loc[4, ["state", "reason"]] = ["FAILED", "loss is NaN"]
    data = strict(ranked(models, replicates, trials={"COMPLETE": 4, "FAILED": 1, "trained": 14}))
    assert set(data) >= TOP_KEYS
    assert data["schema"] == 1
    assert (data["alpha"], data["alpha_source"], data["reading"]) == (0.5, "fixed", "calibrated")
    assert [set(row) for row in data["models"]] == [MODEL_KEYS] * 4
    assert set(data["models"][0]["settings"]) == {"depth", "hidden"}
    assert data["models"][0]["metric_name"] == "accuracy"
    assert data["models"][0]["replicates"] == 3
    assert data["excluded"] == [{"model_id": "m004", "reason": "FAILED: loss is NaN"}]
    assert set(data["trials"]) == TRIAL_KEYS
    assert (data["trials"]["FAILED"], data["trials"]["replayed"]) == (1, 0)


def test_frame_can_be_stored(tmp_path):
    models, replicates = make(3)
    models.at[1, "settings"] = {"width": "wide"}
    ranking = ranked(models, replicates)
    assert tuple(ranking.frame.columns) == COLUMNS
    assert set(COLUMNS) == MODEL_KEYS
    ranking.frame.to_parquet(tmp_path / "ranking.parquet")
    stored = pd.read_parquet(tmp_path / "ranking.parquet")
    assert stored["settings"].map(json.loads).tolist() == [
        row["settings"] for row in ranking.to_json()["models"]
    ]


def test_the_order_of_rows_makes_no_difference():
    models, replicates = make(30)
    models.loc[7, "state"] = "PRUNED"
    for alpha in (0.5, "std", "cross_validated"):
        first = strict(ranked(models, replicates, alpha=alpha))
        shuffled = (
            models.sample(frac=1, random_state=1),
            replicates.sample(frac=1, random_state=2),
        )
        assert strict(ranked(*shuffled, alpha=alpha)) == first


def test_a_further_model_changes_no_traceability_at_a_fixed_alpha():
    models, replicates = make(9)
    weakest = replicates["model_id"] == "m008"
    replicates.loc[weakest, ["stability", "explainability"]] = 0.01
    with_it = ranked(models, replicates).frame.set_index("model_id")["traceability"]
    without = ranked(models.iloc[:8], replicates[~weakest]).frame
    without = without.set_index("model_id")["traceability"]
    assert with_it[without.index].tolist() == without.tolist()


@pytest.mark.parametrize("alpha", [0.5, "std", "entropy", "cross_validated"])
def test_no_models_at_all(alpha):
    data = strict(ranked(*make(0), alpha=alpha))
    assert data["models"] == data["excluded"] == data["leaders"] == []
    assert data["alpha"] == 0.5


def test_no_eligible_model_leaves_the_reasons():
    models, replicates = make(3)
    replicates["metric"] = 0.05
    ranking = ranked(models, replicates)
    data = strict(ranking)
    assert data["models"] == []
    assert len(data["excluded"]) == 3
    assert "no model is eligible" in ranking.warnings[0]
    assert ranking.leading_group == ()


def test_one_eligible_model_stands_alone():
    ranking = ranked(*make(1))
    row = strict(ranking)["models"][0]
    assert (row["rank"], row["rank_low"], row["rank_high"]) == (1, 1, 1)
    assert (row["p_first"], row["share_first"]) == (None, 1.0)
    assert "only one model" in ranking.warnings[0]


def test_models_that_cannot_be_told_apart():
    ranking = ranked(*make(6, spread=0, noise=0.05, seed=3))
    assert ranking.omnibus_p > 0.05
    assert not ranking.distinguishable
    assert ranking.frame["p_first"].isna().all()
    assert (ranking.frame["rank_low"] == 1).all()
    assert (ranking.frame["rank_high"] == 6).all()
    assert "cannot be told apart" in ranking.warnings[0]
    assert all(row["p_first"] is None for row in strict(ranking)["models"])
    assert len(ranking.leading_group) == 6


def test_too_few_replicates_to_ever_tell():
    ranking = ranked(*make(2))
    assert any("can never be told apart" in warning for warning in ranking.warnings)


def test_one_replicate_is_warned_of():
    ranking = ranked(*make(4, replicates=1), expected=1)
    assert any("one replicate" in warning for warning in ranking.warnings)
    assert (ranking.frame["rank_high"] == 4).all()
    assert ranking.frame["p_first"].isna().all()
    assert any("few" in warning for warning in ranked(*make(4, 2), expected=2).warnings)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("learning_rate", 0.3, "learning rate"),
        ("weight_decay", 1e-4, "weight decay"),
        ("batch_size", 8, "batch size"),
        ("epochs", 60, "epochs"),
    ],
)
def test_settings_that_differ_are_warned_of(column, value, words):
    models, replicates = make(4)
    assert not ranked(models, replicates).warnings
    models[column] = models[column].astype(float)
    models.loc[1, column] = value
    assert any(words in warning for warning in ranked(models, replicates).warnings)
    # A model that isn't ranked confounds nothing.
    models.loc[1, "state"] = "PRUNED"
    assert not any(words in warning for warning in ranked(models, replicates).warnings)


def test_warnings_about_alpha():
    models, replicates = make(5)
    assert any("stability does not" in w for w in ranked(models, replicates, alpha=0).warnings)
    assert any("explainability" in w for w in ranked(models, replicates, alpha=1).warnings)
    assert any("pool" in w for w in ranked(models, replicates, alpha="std").warnings)
    fallback = ranked(models, replicates, alpha="cross_validated")
    assert fallback.alpha == 0.5
    assert any("too few" in warning for warning in fallback.warnings)


def test_an_unknown_sampling_error_is_warned_of():
    models, replicates = make(4)
    replicates.loc[replicates["model_id"] == "m001", "metric_error"] = nan
    assert any("unknown for 1" in warning for warning in ranked(models, replicates).warnings)


def test_cross_validated_needs_twenty_models_and_finds_what_tells():
    ranking = ranked(*make(40), alpha="cross_validated")
    assert ranking.alpha_source == "cross_validated"
    assert ranking.alpha > 0.8
    assert "concordance" in ranking.alpha_note


def test_pareto_front():
    models, replicates = make(3, noise=0)
    values = {
        "m000": (0.8, 0.3, 0.7),
        "m001": (0.7, 0.2, 0.6),
        "m002": (0.1, 0.9, 0.6),
    }
    for model_id, row in values.items():
        replicates.loc[
            replicates["model_id"] == model_id, ["stability", "explainability", "metric"]
        ] = row
    assert ranked(models, replicates).pareto == ("m000", "m002")


def test_leaders_cover_every_alpha():
    ranking = ranked(*make(10))
    assert ranking.leaders[0].start == 0
    assert ranking.leaders[-1].stop == 1
    widths = {each.model_id: each.stop - each.start for each in ranking.leaders}
    shares = ranking.frame.set_index("model_id")["share_first"]
    assert shares[shares > 0].to_dict() == pytest.approx(widths)


def test_unknown_figures_are_none():
    models, replicates = make(4)
    replicates.loc[0, ["metric_test", "change_rate"]] = nan
    row = next(r for r in strict(ranked(models, replicates))["models"] if r["model_id"] == "m000")
    assert row["metric_test"] is None
    assert row["change_rate"] is None


def test_articles_reading_ranks_by_its_own_score():
    models, replicates = make(4)
    ranking = ranked(models, replicates, reading="article")
    assert ranking.frame["model_id"].tolist() == ["m003", "m002", "m001", "m000"]
    scores = ranking.frame["article_score"].tolist()
    assert ranking.frame["traceability"].tolist() == pytest.approx(scores, rel=1e-14)
    assert ranking.frame["share_first"].isna().all()
    strict(ranking)
    with pytest.raises(ValueError, match="article_change_rate and article_explainability"):
        ranked(models, replicates, reading="article", alpha=0.7)


def test_articles_reading_at_another_alpha():
    models, replicates = make(4)
    replicates["article_change_rate"] = 0.01 * (1 + replicates["stability"])
    replicates["article_explainability"] = 1e-4 * replicates["explainability"]
    ranking = ranked(models, replicates, reading="article", alpha=0.9)
    expected = (
        (0.9 * replicates["article_change_rate"] + 0.1 * replicates["article_explainability"])
        .groupby(replicates["model_id"])
        .mean()
    )
    found = ranking.frame.set_index("model_id")["traceability"].to_dict()
    assert found == pytest.approx(expected.to_dict())
    assert ranking.frame["share_first"].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 2}, "alpha is 2"),
        ({"floor": 1.5}, "floor is 1.5"),
        ({"reading": "literal"}, "calibrated, article"),
        ({"expected": 0}, "at least 1"),
    ],
)
def test_wrong_arguments_name_the_rule(options, message):
    with pytest.raises(ValueError, match=message):
        ranked(*make(2), **options)


def test_wrong_tables_are_refused():
    models, replicates = make(2)
    with pytest.raises(ValueError, match="lacks metric_error"):
        ranked(models, replicates.drop(columns="metric_error"))
    with pytest.raises(ValueError, match="m000 stands in the model table more than once"):
        ranked(pd.concat([models, models]), replicates)
    with pytest.raises(ValueError, match="model and seed more than once"):
        ranked(models, pd.concat([replicates, replicates]))
    with pytest.raises(ValueError, match="trainings of m001"):
        ranked(models.iloc[:1], replicates)
    with pytest.raises(ValueError, match="state is 'RUNNING'"):
        ranked(models.assign(state="RUNNING"), replicates)
