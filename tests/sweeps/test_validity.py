"""Rank correlations, their intervals and tests, and what a sweep's validity panel concludes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sweeps.validity import (
    assess,
    association,
    kendall,
    repeatability,
    resampled,
    residual,
    spearman,
    weighted_kendall,
)
from sweeps.validity.association import _signs, _tau
from sweeps.validity.confounding import natural_spline

vectors = st.lists(st.integers(-4, 4), min_size=3, max_size=12)


@given(vectors, st.randoms(use_true_random=False))
def test_kendall_is_scipys_tau_b(values: list[int], random: object) -> None:
    other = list(values)
    random.shuffle(other)  # type: ignore[attr-defined]
    found, expected = kendall(values, other), stats.kendalltau(values, other).statistic
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


def by_pairs(x: list[int], y: list[int], counts: list[int]) -> float:
    """τ-b of a resampled pool, pair by pair, of different models only."""
    drawn = [i for i, count in enumerate(counts) for _ in range(count)]
    balance = tied_x = tied_y = pairs = 0
    for i, j in itertools.combinations(drawn, 2):
        if i == j:
            continue
        pairs += 1
        balance += np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
        tied_x += x[i] == x[j]
        tied_y += y[i] == y[j]
    norm = (pairs - tied_x) * (pairs - tied_y)
    return balance / math.sqrt(norm) if norm else math.nan


@given(st.data())
def test_a_resampled_pool_counts_the_pairs_of_different_models(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 7))
    column = st.lists(st.integers(0, 4), min_size=size, max_size=size)
    x, y, counts = (data.draw(column) for _ in range(3))
    found = _tau(_signs(x), _signs(y), np.array([counts], np.float64))[0]
    assert found == pytest.approx(by_pairs(x, y, counts), abs=1e-12, nan_ok=True)


def test_an_association_does_not_depend_on_scale_or_the_order_of_models() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 30))
    found = association(x, y)
    assert association(np.exp(x), 5 * y - 3) == found
    order = generator.permutation(30)
    moved = association(x[order], y[order])
    assert moved.value == found.value
    assert moved.low == pytest.approx(found.low, abs=0.05)
    assert moved.p_value == found.p_value
    opposite = association(x, -y)
    assert (opposite.value, opposite.low) == pytest.approx((-found.value, -found.high))


def test_the_p_value_is_that_of_all_permutations_of_a_small_pool() -> None:
    x, y = [1, 2, 3, 4, 5], [2, 1, 3, 5, 4]
    everything = [kendall(x, order) for order in itertools.permutations(y)]
    exact = np.mean([abs(tau) >= abs(kendall(x, y)) - 1e-12 for tau in everything])
    assert association(x, y).p_value == pytest.approx(exact)


def test_a_constant_side_has_no_association() -> None:
    found = association([1, 1, 1], [1, 2, 3])
    assert math.isnan(found.value)
    assert found.p_value == 1
    assert math.isnan(kendall([1, 1], [1, 2]))


@pytest.mark.parametrize("values", [[1.0], [[1.0, 2.0]], [1.0, math.nan]])
def test_what_is_no_vector_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match="2 or more finite numbers"):
        kendall(values, values)


def test_the_other_correlations_are_scipys() -> None:
    generator = np.random.default_rng(1)
    x, y = generator.integers(0, 9, size=(2, 25)).astype(float)
    value, low, high = resampled(spearman, x, y, draws=200)
    assert value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert low < value < high
    weighted, _, _ = resampled(weighted_kendall, x, y, draws=2)
    assert weighted == stats.weightedtau(x, y).statistic


def test_intervals_cover() -> None:
    """Of τ = (2/π) arcsin ρ for a normal pair."""
    rho, inside = 0.5, 0
    truth = 2 / math.pi * math.asin(rho)
    for seed in range(200):
        x, e = np.random.default_rng(seed).normal(size=(2, 60))
        found = association(x, rho * x + math.sqrt(1 - rho**2) * e, seed=seed, draws=400)
        inside += found.low <= truth <= found.high
    assert inside >= 180


def test_a_spline_is_natural_and_holds_straight_lines() -> None:
    values = np.sort(np.random.default_rng(2).normal(size=40))
    basis = natural_spline(values, 5)
    assert basis.shape == (40, 4)
    line = np.column_stack([np.ones(40), basis])
    fitted = line @ np.linalg.lstsq(line, 3 * values - 1, rcond=None)[0]
    np.testing.assert_allclose(fitted, 3 * values - 1, atol=1e-9)
    # Beyond the knots it goes on straight: second differences vanish on an even grid.
    even = np.concatenate([np.linspace(0, 1, 30), np.linspace(1, 1, 1)])
    ends = natural_spline(np.concatenate([even, even]), 5)
    assert np.linalg.matrix_rank(ends) == 4


def test_a_residual_is_that_of_a_plain_regression() -> None:
    generator = np.random.default_rng(3)
    z = generator.integers(0, 2, 40)
    x, y = generator.normal(size=(2, 40)) + z
    ranks = [stats.rankdata(side) for side in (x, y)]
    left = [side - np.where(z, side[z == 1].mean(), side[z == 0].mean()) for side in ranks]
    found = residual(x, y, [z])
    assert found.value == pytest.approx(np.corrcoef(left)[0, 1])
    assert found.explained == pytest.approx(1 - left[0].var() / ranks[0].var())
    same = residual(np.exp(x), y**3, [1 - z])
    assert (same.value, same.p_value) == pytest.approx((found.value, found.p_value))


def test_a_residual_without_confounders_is_spearmans() -> None:
    x, y = np.random.default_rng(4).normal(size=(2, 30))
    assert residual(x, y, []).value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert residual(x, y, [np.ones(30)]) == residual(x, y, [])


def test_what_confounders_determine_leaves_nothing() -> None:
    z = np.linspace(0, 1, 30)
    found = residual(z, np.random.default_rng(5).normal(size=30), [z])
    assert math.isnan(found.value)
    assert math.isnan(found.p_value)
    assert found.explained == pytest.approx(1)
    assert math.isnan(residual(z[:6], z[:6] ** 2, [np.random.default_rng(6).normal(size=6)]).value)


def planted(kind: str, seed: int) -> dict[str, object]:
    """60 models whose learning rates move what they can."""
    generator = np.random.default_rng([seed, 77])
    rate = generator.uniform(math.log(3e-3), math.log(0.3), 60)
    z = (rate - rate.mean()) / rate.std()
    noise = generator.normal(size=(2, 60))
    if kind == "chance":
        score, performance = noise[0], np.tanh(z) - 0.5 * z**2 + 0.5 * noise[1]
    elif kind == "informative":
        score = noise[0] - 0.5 * z
        performance = score + 0.5 * noise[1]
    else:
        score, performance = 0.4 * noise[0] - np.tanh(1.5 * z), np.sin(z) + 0.4 * noise[1]
    return {"score": score, "performance": performance, "confounders": {"learning_rate": rate}}


@pytest.mark.parametrize("kind", ["chance", "informative", "explained"])
def test_planted_pools_get_the_right_verdict(kind: str) -> None:
    found = [assess(**planted(kind, seed), seed=seed).verdict for seed in range(100)]  # type: ignore[arg-type]
    assert found.count(kind) >= 95, found


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_no_verdict_depends_on_which_model_stands_first(seed: int) -> None:
    pool = planted("informative", seed)
    order = np.random.default_rng(seed).permutation(60)
    moved = {
        "score": np.asarray(pool["score"])[order],
        "performance": np.asarray(pool["performance"])[order],
        "confounders": {"learning_rate": np.asarray(pool["confounders"]["learning_rate"])[order]},  # type: ignore[index]
    }
    assert assess(**moved).verdict == assess(**pool).verdict == "informative"  # type: ignore[arg-type]


def test_a_small_pool_has_straighter_confounders_or_none() -> None:
    generator = np.random.default_rng(8)
    rate, decay, size, score = generator.normal(size=(4, 13))
    given = {"learning_rate": rate, "weight_decay": decay}
    # 13 models carry three terms: a constant, and a straight line for each of the two.
    columns = [np.ones(13), stats.rankdata(score)]
    found = residual(score, score, [rate, decay])
    line = np.column_stack([columns[0], rate, decay])
    left = columns[1] - line @ np.linalg.lstsq(line, columns[1], rcond=None)[0]
    assert found.explained == pytest.approx(1 - left.var() / columns[1].var())
    assert assess(score, score, confounders=given).verdict == "informative"
    assert assess(score, score, confounders=given | {"size": size}).verdict == "untested"


def test_few_models_are_not_assessed() -> None:
    found = assess(range(7), range(7), trivial={"size": range(7)})
    assert found.verdict == "few"
    assert not found.beside
    assert assess(range(8), range(8)).verdict == "informative"


def test_repeatability_is_the_mean_over_pairs_of_seeds() -> None:
    seeds = [[1, 2, 3, 4], [1, 2, 4, 3], [4, 3, 2, 1]]
    expected = np.mean([kendall(a, b) for a, b in itertools.combinations(seeds, 2)])
    assert repeatability(seeds) == pytest.approx(expected)
    assert math.isnan(repeatability(seeds[:1]))
