"""P(first): exact limits, a slow one-component oracle, and α refitted within the draws."""

import numpy as np
import pytest

from sweeps.ranking.first_place import ShrunkenMeans, probability_first, share_of_first
from trace_core.alpha import AlphaChoice

FIXED = AlphaChoice(0.5, "fixed", "")


def pool(models, replicates=3, noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    return [centre + noise * rng.normal(size=(replicates, 2)) for centre in rng.random((models, 2))]


def test_posterior_is_the_textbook_shrinkage():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 1)) + 0.8 * rng.normal(size=(30, 4))
    drawn = ShrunkenMeans([row[:, None] for row in values]).draws(40_000, rng)[..., 0]
    within = values.var(axis=1, ddof=1).mean()
    between = values.mean(axis=1).var(ddof=1) - within / 4
    weight = between / (between + within / 4)
    centre = values.mean()
    assert drawn.mean(axis=0) == pytest.approx(
        centre + weight * (values.mean(axis=1) - centre), abs=0.02
    )
    assert drawn.var(axis=0) == pytest.approx(weight * within / 4, rel=0.05)


def test_models_without_true_differences_shrink_to_one_mean():
    same = np.array([[0.1], [0.2], [0.3]])
    drawn = ShrunkenMeans([same, same, same]).draws(10, np.random.default_rng(0))
    assert drawn == pytest.approx(0.2)


def test_ties_share_first_place():
    assert share_of_first(np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])).tolist() == [
        0.25,
        0.25,
        0.5,
    ]


@pytest.mark.parametrize("source", ["fixed", "std", "entropy", "cross_validated"])
def test_probabilities_sum_to_one_and_repeat(source):
    groups = pool(8)
    choice = AlphaChoice(0.5, source, "")
    goodness = np.arange(8.0)
    found = probability_first(groups, choice, goodness, 3)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    assert (found == probability_first(groups, choice, goodness, 3)).all()


def test_a_clear_winner_takes_nearly_all():
    groups = pool(6, noise=0.005)
    groups[2] = groups[2] - groups[2].mean(axis=0) + 1.5
    assert probability_first(groups, FIXED, np.zeros(6), 0)[2] > 0.99


def test_models_without_spread_are_first_for_sure():
    groups = [np.full((3, 2), value) for value in (0.1, 0.7, 0.7)]
    assert probability_first(groups, FIXED, np.zeros(3), 0) == pytest.approx([0, 0.5, 0.5])


def test_a_pool_dependent_alpha_is_taken_anew_in_every_draw():
    # At α = 0.5 the first model leads; the pool's own α, about 0.46, puts the second ahead.
    rng = np.random.default_rng(0)
    centres = [(1.0, 0.02), (0.1, 0.90), (0.45, 0.0), (0.1, 0.88)]
    groups = [np.array(centre) + 0.001 * rng.normal(size=(3, 2)) for centre in centres]
    fixed = probability_first(groups, FIXED, np.zeros(4), 0)
    refitted = probability_first(groups, AlphaChoice(0.5, "std", ""), np.zeros(4), 0)
    assert fixed[0] > 0.95
    assert refitted[1] > 0.95
