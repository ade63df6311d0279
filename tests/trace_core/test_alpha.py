"""α over a pool: oracles are brute force in fractions, dense grids and hand-worked cases."""

import itertools
from fractions import Fraction
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from scipy.stats import t as student

from trace_core.alpha import (
    PairSweep,
    breakpoints,
    common_alpha,
    entropy_alpha,
    leaders,
    leave_pair_out,
    parse_alpha,
    rank_steps,
    share_first,
    std_alpha,
)
from trace_core.alpha_fit import _student_quantile
from trace_core.errors import TraceError

# Eighths tie often, so that equal lines, shared crossings and equal metrics all occur.
eighths = st.integers(0, 8).map(lambda n: n / 8)
unhurried = settings(deadline=None, max_examples=60)
anything = st.floats(0, 1, allow_subnormal=True)


def pools(values, least=2, most=7, columns=3):
    return st.integers(least, most).flatmap(
        lambda m: st.tuples(*[st.lists(values, min_size=m, max_size=m)] * columns)
    )


def score(s, e, alpha):
    return alpha * Fraction(s) + (1 - alpha) * Fraction(e)


def sign(x):
    return int(x > 0) - int(x < 0)


def brute_breakpoints(S, E):
    found = set()
    for i, j in itertools.combinations(range(len(S)), 2):
        ds, de = Fraction(S[i]) - Fraction(S[j]), Fraction(E[i]) - Fraction(E[j])
        if ds != de:
            alpha = de / (de - ds)
            if 0 < alpha < 1:
                found.add(alpha)
    return sorted(found)


def squared_tau(S, E, metric, alpha):
    """τ-b times its own absolute value: rational, and ordered as τ-b is."""
    balance = scored = measured = 0
    for i, j in itertools.combinations(range(len(S)), 2):
        x = sign(score(S[i], E[i], alpha) - score(S[j], E[j], alpha))
        y = sign(metric[i] - metric[j])
        balance, scored, measured = balance + x * y, scored + x * x, measured + y * y
    return Fraction(balance * abs(balance), scored * measured) if scored * measured else Fraction(0)


def brute_best(S, E, metric):
    points = [Fraction(0), *brute_breakpoints(S, E), Fraction(1)]
    rows = [
        (squared_tau(S, E, metric, (a + b) / 2), b - a, -a, a, b)
        for a, b in itertools.pairwise(points)
    ]
    return max(rows)[3:]


@unhurried
@given(pools(eighths, columns=2) | pools(anything, columns=2))
def test_breakpoints_are_those_of_all_pairs_in_exact_arithmetic(pool):
    assert breakpoints(*pool) == brute_breakpoints(*pool)


@unhurried
@given(pools(eighths) | pools(anything))
def test_best_interval_is_that_of_brute_force(pool):
    S, E, metric = pool
    fit = PairSweep(S, E, metric).fit()
    assert (fit.start, fit.stop) == brute_best(S, E, metric)
    assert fit.alpha == (fit.start + fit.stop) / 2


@unhurried
@given(pools(eighths, least=4))
def test_refit_without_a_pair_equals_a_fit_of_the_others(pool):
    S, E, metric = pool
    sweep = PairSweep(S, E, metric)
    for i, j in itertools.combinations(range(len(S)), 2):
        kept = [k for k in range(len(S)) if k not in (i, j)]
        expected = brute_best(*([column[k] for k in kept] for column in pool))
        assert sweep.best(without=(i, j))[:2] == expected


@unhurried
@given(pools(eighths) | pools(anything))
def test_order_of_a_pair_is_exact_at_any_alpha(pool):
    S, E, metric = pool
    sweep = PairSweep(S, E, metric)
    for alpha in [Fraction(1, 3), Fraction(1, 2), *breakpoints(S, E)]:
        for i, j in itertools.permutations(range(len(S)), 2):
            expected = sign(score(S[i], E[i], alpha) - score(S[j], E[j], alpha))
            assert sweep.order_at(alpha, i, j) == expected


