"""Change rates and stabilities by their definitions, and what they leave out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trace_core import TraceError, change_rate, stability
from trace_core.collect import TILE, _segment_sums, collect, plan_tiles
from trace_core.importance import IMPORTANCES, importance_estimator
from trace_core.statistics import DISPLACEMENT, Statistic


def read(before, after, gradients=None, importance="taylor", origins=()):
    gradients = gradients or [torch.ones_like(tensor) for tensor in before]
    positions = list(range(len(before)))
    return collect(
        positions, before, after, gradients, origins, IMPORTANCES[importance], histogram=True
    )


def rates_of(before, after):
    statistics = read(before, after).statistics
    return {kind: float(f(statistics)[0]) for kind, f in change_rate.CHANGE_RATES.items()}


def pair(seed, *shapes):
    g = torch.Generator().manual_seed(seed)
    before = [torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]
    return before, [t + 0.01 * torch.randn(t.shape, generator=g, dtype=t.dtype) for t in before]


def test_statistics_by_definition_with_zeros_and_tiles():
    (theta, small), (updated, small_after) = pair(0, (TILE + 5,), (3, 7))
    theta[::5] = 0
    updated[::10] = 0
    found = read([theta, small], [updated, small_after], origins=[[theta + 1, small]])
    t, u = theta.numpy(), updated.numpy()
    d, c = np.abs(u - t), np.abs(t)
    with np.errstate(all="ignore"):
        ratio, symmetric = np.where(t != 0, d / np.abs(t), 0), d / (np.abs(t) + np.abs(u))
        logs = np.where(c > 0, c * np.log(c), 0)
    moved = t * (u - t)
    kinds = [d, d * d, moved, ratio, t == 0, np.nan_to_num(symmetric), c, c * c, logs]
    wanted = [t.size, c, t * t, *kinds]
    np.testing.assert_allclose(
        found.statistics[0, 0, :DISPLACEMENT], [np.sum(w) for w in wanted], rtol=1e-12
    )
    displacement = [((u - t - 1) ** 2).sum(), ((small_after - small) ** 2).sum().item()]
    np.testing.assert_allclose(found.statistics[0, :, DISPLACEMENT], displacement, rtol=1e-12)
    assert list(found.importances.small) == [1]


@pytest.mark.parametrize(
    ("name", "wanted"), [("uniform", 3), ("magnitude", 6), ("gradient", 12), ("taylor", 20)]
)
def test_importances(name, wanted):
    theta, gradient = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([-6.0, 4.0, -2.0])
    assert read([theta], [theta], [gradient], name).statistics[0, 0, Statistic.C] == wanted


def test_an_importance_is_registered_once():
    with pytest.raises(TraceError, match="'taylor' is registered already"):
        importance_estimator("taylor")(lambda theta, gradient: theta)


def test_gathering_doesnt_depend_on_tiles_or_the_way_of_summing():
    sizes = (3, TILE, 10, 2 * TILE + 1, 5)
    tiles = plan_tiles(sizes, (torch.device("cpu"),) * 5)
    covered = np.zeros(5, int)
    for tile in tiles:
        assert sum(tile.lengths) <= TILE
        assert len(set(tile.tensors)) == len(tile.spans)
        for span in tile.spans:
            covered[span.tensor] += span.stop - span.start
    assert tuple(covered) == sizes
    terms = torch.randn(4, 30, dtype=torch.float64)
    elsewhere = torch.stack([part.sum(1) for part in terms.split([5, 1, 24], 1)], 1)
    torch.testing.assert_close(_segment_sums(terms, [5, 1, 24]), elsewhere)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_layout_and_precision_of_the_parameters(dtype):
    (theta,), (updated,) = pair(3, (2, 3, 4, 5))
    theta, updated = theta.to(dtype), updated.to(dtype)
    turned = [t.contiguous(memory_format=torch.channels_last) for t in (theta, updated)]
    wanted = read([theta.double()], [updated.double()]).statistics
    np.testing.assert_array_equal(read([theta], [updated]).statistics, wanted)
    np.testing.assert_array_equal(read([turned[0]], [turned[1]]).statistics, wanted)


@given(st.integers(0, 999), st.floats(1e-3, 1e3))
def test_rates_dont_depend_on_scale_or_order(seed, scale):
    before, after = pair(seed, (5, 4), (7,))
    wanted = rates_of(before, after)
    scaled = rates_of([t * scale for t in before], [t * scale for t in after])
    turned = rates_of([t.flatten().flip(0) for t in before], [t.flatten().flip(0) for t in after])
    assert scaled == pytest.approx(wanted, rel=1e-9)
    assert turned == pytest.approx(wanted, rel=1e-12)


def test_splitting_a_tensor_changes_tensor_l1_alone():
    before, after = pair(4, (40,))
    wanted = rates_of(before, after)
    split = rates_of(list(before[0].split(10)), list(after[0].split(10)))
    for kind in ("global_l1", "rms", "symmetric", "elementwise"):
        assert split[kind] == pytest.approx(wanted[kind], rel=1e-12)
    assert split["tensor_l1"] != pytest.approx(wanted["tensor_l1"], rel=1e-3)


def test_zero_parameters_are_left_out_and_counted():
    before = [torch.tensor([0.0, 2.0]), torch.zeros(3)]
    after = [torch.tensor([1.0, 3.0]), torch.ones(3)]
    statistics = read(before, after).statistics
    assert rates_of(before, after)["elementwise"] == 0.5
    assert rates_of(before, after)["tensor_l1"] == 1.0
    assert rates_of(before, after)["symmetric"] == pytest.approx((1 + 0.2 + 3) / 5)
    assert change_rate.left_out("elementwise", statistics).tolist() == [4]
    assert change_rate.left_out("tensor_l1", statistics).tolist() == [1]
    assert change_rate.left_out("rms", statistics).tolist() == [0]
    nothing = change_rate.CHANGE_RATES["rms"](np.zeros((1, 1, DISPLACEMENT)))
    assert np.isnan(nothing).all()


def test_steadiness_by_definition_and_what_it_leaves_out():
    rng = np.random.default_rng(0)
    rates, learning_rates = rng.lognormal(size=30), rng.uniform(0.1, 1, 30)
    steps = np.diff(np.log(rates / learning_rates))
    spread = math.sqrt(np.mean((steps - steps.mean()) ** 2) / 2)
    assert stability.steadiness(rates, learning_rates) == pytest.approx(1 / (1 + spread))
    padded = np.insert(rates, [5, 9], [0.0, 3.0]), np.insert(learning_rates, [5, 9], [1.0, 0.0])
    assert stability.steadiness(*padded) == stability.steadiness(rates, learning_rates)
    assert np.flatnonzero(~stability.usable(*padded)).tolist() == [5, 10]


@given(st.floats(1e-3, 1e3), st.integers(8, 60))
def test_steadiness_ignores_the_schedule_and_the_scale(scale, length):
    rng = np.random.default_rng(length)
    rates, schedule = rng.lognormal(size=length), np.cos(np.linspace(0, 1.5, length))
    wanted = stability.steadiness(rates, np.ones(length))
    found = stability.steadiness(scale * rates * schedule, schedule)
    assert found == pytest.approx(wanted, rel=1e-9)
    assert 0 <= found <= 1


def test_stabilities_at_their_limits():
    even = np.full(20, 1e-3)
    assert stability.steadiness(even, np.ones(20)) == 1
    assert math.isnan(stability.steadiness(even[:7], np.ones(7)))
    assert stability.steadiness_raw(even) == pytest.approx(1)
    assert stability.steadiness_raw(np.array([1.0, 3.0])) == pytest.approx(1 / 1.5)
    assert math.isnan(stability.steadiness_raw(np.zeros(20)))
    assert stability.magnitude(even) == pytest.approx(0.5)
    assert stability.magnitude(np.array([0.0, 1e-3])) == pytest.approx(0.75)
    assert stability.directness(3, 4) == 0.75
    assert math.isnan(stability.directness(0, 0))
