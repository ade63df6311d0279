"""The facts are plain data, true to the tables they come from, and there without any drawing."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import MadeUpTrace, Sweep, make_models, make_ranking, make_replicates, make_sweep

from sweeps.ranking import Exclusion, MetricInfo, rank
from sweeps.report import Facts, build_facts, write_report
from sweeps.report.alphas import rank_steps
from sweeps.report.page import _heat
from sweeps.report.series import POINTS, band, curves
from sweeps.report.settings import common_settings, flat, model_names


def facts_of(sweep: Sweep) -> Facts:
    return build_facts(**sweep.arguments())


def test_they_are_json_and_hold_every_row_of_the_ranking() -> None:
    sweep = make_sweep()
    facts = json.loads(json.dumps(facts_of(sweep).to_json(), allow_nan=False))
    for row, written in zip(facts["models"], sweep.ranking.to_json()["models"], strict=True):
        assert {name: row[name] for name in written} == written


def test_they_need_neither_a_trainer_nor_a_scheduler() -> None:
    code = (
        "import sys, sweeps.report; "
        "print([m for m in ('torch', 'ray', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_all_models_share_is_said_once() -> None:
    facts = facts_of(make_sweep())
    assert facts.common_settings == {"batch_size": 64}
    assert all("batch_size" not in row["own_settings"] for row in facts.models)
    assert all("learning_rate" in row["own_settings"] for row in facts.models)


def test_a_setting_that_only_some_models_have_is_not_shared() -> None:
    assert common_settings([{"depth": 2, "width": 8}, {"depth": 2}]) == {"depth": 2}
    assert common_settings([{"depth": 2}]) == {}
    assert common_settings([]) == {}


def test_names_tell_models_apart() -> None:
    def model(architecture: str, **settings: int) -> dict[str, object]:
        return {"architecture": architecture, "init": "default", "settings": settings}

    names = model_names(
        {
            "a1": model("cnn", channels=8),
            "b2": model("mlp", depth=1, hidden=32),
            "c3": model("mlp", depth=2, hidden=32),
            "d4": model("gru", hidden=8),
            "e5": model("gru", hidden=8),
        }
    )
    assert names["a1"] == "cnn · default"
    assert names["b2"] == "mlp · default (depth\u00a01)"
    assert names["e5"] == "gru · default (e5)"
    assert len(set(names.values())) == 5


def test_letters_go_to_the_first_models_and_to_whoever_leads_elsewhere() -> None:
    facts = facts_of(make_sweep())
    keys = [row["key"] for row in facts.models]
    assert keys[:5] == ["A", "B", "C", "D", "E"]
    drawn = {line["model_id"] for line in facts.alphas["lines"]}
    assert drawn == {row["model_id"] for row in facts.models if row["key"]}


def test_a_model_that_failed_in_part_has_no_figures() -> None:
    sweep = make_sweep()
    victim = sweep.ranking.excluded[-1].model_id
    sweep.models.loc[sweep.models["model_id"] == victim, "state"] = "FAILED"
    row = next(row for row in facts_of(sweep).excluded if row["model_id"] == victim)
    assert (row["traceability"], row["metric"]) == (None, None)


def test_an_excluded_model_of_which_nothing_is_known_is_named_by_its_id() -> None:
    sweep = make_sweep()
    excluded = (*sweep.ranking.excluded, Exclusion("ffff", "no trace of it"))
    sweep.ranking = replace(sweep.ranking, excluded=excluded)
    assert facts_of(sweep).excluded[-1]["name"] == "ffff"


def test_the_grid_counts_every_model_tried() -> None:
    sweep = make_sweep()
    grid = facts_of(sweep).grid
    cells = [cell for row in grid["cells"] for cell in row if cell]
    assert sum(cell["tried"] for cell in cells) == len(sweep.models)
    assert sum(cell["ranked"] for cell in cells) == len(sweep.ranking.frame)


def test_a_cell_of_the_grid_without_a_ranked_model_has_no_shade() -> None:
    sweep = make_sweep()
    facts = facts_of(sweep)
    [cells, *_] = facts.grid["cells"]
    tried = next(place for place, cell in enumerate(cells) if cell)
    cells[tried] |= {"ranked": 0, "traceability": 1.0}
    shades = _heat(facts)
    assert shades[0][tried] is None
    # Nor does it pale the others.
    assert max(shade for row in shades for shade in row if shade is not None) == 4


def test_the_floor_lies_between_baseline_and_best_ranked_model() -> None:
    facts = facts_of(make_sweep())
    best = max(row["metric"] for row in facts.models)
    assert facts.metric["floor"] == pytest.approx(0.101 + 0.5 * (best - 0.101))


def test_an_unknown_baseline_leaves_no_floor() -> None:
    sweep = make_sweep()
    object.__setattr__(sweep.metric, "baseline", float("nan"))
    metric = facts_of(sweep).metric
    assert (metric["baseline"], metric["floor"]) == (None, None)


def test_environment_is_flattened_into_text() -> None:
    rows = flat({"python": "3.11", "packages": {"ray": "2.60"}, "seeds": [0, 1], "gpu": None})
    assert rows == {"python": "3.11", "packages ray": "2.60", "seeds": "0, 1", "gpu": "–"}


def test_a_real_ranking_makes_a_report(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    sweep = make_sweep(12)
    models = make_models(rng, 12)
    replicates = make_replicates(rng, models, minimised=False, spread=0.005)
    sweep.models, sweep.replicates = models, replicates
    metric = MetricInfo("accuracy", "maximize", 0.1)
    sweep.ranking = rank(models, replicates, metric=metric, replicates_expected=3)
    sweep.failures = []
    page = write_report(tmp_path / "report", **sweep.arguments())
    assert "12 models ranked, 0 excluded" in page.read_text()


class TestReading:
    def test_the_articles_score_is_drawn_from_its_own_terms(self) -> None:
        sweep = make_sweep()
        sweep.replicates["article_change_rate"] = sweep.replicates["stability"] / 100
        sweep.replicates["article_explainability"] = 1e-4
        sweep.ranking = replace(sweep.ranking, reading="article")
        facts = facts_of(sweep)
        low, high = facts.models[0]["ranges"]["traceability"]
        assert 0 < low <= high < 0.01

    def test_without_those_terms_nothing_is_drawn_over_alpha(self) -> None:
        sweep = make_sweep()
        sweep.ranking = replace(sweep.ranking, reading="article", leaders=())
        facts = facts_of(sweep)
        assert facts.alphas == {"lines": [], "spans": []}
        assert [row["key"] for row in facts.models[:5]] == list("ABCDE")


class TestRankOverAlpha:
    def test_it_agrees_with_the_ranks_at_any_alpha(self) -> None:
        rng = np.random.default_rng(0)
        first, second = rng.random(40), rng.random(40)
        alphas = np.linspace(0.003, 0.997, 211)
        scores = alphas[:, None] * first + (1 - alphas[:, None]) * second
        for model in (0, 7, 39):
            steps = rank_steps(first, second, model)
            assert (steps[0][0], steps[-1][1]) == (0.0, 1.0)
            assert all(a[1] == b[0] for a, b in itertools.pairwise(steps))
            found = [next(r for low, high, r in steps if low <= a <= high) for a in alphas]
            better = scores > scores[:, [model]]
            assert found == (1 + better.sum(axis=1)).tolist()

    def test_two_models_swap_where_their_lines_cross(self) -> None:
        steps = rank_steps(np.array([0.9, 0.5]), np.array([0.2, 0.4]), 0)
        assert steps == [(0.0, pytest.approx(1 / 3), 2), (pytest.approx(1 / 3), 1.0, 1)]

    def test_equal_models_share_the_better_rank(self) -> None:
        same = np.array([0.5, 0.5, 0.5])
        assert rank_steps(same, same, 2) == [(0.0, 1.0, 1)]

    def test_leaders_that_rank_low_here_are_drawn_too(self) -> None:
        rng = np.random.default_rng(2)
        models = make_models(rng, 9)
        replicates = make_replicates(rng, models, minimised=False, spread=0.001)
        odd = replicates["model_id"] == models["model_id"].iloc[0]
        replicates.loc[odd, ["stability", "explainability"]] = [0.99, 0.1]
        metric = MetricInfo("accuracy", "maximize", 0.1)
        sweep = make_sweep(2)
        sweep.models, sweep.replicates = models, replicates
        sweep.ranking = make_ranking(models, replicates, metric, ())
        alphas = facts_of(sweep).alphas
        assert len(alphas["lines"]) == 6
        assert alphas["spans"][-1]["models"] == [models["model_id"].iloc[0]]
        assert alphas["spans"][0]["low"] == 0.0
        assert alphas["spans"][-1]["high"] == 1.0


class TestCurves:
    def test_a_short_run_is_not_thinned(self) -> None:
        steps = np.arange(5)
        drawn = band(steps, [np.array([1.0, 2, 3, 4, 5]), np.array([3.0, 4, 5, 6, 7])])
        assert drawn["steps"] == [0, 1, 2, 3, 4]
        assert drawn["mean"] == [2, 3, 4, 5, 6]
        assert (drawn["low"][0], drawn["high"][0]) == (1, 3)

    def test_a_long_run_is_thinned_by_averaging_each_seed_first(self) -> None:
        steps = np.arange(10 * POINTS)
        alternating = np.where(steps % 2, 1.0, -1.0)
        drawn = band(steps, [alternating, alternating])
        assert len(drawn["mean"]) == POINTS
        assert set(drawn["low"]) == set(drawn["high"]) == {0.0}

    def test_steps_without_a_value_are_left_out(self) -> None:
        drawn = band(np.arange(3), [np.array([np.nan, np.nan, 1.0]), np.array([np.nan, 2.0, 3.0])])
        assert drawn["steps"] == [1, 2]
        assert drawn["mean"] == [2.0, 2.0]
        assert drawn["high"] == [2.0, 3.0]

    def test_a_quantity_taken_every_other_step_is_one_unbroken_curve(self) -> None:
        values = np.where(np.arange(60) % 2, np.nan, 0.5)
        drawn = band(np.arange(60), [values, values])
        assert drawn["steps"] == list(range(0, 60, 2))
        assert drawn["span"] == 1

    def test_runs_of_unequal_length_are_compared_where_both_were_observed(self) -> None:
        rng = np.random.default_rng(0)
        both = curves([MadeUpTrace(rng, 40, 1e-3), MadeUpTrace(rng, 25, 1e-3)], "rms", "gini")
        assert both["change_rate"]["steps"][-1] == 24
        assert both["replicates"] == 2

    def test_no_traces_and_no_steps_give_no_curve(self) -> None:
        assert curves([], "rms", "gini")["change_rate"]["steps"] == []
        assert band(np.arange(0), [np.empty(0)])["mean"] == []


class TestFiles:
    def test_the_tables_hold_the_ranking(self, tmp_path: Path) -> None:
        sweep = make_sweep()
        folder = write_report(tmp_path / "new" / "report", **sweep.arguments()).parent
        written = json.loads((folder / "ranking.json").read_text())
        validity = written.pop("validity")
        assert written == sweep.ranking.to_json()
        assert validity["verdict"] == "chance"
        assert validity["rows"][0]["name"] == "traceability"
        parquet = pd.read_parquet(folder / "ranking.parquet")
        csv = pd.read_csv(folder / "ranking.csv", dtype={"model_id": str})
        for table in (parquet, csv):
            assert list(table["model_id"]) == [row["model_id"] for row in written["models"]]
            np.testing.assert_allclose(
                table["traceability"], [row["traceability"] for row in written["models"]]
            )
            assert json.loads(table["settings"][0]) == written["models"][0]["settings"]
        names = {"index.html", "report.md", "ranking.json", "ranking.csv", "ranking.parquet"}
        assert {path.name for path in folder.iterdir()} == names

    def test_writing_again_gives_the_same_bytes(self, tmp_path: Path) -> None:
        sweep = make_sweep()
        page = write_report(tmp_path, **sweep.arguments())
        before = page.read_bytes()
        assert write_report(tmp_path, **sweep.arguments()).read_bytes() == before
