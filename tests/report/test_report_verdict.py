"""Which model, how sure, compared with what: the sentences for every kind of outcome."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up import Sweep, make_sweep

from sweeps.ranking import Exclusion
from sweeps.report import Facts, build_facts, render


def facts_of(sweep: Sweep) -> Facts:
    return build_facts(**sweep.arguments())


def with_group(sweep: Sweep, size: int) -> Sweep:
    """The first ``size`` models share the first ranks."""
    frame = sweep.ranking.frame.copy()
    place = np.arange(1, len(frame) + 1)
    frame["rank_low"] = np.where(place <= size, 1, place)
    frame["rank_high"] = np.where(place <= size, size, place)
    sweep.ranking = replace(sweep.ranking, frame=frame)
    return sweep


def test_a_clear_winner_is_named_with_its_evidence() -> None:
    facts = facts_of(with_group(make_sweep(), 1))
    leader = facts.models[0]
    text = " ".join(facts.verdict["sentences"])
    assert facts.verdict["kind"] == "clear"
    name = f"{leader['architecture']} · {leader['init']}"
    assert facts.verdict["headline"] == f"{name} is the most traceable model."
    assert "significantly ahead of every other model" in text
    assert f"accuracy is {leader['metric']:.3f}" in text
    assert "a trivial predictor 0.101" in text
    assert f"{facts.metric['best_name']}, has {facts.metric['best']:.3f}" in text


def test_the_best_metric_of_all_is_not_compared_with_itself() -> None:
    sweep = with_group(make_sweep(), 1)
    frame = sweep.ranking.frame.copy()
    frame.loc[0, "metric"] = 0.9999
    sweep.ranking = replace(sweep.ranking, frame=frame)
    facts = facts_of(sweep)
    assert facts.metric["best_model"] == facts.models[0]["model_id"]
    assert "the best of all models tried" in facts.verdict["sentences"][-1]


def test_a_tied_group_is_named_as_tied() -> None:
    facts = facts_of(with_group(make_sweep(), 3))
    names = [row["name"] for row in facts.models]
    assert facts.verdict["kind"] == "tied"
    assert facts.verdict["headline"].endswith("scores highest, tied with 2 others.")
    assert f"Tied with it: {names[1]} and {names[2]}." in facts.verdict["sentences"][0]


def test_many_tied_models_are_counted_and_not_all_named() -> None:
    said = facts_of(with_group(make_sweep(), 12)).verdict
    assert "tied with 11 others" in said["headline"]
    assert "and 6 more." in said["sentences"][0]


def test_models_that_cannot_be_told_apart() -> None:
    sweep = with_group(make_sweep(), 24)
    frame = sweep.ranking.frame.assign(p_first=np.nan)
    sweep.ranking = replace(sweep.ranking, frame=frame, omnibus_p=0.41, distinguishable=False)
    facts = facts_of(sweep)
    assert facts.verdict["kind"] == "indistinguishable"
    assert facts.verdict["headline"] == "The 24 models cannot be told apart."
    assert "p = 0.41" in facts.verdict["sentences"][0]
    assert "no probability is given" in facts.verdict["sentences"][1]


def test_models_without_replicates_cannot_be_tested() -> None:
    sweep = make_sweep()
    sweep.ranking = replace(sweep.ranking, omnibus_p=None, distinguishable=False)
    assert "too few replicates" in facts_of(sweep).verdict["sentences"][0]


def test_no_eligible_model_says_why_and_still_makes_a_page() -> None:
    sweep = make_sweep()
    reasons = ["does not beat the trivial baseline"] * 20 + ["FAILED: loss is not finite"] * 10
    sweep.ranking = replace(
        sweep.ranking,
        frame=sweep.ranking.frame.iloc[:0],
        scores=sweep.ranking.scores.iloc[:0],
        leaders=(),
        pareto=(),
        excluded=tuple(
            Exclusion(model_id, reason)
            for model_id, reason in zip(sweep.models["model_id"], reasons, strict=True)
        ),
        omnibus_p=None,
        distinguishable=False,
    )
    facts = facts_of(sweep)
    assert facts.verdict["kind"] == "none"
    assert facts.verdict["headline"] == "No model is eligible, so there is no ranking."
    assert "does not beat the trivial baseline (20)" in facts.verdict["sentences"][0]
    assert "There is nothing to rank." in render(facts)


def test_a_sweep_in_which_nothing_was_tried_makes_a_page() -> None:
    sweep = make_sweep(2)
    ranking = sweep.ranking
    sweep.models, sweep.replicates = sweep.models.iloc[:0], sweep.replicates.iloc[:0]
    sweep.ranking = replace(
        ranking, frame=ranking.frame.iloc[:0], scores=ranking.scores.iloc[:0], leaders=(), pareto=()
    )
    facts = facts_of(sweep)
    assert facts.verdict["headline"] == "There is no model to rank."
    assert "There is nothing to rank." in render(facts)


def test_one_model_has_nothing_to_be_compared_with() -> None:
    facts = facts_of(make_sweep(1))
    assert facts.verdict["kind"] == "one"
    assert "nothing to compare it with" in facts.verdict["sentences"][0]
    assert "1 model ranked" in facts.tally
    assert "the only model" in render(facts)


def test_a_metric_that_is_minimised() -> None:
    facts = facts_of(make_sweep(minimised=True))
    ranked = [row["metric"] for row in facts.models]
    assert facts.metric["best"] == min(ranked)
    assert min(ranked) < facts.metric["floor"] < facts.metric["baseline"]
    assert "cross entropy is" in facts.verdict["sentences"][-1]
    assert "lower is better" in render(facts)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("fixed", "set beforehand"),
        ("std", "spread of the two components"),
        ("cross_validated: fallback", "no α could be supported"),
    ],
)
def test_alpha_says_where_it_came_from(source: str, said: str) -> None:
    sweep = make_sweep()
    sweep.ranking = replace(sweep.ranking, alpha_source=source)
    assert said in facts_of(sweep).alpha_sentence


def test_trials_are_counted_by_what_became_of_them() -> None:
    tally = facts_of(make_sweep()).tally
    assert "38 trials (32 complete, 3 pruned, 2 failed, 1 interrupted)" in tally
    assert "33 trained, 4 replayed" in tally
