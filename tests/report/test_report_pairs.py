"""Two models compared by the page, as the ranking compares them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from browsing import Opened, needs_browser
from by_node import by_node, needs_node
from made_up import make_sweep

from sweeps.ranking import intervals_over_alpha
from sweeps.ranking.rank_intervals import games_howell, tukey_kramer
from sweeps.report.pairs import pair_figures


def trainings(spreads: list[float], sizes: list[int], seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        rng.uniform(0.4, 0.8, 2) + rng.multivariate_normal([0, 0], [[s, s / 3], [s / 3, s / 2]], n)
        for s, n in zip(spreads, sizes, strict=True)
    ]


@needs_node
@pytest.mark.parametrize(
    ("spreads", "sizes", "method"),
    [
        ([3e-3] * 12, [3] * 12, "tukey"),
        ([3e-3] * 8, [3, 4, 2, 5, 3, 3, 2, 6], "tukey"),
        ([1e-6, 1e-2, 1e-4, 5e-3, 1e-5, 2e-2] * 2, [6] * 12, "games-howell"),
        ([1e-6, 1e-2, 1e-4, 5e-3, 1e-5, 2e-2], [4, 9, 5, 12, 3, 20], "games-howell"),
    ],
)
def test_pairs_are_told_apart_as_the_ranking_does(
    spreads: list[float], sizes: list[int], method: str
) -> None:
    parts = trainings(spreads, sizes, seed=len(spreads))
    found = intervals_over_alpha(parts, seed=0)
    figures = pair_figures(parts, found)
    assert figures is not None
    assert figures["methods"].count(method) > 50
    models = range(len(parts))
    least = by_node(
        "given[1].map((method, at) => given[2].map(a => given[2].map(b => a === b ? 0 :"
        " m.leastDifference(given[0], method, at / 100, [a, b]))))",
        [figures, figures["methods"], list(models)],
        "pairs.js",
    )
    judged = 0
    for index, (bounds, reach) in enumerate(zip(found, least, strict=True)):
        alpha = index / 100
        groups = [part @ np.array([alpha, 1 - alpha]) for part in parts]
        means = np.array([group.mean() for group in groups])
        better = np.subtract.outer(means, means) > np.array(reach)
        np.fill_diagonal(better, val=False)
        compare = games_howell if bounds.method == "games-howell" else tukey_kramer
        assert (better == compare(groups)).all()
        if bounds.distinguishable:
            assert (bounds.low == 1 + better.sum(axis=0)).all()
            assert (bounds.high == len(parts) - better.sum(axis=1)).all()
            judged += 1
    assert judged > 50


def test_without_replicates_there_is_nothing_to_compare_by() -> None:
    parts = trainings([1e-3] * 4, [1] * 4, seed=1)
    assert pair_figures(parts, intervals_over_alpha(parts, seed=0)) is None
    assert pair_figures([], []) is None


def test_intervals_that_do_not_overlap_are_those_of_pairs_that_differ() -> None:
    """What the page says where it knows the rank intervals alone."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(2, 7, 9).tolist()
        groups = [rng.normal(rng.uniform(0, 1), 0.1, size) for size in sizes]
        for compare in (tukey_kramer, games_howell):
            better = compare(groups)
            low, high = 1 + better.sum(axis=0), len(groups) - better.sum(axis=1)
            apart = high[:, None] < low
            assert not (apart & ~better).any()


@needs_node
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {},
            "The data tell the two apart: this model scores 0.200 higher than the other; the 95%",
        ),
        ({"scores": [0.6, 0.59]}, "The data don't tell the two apart: this model scores 0.010"),
        ({"scores": [0.4, 0.6]}, "The data tell the two apart: this model scores 0.200 lower"),
        ({"distinguishable": False}, "no difference is found among all the models at this α"),
        ({"method": "none"}, "With fewer than two trainings of some model"),
        ({"pairs": None}, "their rank intervals don't overlap"),
        ({"pairs": None, "high": [2, 2]}, "Their rank intervals overlap, which alone doesn't say"),
        ({"method": "games-howell"}, "their rank intervals don't overlap"),
        ({"scores": [None, 0.6]}, "one of the two has no score"),
        ({"asReported": False}, "the page knows for the reported kinds at every hundredth of α"),
    ],
)
def test_the_verdict_on_two_models_says_what_is_known(
    changed: dict[str, Any], expected: str
) -> None:
    given = {"scores": [0.7, 0.5], "low": [1, 2], "high": [1, 2], "method": "tukey"}
    given |= {"distinguishable": True, "asReported": True, "kindsAsReported": False}
    given["pairs"] = {"sizes": [3, 3], "spreads": [[1e-4, 0, 1e-4]] * 2, "critical": 4.0}
    given["pairs"] |= {"critical_by_freedom": []}
    given |= changed
    said = by_node(
        "m.verdictOn({pairs: given.pairs, omnibus: given}, {...given, alpha: 0.5},"
        " {...given, scores: given.scores.map(v => v ?? NaN)}, [0, 1])",
        given,
        "pairs.js",
    )
    assert expected in said


@pytest.mark.slow
@needs_browser
def test_the_panel_of_two_begins_with_it(show: Callable[..., Opened]) -> None:
    opened = show(make_sweep())
    page = opened.alive()
    page.evaluate("page.view.change({baseline: page.data.models.model_id.at(-1)})")
    page.evaluate("page.open(0)")
    said = page.locator("#model .apart").inner_text()
    assert said.startswith("The data tell the two apart: this model scores")
    assert "all pairs compared at once" in said
    page.evaluate("document.getElementById('model').close()")
    page.evaluate("page.view.change({baseline: page.data.models.model_id[1], alpha: 0.501})")
    page.evaluate("page.open(0)")
    assert "at every hundredth of α" in page.locator("#model .apart").inner_text()
    opened.assert_quiet()
