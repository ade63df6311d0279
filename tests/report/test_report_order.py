"""The page orders as Python does, at any α and of any kind, ties and all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browsing import Opened, needs_browser
from by_node import by_node, needs_node
from made_up import make_sweep, with_kinds

from sweeps.ranking import rank
from sweeps.ranking.rank_intervals import RankIntervals
from trace_core.alpha import leaders, rank_steps

pytestmark = [pytest.mark.slow, needs_browser]

ALPHAS = [index / 100 for index in range(101)]
_ORDERS = """alphas => alphas.map(alpha => {
    page.view.change({alpha});
    page.draw();
    return page.order.order.map(model => page.data.models.model_id[model]);
})"""


@pytest.fixture(autouse=True)
def order_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """How sure a rank is, and who leads where, has no part in the order, and takes long."""

    def full(groups: list[np.ndarray], seed: int) -> RankIntervals:
        ones = np.ones(len(groups), dtype=np.int64)
        return RankIntervals(ones, len(groups) * ones, "none", None, None, distinguishable=False)

    monkeypatch.setattr("sweeps.ranking.ranking.rank_intervals", full)
    monkeypatch.setattr("sweeps.ranking.ranking.leaders", lambda first, second: [])
    monkeypatch.setattr("sweeps.ranking.ranking.share_first", lambda first, second: 0.0 * first)


def tied(sweep: Any) -> Any:
    """Some models whose scores are equal: at every α, or at one where their lines cross."""
    replicates = sweep.replicates
    ids = list(sweep.ranking.frame["model_id"])
    scores = ["stability", "explainability", "metric"]
    for one, other in ((0, 1), (2, 3)):
        source = replicates.loc[replicates["model_id"] == ids[one], scores].to_numpy()
        replicates.loc[replicates["model_id"] == ids[other], scores] = source
    crossing = replicates.loc[replicates["model_id"] == ids[4], scores].to_numpy()
    replicates.loc[replicates["model_id"] == ids[5], scores] = crossing[:, [1, 0, 2]]
    columns = [name for name in replicates if "." not in name and not name.startswith("article_e")]
    sweep.replicates = with_kinds(replicates[columns])
    return sweep


def ranking_of(sweep: Any, alpha: float, replicates: pd.DataFrame | None = None) -> Any:
    return rank(
        sweep.models,
        sweep.replicates if replicates is None else replicates,
        metric=sweep.metric,
        replicates_expected=3,
        alpha=alpha,
    )


@pytest.mark.parametrize(
    ("count", "seed", "minimised"), [(40, 1, False), (60, 2, True), (150, 3, False)]
)
def test_the_order_is_pythons_at_101_values_of_alpha(
    show: Callable[..., Opened], count: int, seed: int, minimised: bool
) -> None:
    sweep = tied(make_sweep(count, seed=seed, minimised=minimised))
    sweep.ranking = ranking_of(sweep, 0.5)
    assert sweep.ranking.excluded
    page = show(sweep).alive()
    shown = page.evaluate(_ORDERS, ALPHAS)
    for alpha, order in zip(ALPHAS, shown, strict=True):
        assert order == list(ranking_of(sweep, alpha).frame["model_id"]), alpha
    assert len({tuple(order) for order in shown}) > 20


def test_the_order_of_other_kinds_is_pythons(show: Callable[..., Opened]) -> None:
    sweep = tied(make_sweep(60))
    sweep.ranking = ranking_of(sweep, 0.5)
    page = show(sweep).alive()
    eligible = list(sweep.ranking.frame["model_id"])
    other = sweep.replicates.assign(
        stability=sweep.replicates["stability.directness"],
        explainability=sweep.replicates["explainability.hoyer"],
    )
    other = other[other["model_id"].isin(eligible)]
    page.evaluate("page.view.change({stability: 'directness', explainability: 'hoyer'})")
    for alpha, order in zip(ALPHAS, page.evaluate(_ORDERS, ALPHAS), strict=True):
        assert order == list(ranking_of(sweep, alpha, other).frame["model_id"]), alpha


@needs_node
def test_crossings_and_leaders_are_pythons() -> None:
    sweep = tied(make_sweep(40))
    ids = list(ranking_of(sweep, 0.5).frame["model_id"])
    means = sweep.replicates.groupby("model_id")[["stability", "explainability"]].mean().loc[ids]
    first, second = means["stability"].to_numpy(), means["explainability"].to_numpy()
    spans = leaders(first, second)
    given = [first.tolist(), second.tolist()]
    shown = by_node("m.leaders(...given)", given, "ranking.js")
    assert [each["models"] for each in shown] == [list(span.models) for span in spans]
    ends = [float(span.stop) for span in spans]
    np.testing.assert_allclose([each["to"] for each in shown], ends, rtol=1e-12)
    every = by_node("given[0].map((_, model) => m.rankSteps(...given, model))", given, "ranking.js")
    for model, steps in enumerate(every):
        expected = rank_steps(first, second, model)
        assert [rank for _, _, rank in steps] == [rank for _, _, rank in expected]
        np.testing.assert_allclose(
            [start for start, _, _ in steps], [start for start, _, _ in expected], rtol=1e-12
        )