def test_no_alpha_of_a_dense_grid_beats_the_enumerated_best():
    rng = np.random.default_rng(0)
    for _ in range(10):
        S, E, metric = rng.random((3, 12)).round(2)
        fit = PairSweep(S, E, metric).fit()
        for alpha in np.linspace(0, 1, 501)[1:-1] + 1e-5:
            grid = kendalltau(alpha * S + (1 - alpha) * E, metric).statistic
            assert grid <= fit.tau + 1e-12
        at_best = kendalltau(float(fit.alpha) * S + (1 - float(fit.alpha)) * E, metric).statistic
        assert at_best == pytest.approx(fit.tau)


def test_of_equal_widths_the_lowest_interval_is_taken():
    # The lines swap at 1/2; the metric is the same for both, so both halves are as good.
    fit = PairSweep([0.0, 1.0], [1.0, 0.0], [0.5, 0.5]).fit()
    assert (fit.start, fit.stop, fit.alpha) == (0, Fraction(1, 2), Fraction(1, 4))
    assert fit.tau is None


def test_widths_that_are_equal_in_floats_are_told_apart():
    almost = 1 - 2.0**-53
    assert PairSweep([0.0, 1.0], [almost, 0.0], [0.5, 0.5]).fit().stop == 1
    assert PairSweep([0.0, almost], [1.0, 0.0], [0.5, 0.5]).fit().start == 0


def test_of_equal_taus_the_widest_interval_is_taken():
    # Models 0 and 1 tie in the metric and swap at 3/4; below it the interval is wider.
    fit = PairSweep([1.0, 0.9, 0.0], [0.5, 0.8, 0.0], [1.0, 1.0, 0.0]).fit()
    assert (fit.start, fit.stop) == (0, breakpoints([1.0, 0.9], [0.5, 0.8])[0])


def test_a_crossing_itself_may_have_a_higher_tau_and_is_no_candidate():
    # Models 0 and 1 tie in the metric: where they cross, one pair fewer is untied in score.
    S, E, metric = [1.0, 0.75, 0.0], [0.5, 0.75, 0.0], [1.0, 1.0, 0.0]
    sweep = PairSweep(S, E, metric)
    assert sweep.points == [0, Fraction(1, 2), 1]
    assert sweep.balances().tolist() == [2, 2]
    assert sweep.fit().tau == pytest.approx(2 / sqrt(3 * 2))
    assert squared_tau(S, E, metric, Fraction(1, 2)) == 1


def test_an_end_itself_may_have_a_higher_balance_and_is_no_candidate():
    # Models 0 and 1 tie in explainability, and every α above 0 orders them against the metric.
    S, E, metric = [0.5, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 2.0]
    sweep = PairSweep(S, E, metric)
    assert sweep.points == [0, 1]
    assert sweep.balances().tolist() == [1]
    assert squared_tau(S, E, metric, 0) == Fraction(2 * 2, 2 * 3)
    assert sweep.fit().tau == pytest.approx(1 / 3)


def test_evidence_agrees_with_a_slow_leave_pair_out():
    rng = np.random.default_rng(1)
    S, E, metric, test = rng.random((4, 9)).round(1)
    evidence = leave_pair_out(PairSweep(S, E, metric), test)
    outcome = {}
    for i, j in itertools.combinations(range(9), 2):
        if test[i] == test[j]:
            continue
        kept = [k for k in range(9) if k not in (i, j)]
        start, stop = brute_best(S[kept], E[kept], metric[kept])
        alpha = (start + stop) / 2
        outcome[i, j] = sign(score(S[i], E[i], alpha) - score(S[j], E[j], alpha)) * sign(
            test[i] - test[j]
        )
    assert evidence.pairs == len(outcome)
    assert evidence.concordance == pytest.approx(np.mean(list(outcome.values())))
    dropped = [np.mean([v for pair, v in outcome.items() if m not in pair]) for m in range(9)]
    error = sqrt(8 / 9 * np.sum((dropped - np.mean(dropped)) ** 2))
    half = student.ppf(0.975, 8) * error
    assert evidence.high - evidence.concordance == pytest.approx(half, rel=1e-3)


