"""Change points against slow oracles, and on made-up series whose changes are known."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from trace_core.change_points import (
    BLOCKS,
    LEAST,
    SHORTEST,
    change_points,
    segment_costs,
    split,
    variances,
)


def walk(seed, length=200, noise=0.1, drift=0.02):
    """A level that drifts, and noise: (1, length)."""
    random = np.random.default_rng(seed)
    level = np.cumsum(drift * random.standard_normal(length))
    return (level + noise * random.standard_normal(length))[None]


def jumping(seed, at, by=2.0, **of):
    series = walk(seed, **of)
    series[:, at:] += by
    return series


def dense_cost(values, noise, drift):
    """The least over μ of Σ (x − μ)²/σ² + Σ (Δμ)²/q, as one least squares problem."""
    m = len(values)
    fit = np.diag(noise**-0.5)
    smooth = np.diff(np.eye(m), axis=0) * drift[1:, None] ** -0.5
    wanted = np.concatenate([values * noise**-0.5, np.zeros(m - 1)])
    design = np.vstack([fit, smooth])
    level = np.linalg.lstsq(design, wanted, rcond=None)[0]
    return float(np.sum((design @ level - wanted) ** 2))


def test_a_segment_costs_what_the_best_level_leaves():
    random = np.random.default_rng(0)
    values, noise, drift = random.standard_normal(14), *random.uniform(0.1, 2, (2, 14))
    costs = segment_costs(values, noise, drift)
    for start in range(14):
        for stop in range(start + 1, 15):
            part = slice(start, stop)
            wanted = dense_cost(values[part], noise[part], drift[part])
            assert costs[start, stop] == pytest.approx(wanted, abs=1e-9)
    assert not np.tril(costs).any()


def test_without_drift_a_segment_costs_its_weighted_squares():
    values, noise = np.random.default_rng(1).standard_normal(10), np.linspace(1, 2, 10)
    costs = segment_costs(values, noise, np.zeros(10))
    mean = np.average(values, weights=1 / noise)
    assert costs[0, 10] == pytest.approx(np.sum((values - mean) ** 2 / noise))


def test_variances_are_those_that_made_the_series():
    found = np.array([variances(walk(seed, 2000, 0.3, 0.1)[0]) for seed in range(5)])
    noise, drift = np.median(found, axis=(0, 2)) ** 0.5
    assert noise == pytest.approx(0.3, rel=0.15)
    assert drift == pytest.approx(0.1, rel=0.3)


def optimal(costs, penalty):
    """The best of all partitions, by the plain recursion: quadratic, and nothing is pruned."""
    m = len(costs) - 1
    shortest = max(2, int(np.ceil(SHORTEST * m)))
    best, last = [-penalty] + [np.inf] * m, [0] * (m + 1)
    for stop in range(shortest, m + 1):
        totals = [best[a] + costs[a, stop] + penalty for a in range(stop - shortest + 1)]
        last[stop] = int(np.argmin(totals))
        best[stop] = totals[last[stop]]
    ends = [m]
    while last[ends[-1]]:
        ends.append(last[ends[-1]])
    return ends[:0:-1]


@pytest.mark.parametrize("penalty", [2.0, 8.0])
def test_the_split_is_the_best_there_is(penalty):
    sizes = set()
    for seed in range(20):
        values = (jumping(seed, 30, length=80) + jumping(seed, 55, seed / 20, length=80))[0]
        costs = segment_costs(values, *variances(values))
        found = split(costs, penalty)
        assert found.tolist() == optimal(costs, penalty)
        sizes.add(len(found))
    assert len(sizes) > 1


@pytest.mark.parametrize(
    ("length", "noise", "drift"), [(90, 0.1, 0), (400, 0.3, 0.05), (90, 0, 0.1)]
)
def test_a_jump_is_found_where_it_is(length, noise, drift):
    blocks = -(-length // -(-length // BLOCKS))
    for seed in range(10):
        at = int(np.random.default_rng(seed).uniform(0.3, 0.7) * length)
        found = change_points(jumping(seed, at, length=length, noise=noise, drift=drift))
        assert np.abs(found - at).min() <= 2 * length / blocks, (seed, at, found)


@pytest.mark.parametrize("drift", [0.0, 0.05, 0.3])
def test_noise_and_drift_are_no_changes(drift):
    # A pure random walk is the worst there is: each step might be a jump.
    found = [len(change_points(walk(seed, 100, 0.1, drift))) for seed in range(40)]
    assert np.mean(found) <= 1.5


def test_the_transient_at_the_start_is_no_row_of_changes():
    time = np.arange(500)
    found = [
        len(change_points(walk(seed, 500, 0.1, 0.0) + 4 * np.exp(-time / 40))) for seed in range(20)
    ]
    assert np.mean(found) <= 1


def test_what_grows_noisier_does_not_change_again_and_again():
    found = []
    for seed in range(20):
        series = walk(seed, 400, 0.1, 0.0)
        series[:, 200:] *= 4
        found.append(len(change_points(series)))
    assert np.mean(found) <= 2


def test_two_series_tell_more_than_one():
    series = np.concatenate([walk(2, drift=0), jumping(3, 120, drift=0)])
    assert np.abs(change_points(series) - 120).min() <= 4
    assert not len(change_points(series[:1]))


def test_shift_and_scale_change_nothing():
    series = np.concatenate([jumping(3, 70), jumping(4, 140, 1.5)])
    found = change_points(series)
    assert len(found) >= 2
    np.testing.assert_array_equal(change_points(series + np.array([[7.0], [-3.0]])), found)
    np.testing.assert_array_equal(change_points(series * np.array([[5.0], [0.1]])), found)
    np.testing.assert_array_equal(change_points(series[::-1]), found)


def test_what_is_not_known_is_passed_over():
    thin = np.full((1, 400), np.nan)
    thin[:, ::4] = jumping(5, 60, length=100)
    thin[:, [9, 57, 201]] = np.inf, -np.inf, np.nan
    assert np.abs(change_points(thin) - 240).min() <= 12
    both = np.concatenate([thin, np.full((1, 400), np.nan)])
    np.testing.assert_array_equal(change_points(both), change_points(thin))


def test_too_little_is_no_series():
    assert not len(change_points(np.full((2, 300), np.nan)))
    assert not len(change_points(np.zeros((2, 0))))
    short = np.repeat([0.0, 9.0], 12)[None] + walk(0, LEAST)
    assert len(change_points(short)) == 1
    assert not len(change_points(short[:, :-1]))
    rare = np.full((1, 1000), np.nan)
    rare[:, :: 1000 // (LEAST - 2)] = 9.0 * (np.arange(LEAST - 1) > 10)
    assert not len(change_points(rare))


def test_constant_series_do_not_change_but_where_they_jump():
    assert not len(change_points(np.ones((2, 200))))
    assert change_points(np.repeat([0.1, 0.7], 100)[None]).tolist() == [100]
    rounded = 0.3 + 1e-9 * np.random.default_rng(0).standard_normal((1, 200))
    assert not len(change_points(rounded))


def test_changes_lie_apart():
    for seed in range(10):
        series = 5 * np.random.default_rng(seed).standard_cauchy((2, 300))
        edges = [0, *change_points(series), 300]
        assert np.diff(edges).min() >= SHORTEST * 300 - 3


def test_ruptures_is_loaded_when_it_is_needed():
    script = """
import sys
import trace_core.phases
print(sorted({"ruptures", "scipy", "torch", "pandas"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
