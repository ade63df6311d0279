"""Simultaneous comparisons: against scipy, a slow direct version, and simulation."""

import itertools
from math import sqrt

import numpy as np
import pytest
from scipy.stats import f_oneway, levene, studentized_range, tukey_hsd

from sweeps.ranking.over_alpha import GRID, MOST_MODELS, intervals_over_alpha
from sweeps.ranking.rank_intervals import (
    brown_forsythe_p_value,
    games_howell,
    omnibus_p_value,
    rank_intervals,
    smallest_p_value,
    tukey_kramer,
)
from sweeps.ranking.studentized_range import critical_values, interpolated_critical_values


@pytest.mark.parametrize(
    ("groups", "freedom"), [(2, 1), (2, 5), (3, 6), (20, 40), (100, 3), (300, 2), (300, 600)]
)
def test_critical_values_are_scipys(groups, freedom):
    expected = studentized_range.ppf(0.95, groups, freedom)
    assert float(critical_values(groups, freedom)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("groups", [3, 40, 300])
def test_interpolated_critical_values(groups):
    freedom = np.array([[1.0, 1.3, 2.2], [4.1, 17.0, 500.0]])
    direct = critical_values(groups, freedom.ravel()).reshape(freedom.shape)
    assert interpolated_critical_values(groups, freedom) == pytest.approx(direct, rel=1e-4)
    usual = np.linspace(2, 20, 7)
    direct = critical_values(groups, usual)
    assert interpolated_critical_values(groups, usual) == pytest.approx(direct, rel=1e-5)


def spread_groups(seed, sizes, deviations):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(rng.normal(), deviation, size)
        for size, deviation in zip(sizes, deviations, strict=True)
    ]


@pytest.mark.parametrize("sizes", [(3, 3, 3), (3, 5, 4, 8), (2, 2, 2, 2)])
def test_tukey_kramer_agrees_with_scipy(sizes):
    for seed in range(5):
        groups = spread_groups(seed, sizes, [0.3] * len(sizes))
        expected = tukey_hsd(*groups)
        significant = (expected.pvalue <= 0.05) & (expected.statistic > 0)
        assert (tukey_kramer(groups) == significant).all()


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_of_groups_of_one_size_are_those_of_all_pairs(size):
    rng = np.random.default_rng(size)
    differing = 0
    for models in (2, 3, 40, 400):
        for decimals in (1, 8):
            # Rounded, means are equal here and there, and some differ by the least difference.
            centres = np.repeat(rng.normal(0, 3, models)[:, None], size, axis=1)
            groups = list(np.round(centres + rng.normal(0, 0.2, (models, size)), decimals))
            found = rank_intervals(groups, 0)
            if found.method == "tukey" and found.distinguishable:
                better = tukey_kramer(groups)
                assert (found.low == 1 + better.sum(axis=0)).all()
                assert (found.high == models - better.sum(axis=1)).all()
                differing += bool(better.any())
    assert differing > 2


def test_games_howell_agrees_with_a_direct_version():
    differing = 0
    for seed in range(8):
        groups = spread_groups(seed, (3, 5, 4, 6), (0.05, 0.4, 0.1, 0.3))
        found = games_howell(groups)
        for i, j in itertools.permutations(range(4), 2):
            a, b = (groups[k].var(ddof=1) / len(groups[k]) for k in (i, j))
            na, nb = len(groups[i]), len(groups[j])
            freedom = (a + b) ** 2 / (a**2 / (na - 1) + b**2 / (nb - 1))
            q = (groups[i].mean() - groups[j].mean()) / sqrt((a + b) / 2)
            assert found[i, j] == (studentized_range.sf(q, 4, freedom) <= 0.05 and q > 0)
        differing += (found != tukey_kramer(groups)).any()
    assert differing


def test_brown_forsythe_is_scipys_for_even_sizes():
    groups = spread_groups(0, (4, 6, 8), (0.1, 0.2, 0.3))
    expected = levene(*groups, center="median").pvalue
    assert brown_forsythe_p_value(groups) == pytest.approx(expected)


def test_brown_forsythe_leaves_the_structural_zero_out():
    groups = spread_groups(0, (3, 5, 7), (0.1, 0.2, 0.3))
    distances = [np.sort(np.abs(group - np.median(group)))[1:] for group in groups]
    assert brown_forsythe_p_value(groups) == pytest.approx(f_oneway(*distances).pvalue)


def test_brown_forsythe_of_degenerate_groups():
    assert brown_forsythe_p_value([np.ones(3), np.ones(3)]) == 1
    assert brown_forsythe_p_value([np.ones(2), np.arange(2.0)]) is None
    assert brown_forsythe_p_value([np.ones(3), np.array([0.0, 1.0, 2.0])]) == 0


def test_three_replicates_can_show_unequal_variances():
    rng = np.random.default_rng(0)
    found = sum(
        brown_forsythe_p_value([scale * rng.normal(size=3) for scale in (10, 1, 1, 1, 1)]) <= 0.05
        for _ in range(200)
    )
    assert found > 40


def test_omnibus_p_value_is_exact_on_a_small_layout():
    groups = [np.array([0.1, 0.4, 0.5]), np.array([0.45, 0.9, 0.8])]
    values = np.concatenate(groups)
    observed = abs(groups[0].mean() - groups[1].mean())
    splits = [
        abs(values[list(chosen)].mean() - np.delete(values, chosen).mean())
        for chosen in itertools.combinations(range(6), 3)
    ]
    exact = np.mean(np.array(splits) >= observed - 1e-12)
    assert omnibus_p_value(groups, 0, 20_000) == pytest.approx(exact, abs=0.015)