def test_student_quantile():
    for freedom in (15, 19, 59, 299):
        expected = student.ppf(0.975, freedom)
        assert _student_quantile(0.975, freedom) == pytest.approx(expected, abs=1e-4)


def informative_pool(models, seed=0):
    rng = np.random.default_rng(seed)
    S, E = rng.random((2, models))
    validation = 0.7 * S + 0.3 * E + 0.05 * rng.random(models)
    return S, E, validation, validation + 0.05 * rng.random(models)


def test_cross_validated_keeps_an_alpha_that_carries_over():
    S, E, validation, test = informative_pool(60)
    choice = common_alpha("cross_validated", S, E, validation=validation, test=test)
    assert choice.source == "cross_validated"
    assert choice.depends_on_pool
    assert choice.alpha == pytest.approx(0.7, abs=0.1)
    assert choice.evidence.low > 0


def test_cross_validated_falls_back_without_evidence():
    rng = np.random.default_rng(3)
    S, E, validation, test = rng.random((4, 30))
    choice = common_alpha("cross_validated", S, E, validation=validation, test=test)
    assert choice.alpha == 0.5
    assert choice.source == "cross_validated: fallback"
    assert "includes 0" in choice.note
    assert choice.evidence.low <= 0 <= choice.evidence.high


def test_cross_validated_falls_back_when_it_runs_against_the_test_metric():
    S, E, validation, test = informative_pool(40)
    choice = common_alpha("cross_validated", S, E, validation=validation, test=-test)
    assert choice.alpha == 0.5
    assert "against" in choice.note


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda S, E, v, t: (S[:19], E[:19], v[:19], t[:19]), "19 eligible models are too few"),
        (lambda S, E, v, t: (S, E, v, np.where(t == t[0], np.nan, t)), "test metric of some"),
        (lambda S, E, v, t: (S, E, np.where(v == v[0], np.nan, v), t), "validation metric of some"),
        (lambda S, E, v, t: (S, E, v, 0 * t), "nothing to fit"),
        (lambda S, E, v, t: (S, E, 0 * v, t), "nothing to fit"),
        (lambda S, E, v, t: (0 * S, 0 * E, v, t), "nothing to fit"),
    ],
)
def test_cross_validated_says_why_it_cannot_be_made(change, reason):
    S, E, validation, test = change(*informative_pool(25))
    choice = common_alpha("cross_validated", S, E, validation=validation, test=test)
    assert (choice.alpha, choice.depends_on_pool) == (0.5, False)
    assert reason in choice.note


def test_twenty_models_are_enough_for_cross_validated():
    S, E, validation, test = informative_pool(20)
    choice = common_alpha("cross_validated", S, E, validation=validation, test=test)
    assert choice.source == "cross_validated"


def test_cross_validated_falls_back_where_floats_cannot_hold_the_best_alpha():
    # 0.1 is no binary fraction: lines that cross together in decimals cross 1e-17 apart or less.
    rng = np.random.default_rng(20)
    S, E = rng.random((2, 40)).round(1)
    validation = 0.5 * S + 0.5 * E + 0.05 * rng.random(40)
    test = validation + 0.05 * rng.random(40)
    choice = common_alpha("cross_validated", S, E, validation=validation, test=test)
    assert not choice.fit.start < Fraction(float(choice.fit.alpha)) < choice.fit.stop
    assert choice.evidence.low > 0
    assert (choice.alpha, choice.source) == (0.5, "cross_validated: fallback")
    assert "too close for scores in floats" in choice.note


