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
    residual,
)
from sweeps.validity.association import _tau, associations
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
    first, second = np.array([x, y], np.float64)
    found = _tau(first, second, np.array([counts], np.float64))[0]
    assert found == pytest.approx(by_pairs(x, y, counts), abs=1e-12, nan_ok=True)


def test_several_sides_are_associated_as_each_alone() -> None:
    rng = np.random.default_rng(4)
    target = rng.normal(size=30)
    # One is constant, one has ties.
    sides = [rng.normal(size=30), np.ones(30), np.round(target), target]
    together = associations(sides, target, seed=3, draws=50)
    alone = [association(each, target, seed=3, draws=50) for each in sides]
    assert [repr(each) for each in together] == [repr(each) for each in alone]


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
    # Natural: it bends at neither end, as a plain cubic would.
    grid = natural_spline(np.linspace(0, 1, 2001), 5)
    bends = np.diff(grid, n=2, axis=0) * 2000**2
    assert abs(bends[1000]).max() > 0.5
    np.testing.assert_allclose(bends[[0, -1]], 0, atol=0.05)


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
    rate, decay, size, score = generator.normal(size=(4, 20))
    given = {"learning_rate": rate, "weight_decay": decay}
    # 20 models carry five terms: a constant, and two for each spline of three knots.
    ranks = stats.rankdata(score)
    terms = [np.ones((20, 1)), natural_spline(rate, 3), natural_spline(decay, 3)]
    design = np.concatenate(terms, axis=1)
    left = ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]
    found = residual(score, score, [rate, decay])
    assert found.explained == pytest.approx(1 - left.var() / ranks.var())
    assert assess(score, score, confounders=given).verdict == "informative"
    assert assess(score, score, confounders=given | {"size": size}).verdict == "untested"


@pytest.mark.parametrize("models", [12, 16, 27])
def test_a_rate_that_is_best_in_the_middle_informs_no_small_pool(models: int) -> None:
    verdicts = []
    for seed in range(60):
        generator = np.random.default_rng([seed, models])
        rate = generator.uniform(-1, 1, models)
        sides = -3 * rate**2 + 0.4 * generator.normal(size=(2, models))
        others = dict(enumerate(generator.normal(size=(2, models))))
        given = {"learning_rate": rate} | (
            {str(k): v for k, v in others.items()} if models > 20 else {}
        )
        verdicts.append(assess(*sides, confounders=given, seed=seed).verdict)
    assert verdicts.count("informative") <= 6, verdicts


def test_what_goes_the_other_way_given_the_settings_is_called_so() -> None:
    generator = np.random.default_rng(9)
    rate, noise, other = generator.normal(size=(3, 60))
    score, performance = rate + 0.4 * noise, 3 * rate - noise + 0.2 * other
    found = assess(score, performance, confounders={"learning_rate": rate})
    assert found.score.value > 0.5
    assert found.left.value < -0.5
    assert found.verdict == "reversed"


def test_a_score_that_a_setting_determines_is_explained_by_it() -> None:
    rate = np.linspace(-3, -1, 60)
    performance = -rate + 0.1 * np.random.default_rng(10).normal(size=60)
    assert assess(-rate, performance, confounders={"learning_rate": rate}).verdict == "explained"


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