def test_omnibus_of_pairs_counts_the_permutations_of_their_sums():
    rng = np.random.default_rng(3)
    pairs = rng.normal(size=(9, 2)) + rng.normal(size=(9, 1))
    centred = pairs.ravel() - pairs.mean()
    drawn = np.random.default_rng(0).permuted(np.tile(centred, (999, 1)), axis=1)
    between = (drawn.reshape(999, 9, 2).sum(axis=2) ** 2).sum(axis=1)
    observed = (centred.reshape(9, 2).sum(axis=1) ** 2).sum()
    expected = (1 + np.count_nonzero(between >= observed - 1e-9)) / 1000
    assert omnibus_p_value(list(pairs), 0, 999) == pytest.approx(expected)


def test_omnibus_p_values_are_uniform_without_differences():
    rng = np.random.default_rng(0)
    found = [omnibus_p_value(list(rng.normal(size=(6, 3))), 0, 399) for _ in range(400)]
    for level in (0.05, 0.25, 0.5, 0.75):
        # Four standard errors of a proportion over 400 draws.
        assert np.mean(np.array(found) <= level) == pytest.approx(
            level, abs=4 * sqrt(level * (1 - level) / 400)
        )


def test_omnibus_of_constant_values():
    assert omnibus_p_value([np.full(3, 0.1), np.full(3, 0.1)], 0) == 1


@pytest.mark.parametrize(
    ("sizes", "expected"), [([3, 3], 0.1), ([2, 2, 2], 1 / 15), ([4, 4], 2 / 70), ([1, 3], 0.25)]
)
def test_smallest_p_value_that_relabelling_allows(sizes, expected):
    assert smallest_p_value(sizes) == pytest.approx(expected)


def test_equal_models_keep_full_intervals():
    rng = np.random.default_rng(0)
    draws = 300
    full = 0
    for seed in range(draws):
        found = rank_intervals(list(rng.normal(size=(20, 3))), seed)
        full += bool((found.low == 1).all() and (found.high == 20).all())
    assert full / draws >= 0.9


def test_clear_differences_are_ranked_surely():
    groups = [level + np.array([-0.01, 0.0, 0.01]) for level in (0.2, 0.9, 0.5, 0.51)]
    found = rank_intervals(groups, 0)
    assert found.distinguishable
    assert found.low.tolist() == [4, 1, 2, 2]
    assert found.high.tolist() == [4, 1, 3, 3]


@pytest.mark.parametrize("deviations", [[0.2] * 8, [0.01] * 6 + [1.0] * 2])
def test_the_interval_holds_the_rank_of_the_mean(deviations):
    for seed in range(20):
        groups = spread_groups(seed, [4] * 8, deviations)
        found = rank_intervals(groups, seed)
        ranks = np.empty(8, dtype=int)
        ranks[np.argsort([-group.mean() for group in groups])] = np.arange(1, 9)
        assert (found.low <= ranks).all()
        assert (ranks <= found.high).all()


def test_unequal_variances_are_compared_by_games_howell():
    groups = spread_groups(0, [6] * 6, [0.001, 0.001, 0.001, 0.001, 3, 3])
    assert rank_intervals(groups, 0).method == "games-howell"
    assert rank_intervals(spread_groups(0, [6] * 6, [0.1] * 6), 0).method == "tukey"


def test_models_without_spread_are_told_apart_exactly():
    found = rank_intervals([np.full(3, 0.1), np.full(3, 0.3), np.full(3, 0.3)], 0)
    assert found.low.tolist() == [3, 1, 1]
    assert found.high.tolist() == [3, 2, 2]
    groups = [np.full(3, 0.1), np.full(3, 0.3), np.full(3, 0.5), np.array([5.0, 5.5, 6.0])]
    assert games_howell(groups)[1, 0]
    assert not games_howell(groups)[0, 1]


def test_one_replicate_bounds_nothing():
    found = rank_intervals([np.array([0.1]), np.array([0.2]), np.array([0.9])], 0)
    assert found.low.tolist() == [1, 1, 1]
    assert found.high.tolist() == [3, 3, 3]
    assert (found.method, found.p_value, found.distinguishable) == ("none", None, False)
    assert rank_intervals([], 0).low.tolist() == []


@pytest.mark.parametrize("seed", range(6))
def test_intervals_over_alpha_are_those_of_each_alpha(seed):
    rng = np.random.default_rng(seed)
    parts = []
    for model in range((1, 2, 5, 12, 20, 9)[seed]):
        replicates = int(rng.integers(2, 5)) if seed == 2 else 3
        spread = 0.02 * (1 + 9 * (seed == 4 and model % 4 == 0))
        centre = 0.6 if seed == 5 else rng.uniform(0.5, 0.7, 2)
        parts.append(rng.normal(centre, spread, (replicates, 2)))
    if seed == 3:
        parts[1] = parts[0].copy()
    found = intervals_over_alpha(parts, seed)
    assert len(found) == 101
    for alpha, each in list(zip(GRID, found, strict=True))[:: 1 if len(parts) < 6 else 20]:
        expected = rank_intervals([part @ [alpha, 1 - alpha] for part in parts], seed)
        np.testing.assert_array_equal(each.low, expected.low)
        np.testing.assert_array_equal(each.high, expected.high)
        assert (each.p_value, each.method) == (expected.p_value, expected.method)


def test_intervals_over_alpha_of_models_without_any_spread():
    same = [np.full((3, 2), 0.5)] * 4
    assert all(each.p_value == 1 for each in intervals_over_alpha(same, 0))
    alone = intervals_over_alpha([np.array([[0.1, 0.2]]), np.array([[0.3, 0.1]])], 0)
    assert {each.method for each in alone} == {"none"}
    assert intervals_over_alpha([same[0]] * (MOST_MODELS + 1), 0) == []