def test_evidence_says_nothing_against_another_alpha():
    rng = np.random.default_rng(0)
    quality = rng.random(30)
    S, E, validation, test = quality + 0.2 * rng.standard_normal((4, 30))
    choice = common_alpha("cross_validated", S, E, validation=validation, test=test)
    order = np.sign(np.subtract.outer(S + E, S + E) * np.subtract.outer(test, test))
    assert choice.source == "cross_validated"
    assert order[np.triu_indices(30, 1)].mean() > choice.evidence.low


def test_cross_validated_needs_both_metrics():
    with pytest.raises(TraceError, match="needs the validation and the test metric"):
        common_alpha("cross_validated", [0.1, 0.2], [0.1, 0.2])


@unhurried
@given(pools(eighths, least=1, columns=2) | pools(anything, least=1, columns=2))
def test_leaders_are_the_best_wherever_they_lead(pool):
    S, E = pool
    spans = leaders(S, E)
    assert spans[0].start == 0
    assert spans[-1].stop == 1
    assert all(a.stop == b.start for a, b in itertools.pairwise(spans))
    assert all(a.models != b.models for a, b in itertools.pairwise(spans))
    for span in spans:
        assert span.start < span.stop
        for alpha in (span.start, (2 * span.start + span.stop) / 3, span.stop):
            scores = [score(s, e, alpha) for s, e in zip(S, E, strict=True)]
            assert all(scores[model] == max(scores) for model in span.models)
        middle = (span.start + span.stop) / 2
        scores = [score(s, e, middle) for s, e in zip(S, E, strict=True)]
        assert span.models == tuple(i for i, x in enumerate(scores) if x == max(scores))


def test_share_first_agrees_with_a_dense_grid():
    rng = np.random.default_rng(2)
    S, E = rng.random((2, 8))
    grid = (np.arange(100_000) + 0.5)[:, None] / 100_000
    winners = np.argmax(grid * S + (1 - grid) * E, axis=1)
    expected = np.bincount(winners, minlength=8) / 100_000
    assert share_first(S, E) == pytest.approx(expected, abs=1e-4)


def test_share_first_is_split_between_identical_models():
    shares = share_first([0.9, 0.1, 0.9, 0.1], [0.1, 0.9, 0.1, 0.2])
    assert shares.sum() == pytest.approx(1)
    assert (
        shares[0] == shares[2] == pytest.approx(0.5 * (1 - breakpoints([0.9, 0.1], [0.1, 0.9])[0]))
    )
    assert shares[3] == 0
    assert share_first([], []).shape == (0,)


@unhurried
@given(pools(eighths, least=1, columns=2))
def test_rank_steps_are_the_ranks_between_the_steps(pool):
    S, E = pool
    for model in range(len(S)):
        steps = rank_steps(S, E, model)
        assert (steps[0][0], steps[-1][1]) == (0.0, 1.0)
        assert all(a[1] == b[0] and a[2] != b[2] for a, b in itertools.pairwise(steps))
        for start, stop, rank in steps:
            middle = Fraction(start + (stop - start) * 0.4987)
            scores = [score(s, e, middle) for s, e in zip(S, E, strict=True)]
            assert rank == 1 + sum(x > scores[model] for x in scores)


def test_std_alpha_by_hand():
    # Min–max-normalised: (0, 1/2, 1) with deviation sqrt(1/6), (0, 0, 1) with sqrt(2/9).
    expected = sqrt(1 / 6) / (sqrt(1 / 6) + sqrt(2 / 9))
    assert std_alpha([0.2, 0.4, 0.6], [0.1, 0.1, 0.9]) == pytest.approx(expected)


def test_entropy_alpha_by_hand():
    # Shares (0, 1/3, 2/3) and (0, 0, 1).
    first = 1 - (log(3) / 3 + 2 / 3 * log(3 / 2)) / log(3)
    assert entropy_alpha([0.2, 0.4, 0.6], [0.1, 0.1, 0.9]) == pytest.approx(first / (first + 1))


