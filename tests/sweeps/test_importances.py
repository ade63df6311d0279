"""Which setting explains a figure: what was planted, at any scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator

from sweeps.selection import setting_importances
from sweeps.selection.importances import TREES


def models(count: int, seed: int = 0) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The rate decides, the name a little, the depth nothing; some have a setting of their own."""
    rng = np.random.default_rng(seed)
    settings: list[dict[str, Any]] = [
        {
            "rate": float(10 ** rng.uniform(-3, 0)),
            "name": ["a", "b"][int(rng.integers(2))],
            "depth": int(rng.integers(1, 5)),
            "batch": 64,
            "bias": bool(rng.integers(2)),
        }
        | ({"own": 3} if index % 2 else {})
        for index in range(count)
    ]
    figures = [np.log10(each["rate"]) + 0.3 * (each["name"] == "b") for each in settings]
    return settings, np.array(figures)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e200])
@pytest.mark.parametrize("count", [30, 400])
def test_what_decides_comes_first_at_any_scale(count: int, scale: float) -> None:
    settings, figures = models(count)
    found = setting_importances(settings, scale * figures)
    assert next(iter(found)) == "rate"
    assert found["rate"] > 0.7
    assert set(found) == {"rate", "name", "depth", "bias"}
    assert sum(found.values()) == pytest.approx(1)


def test_where_nothing_can_be_said_nothing_is() -> None:
    settings, figures = models(30)
    assert setting_importances(settings[:9], figures[:9]) == {}
    assert setting_importances(settings, np.full(30, 0.3)) == {}
    assert setting_importances(settings, 0.3 + 1e-16 * np.arange(30)) == {}
    assert setting_importances(settings, np.full(30, np.nan)) == {}
    assert setting_importances([{"batch": 1}] * 30, figures) == {}
    assert setting_importances([{"depth": i % 3} for i in range(30)], figures) == {"depth": 1.0}


@pytest.mark.parametrize("count", [12, 60])
def test_the_shares_are_those_of_optunas_evaluator(count: int) -> None:
    settings, figures = models(count)
    rng = np.random.default_rng(count)
    figures = figures + rng.normal(0, 0.3, count)
    for each in settings:
        each["kind"] = ["u", "v", "w", "x"][int(rng.integers(4))]
    names = ["rate", "name", "depth", "bias", "kind"]
    study = optuna.create_study(direction="maximize")
    distributions = {
        "rate": FloatDistribution(*_ends(settings, "rate")),
        "depth": IntDistribution(*_ends(settings, "depth")),
        **{
            name: CategoricalDistribution(sorted({str(each[name]) for each in settings}))
            for name in ("name", "bias", "kind")
        },
    }
    scaled = (figures - figures.min()) / np.ptp(figures)
    for each, figure in zip(settings, scaled, strict=True):
        given = {name: each[name] for name in names}
        given |= {name: str(each[name]) for name in ("name", "bias", "kind")}
        study.add_trial(
            optuna.trial.create_trial(params=given, distributions=distributions, value=figure)
        )
    theirs = optuna.importance.get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(n_trees=TREES, seed=0)
    )
    found = setting_importances(
        [{name: each[name] for name in names} for each in settings], figures
    )
    assert list(found) == list(theirs)
    assert found == pytest.approx(theirs, rel=1e-9)


def _ends(settings: list[dict[str, Any]], name: str) -> tuple[Any, Any]:
    values = [each[name] for each in settings]
    return min(values), max(values)
