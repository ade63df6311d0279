"""Concentrations against a slow oracle: exact where they claim it, within their bound elsewhere."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_core import concentration
from trace_core.histogram import (
    BINS,
    LOWER,
    OVERFLOW,
    UNDERFLOW,
    UPPER,
    ZERO,
    Histogram,
    Tally,
    bin_of,
)
from trace_core.statistics import DISPLACEMENT, Statistic


def oracle(c):
    """Every kind by its definition, with exact sums, one element at a time."""
    ordered, n, mass = sorted(map(float, c)), len(c), math.fsum(c)
    squares = math.fsum(v * v for v in ordered)
    shares = [v / mass for v in ordered if v > 0]
    return {
        "gini": math.fsum((2 * i - n - 1) * v for i, v in enumerate(ordered, 1)) / (n * mass),
        "top_mass": math.fsum(ordered[n - math.ceil(n / 100) :]) / mass,
        "hoyer": (math.sqrt(n) - mass / math.sqrt(squares)) / (math.sqrt(n) - 1),
        "effective_sparsity": 1 - mass**2 / (n * squares),
        "entropy": 1 + math.fsum(p * math.log(p) for p in shares) / math.log(n),
        "article": 1 / n,
    }


def statistics_of(c):
    row = np.zeros((1, 1, DISPLACEMENT))
    row[0, 0, [Statistic.COUNT, Statistic.C, Statistic.SQ_C]] = len(c), c.sum(), (c * c).sum()
    row[0, 0, Statistic.C_LOG_C] = sum(v * math.log(v) for v in c if v > 0)
    return row


def pooled_of(*tensors):
    tally = Tally(len(tensors))
    for position, values in enumerate(tensors):
        tally.add(values, [position], [len(values)])
    filled, *entries = tally.sparse()
    return Histogram(np.array([0]), filled[None], *entries).pooled()


def samples():
    rng = np.random.default_rng(5)
    sparse = rng.exponential(size=20_000) * (rng.random(20_000) < 0.03)
    return {
        "uniform": rng.random(6000),
        "normal_product": np.abs(rng.normal(size=50_000) * rng.normal(size=50_000)) * 1e-9,
        "log_normal": rng.lognormal(sigma=3, size=30_000),
        "sparse": sparse,
        "one_of_many": np.eye(1, 5000)[0],
        "near_constant": 1.1 + 1e-6 * rng.random(10_000),
        "constant": np.ones(5000),
        "bin_edges": rng.choice([1.0, np.nextafter(2**0.25, 0)], 9000),
        "three_values": rng.choice([1e-3, 1.0, 1.02], 9000),
        "beyond_the_bins": np.concatenate([rng.random(5000) * 1e-30, 1e10 * rng.random(50)]),
        "nothing_but_underflow": rng.random(5000) * 1e-29,
    }


@given(
    st.lists(st.floats(0, 1e6).filter(lambda v: v == 0 or v > 1e-6), min_size=2, max_size=300)
    .filter(any)
    .map(np.array)
)
def test_exact_kinds_match_the_oracle(c):
    wanted = oracle(c)
    found = dict(zip(("gini", "top_mass"), concentration.exact(c), strict=True))
    found |= {
        kind: concentration.from_sums(kind, statistics_of(c))[0] for kind in concentration.FROM_SUMS
    }
    assert found.keys() == wanted.keys()
    for kind, value in wanted.items():
        assert found[kind] == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", samples())
def test_histogram_kinds_hold_the_true_value_within_their_bound(name):
    c = samples()[name]
    wanted = oracle(c)
    pooled = pooled_of(c[: len(c) // 3], c[len(c) // 3 :])
    for kind, estimate in concentration.FROM_ORDER.items():
        value, bound = (float(x[0]) for x in estimate(pooled))
        assert abs(value - wanted[kind]) <= bound
    ratio = 2**0.25
    _, bound = concentration.gini_from_histogram(pooled)
    shares = pooled.counts / pooled.counts.sum()
    masses = pooled.sums / pooled.sums.sum()
    if name != "beyond_the_bins" and name != "nothing_but_underflow":
        promised = (shares * masses).sum() * (math.sqrt(ratio) - 1) / (math.sqrt(ratio) + 1)
        assert bound[0] <= promised + concentration.ROUNDING


@given(st.data())
def test_any_sample_is_within_the_bound(data):
    seed, size = data.draw(st.integers(0, 2**32)), data.draw(st.integers(2, 3000))
    rng = np.random.default_rng(seed)
    levels = np.exp(rng.normal(size=data.draw(st.integers(1, 40))) * data.draw(st.floats(0, 20)))
    c = rng.choice(levels, size)
    wanted = concentration.exact(c)
    for value, estimate in zip(wanted, concentration.FROM_ORDER.values(), strict=True):
        found, bound = estimate(pooled_of(c))
        assert abs(found[0] - value) <= bound[0]


@pytest.mark.parametrize("name", ["uniform", "normal_product", "log_normal", "sparse"])
def test_gini_from_the_histogram_is_close(name):
    c = samples()[name]
    value, _ = concentration.gini_from_histogram(pooled_of(c))
    assert value[0] == pytest.approx(oracle(c)["gini"], abs=0.005)


def test_bound_is_tight_enough_to_be_of_use():
    c = samples()["normal_product"]
    value, bound = concentration.gini_from_histogram(pooled_of(c))
    assert bound[0] < 2e-3
    assert value[0] == pytest.approx(oracle(c)["gini"], abs=1e-4)


@pytest.mark.parametrize("c", [np.zeros(5), np.array([3.0]), np.zeros(0)])
def test_undefined_is_nan(c):
    assert np.isnan(concentration.exact(c)).all()
    for kind in set(concentration.FROM_SUMS) - {"article"}:
        assert np.isnan(concentration.from_sums(kind, statistics_of(c))).all()


def test_every_value_lies_in_its_bin():
    edges = LOWER[2:]
    values = np.concatenate(
        [edges, np.nextafter(edges, 0), np.nextafter(edges, np.inf), [5e-324, 1e300]]
    )
    bins = bin_of(values)
    assert (LOWER[bins] <= values).all()
    assert (values < UPPER[bins]).all()
    assert bin_of(np.array([0.0, 5e-324, np.inf, np.nan])).tolist() == [
        ZERO,
        UNDERFLOW,
        OVERFLOW,
        OVERFLOW,
    ]
    assert OVERFLOW == BINS - 1


def test_histograms_add_up_over_tensors():
    rng = np.random.default_rng(0)
    parts = [rng.lognormal(size=n) for n in (10, 200, 3000)]
    apart, together = pooled_of(*parts), pooled_of(np.concatenate(parts))
    np.testing.assert_array_equal(apart.counts, together.counts)
    np.testing.assert_allclose(apart.sums, together.sums, rtol=1e-6)


@pytest.mark.parametrize(("n", "top"), [(1, 1), (100, 1), (101, 2), (4095, 41)])
def test_top_count_rounds_up(n, top):
    assert concentration.top_count(n) == top