@pytest.mark.parametrize("formula", [std_alpha, entropy_alpha])
def test_constant_components_weigh_nothing(formula):
    varied, constant = [0.1, 0.4, 0.2], [0.3, 0.3, 0.3]
    assert formula(varied, constant) == 1
    assert formula(constant, varied) == 0
    assert formula(constant, constant) == 0.5
    assert formula([0.1], [0.2]) == 0.5


def test_critic_of_two_criteria_is_std_alpha():
    components = np.random.default_rng(4).random((2, 9))
    low, high = components.min(axis=1), components.max(axis=1)
    scaled = (components - low[:, None]) / (high - low)[:, None]
    information = scaled.std(axis=1) * (1 - np.corrcoef(scaled)).sum(axis=1)
    assert std_alpha(*components) == pytest.approx(information[0] / information.sum())


@pytest.mark.parametrize("formula", [std_alpha, entropy_alpha])
def test_rounding_is_no_spread(formula):
    # Hoyer's index of equal importances is 0, or 2e-16 in a model of another size.
    assert formula([0.1, 0.4, 0.2], [0.0, 1.9e-16, 0.0]) == 1
    assert formula([0.1, 0.4, 0.2], [0.3, 0.3, 0.3 + 1e-12]) < 0.6


@pytest.mark.parametrize("scheme", ["std", "entropy"])
def test_a_model_that_joins_last_may_turn_the_order_of_the_others(scheme):
    S, E = np.array([0.80, 0.60, 0.70]), np.array([0.40, 0.59, 0.40])
    two, three = (common_alpha(scheme, S[:m], E[:m]).alpha for m in (2, 3))
    assert two * S[0] + (1 - two) * E[0] > two * S[1] + (1 - two) * E[1]
    scores = three * S + (1 - three) * E
    assert scores[1] > scores[0] > scores[2]


@pytest.mark.parametrize("formula", [std_alpha, entropy_alpha])
def test_many_pools_at_once(formula):
    S, E = np.random.default_rng(0).random((2, 5, 7))
    assert formula(S, E) == pytest.approx([float(formula(s, e)) for s, e in zip(S, E, strict=True)])


def test_common_alpha_of_the_simple_schemes():
    S, E = [0.2, 0.4, 0.6], [0.1, 0.1, 0.9]
    assert common_alpha("0.25", S, E).alpha == 0.25
    assert common_alpha(1, S, E).source == "fixed"
    for scheme, formula in (("std", std_alpha), ("entropy", entropy_alpha)):
        choice = common_alpha(scheme, S, E)
        assert (choice.alpha, choice.source) == (float(formula(S, E)), scheme)
        assert "pool" in choice.note
        assert common_alpha(scheme, [], []).alpha == 0.5


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), "critic", "nan", ""])
def test_a_wrong_alpha_names_the_valid_ones(bad):
    with pytest.raises(TraceError, match="a number from 0 to 1, or one of std, entropy"):
        parse_alpha(bad)


def test_wrong_components_are_refused():
    with pytest.raises(TraceError, match="explainability must be a vector of 2 values"):
        leaders([0.1, 0.2], [0.1])
    with pytest.raises(TraceError, match="stability must be a vector, one per model"):
        leaders([[0.1, 0.2]], [[0.1, 0.2]])
    with pytest.raises(TraceError, match="stability must be finite; at position 1 it is nan"):
        breakpoints([0.1, float("nan")], [0.1, 0.2])


def test_wrong_metrics_are_refused_by_their_name():
    S, E = [0.1, 0.2, 0.4], [0.2, 0.1, 0.1]
    with pytest.raises(TraceError, match="the metric that α is fitted to must be a vector of 3"):
        PairSweep(S, E, [1.0, 2.0])
    with pytest.raises(TraceError, match="the test metric must be finite; at position 2 it is inf"):
        leave_pair_out(PairSweep(S, E, [1.0, 2.0, 3.0]), [1.0, 2.0, float("inf")])
