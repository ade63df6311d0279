"""The validity study runs, and finds what was planted; its pools are too small to mean much."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import sweeps
from benchmarks.validity import __main__ as study
from benchmarks.validity import analysis, document, experiments, pools, tasks
from benchmarks.validity.correlations import resampled, spearman, weighted_kendall
from benchmarks.validity.gather import candidates, gather
from sweeps.config import SweepConfig


def test_every_pool_is_a_valid_sweep_with_models_enough() -> None:
    for quick in (True, False):
        chosen = pools.pools(quick=quick)
        assert len({pool.name for pool in chosen}) == len(chosen)
        for pool in chosen:
            assert SweepConfig.from_dict(pool.configuration()).replicates >= 2
    kinds = {(pool.task, pool.kind) for pool in pools.pools(quick=False)}
    assert len(kinds) == 3 * len(pools.TASKS) + len(pools.SCHEDULES_ON)


def test_verses_are_text_in_three_parts_without_a_verse_in_common() -> None:
    data = tasks.verses().data()
    parts = [data.train, data.validation, data.test]
    assert [len(part) for part in parts] == [1080, 360, 360]
    rows = np.concatenate([part.inputs.reshape(len(part), -1) for part in parts])
    assert len(np.unique(rows, axis=0)) > 1780  # some verses begin alike
    for part in parts:
        assert len(set(np.bincount(part.targets))) == 1


def path(kappa: float, noise: float, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    step, place = torch.randn(500, generator=generator), torch.zeros(500)
    places = [place]
    for _ in range(4):
        place = place + step + noise * torch.randn(500, generator=generator)
        step = kappa * step
        places.append(place)
    return places


def test_a_straight_path_is_foretold_and_a_random_walk_is_not() -> None:
    assert experiments.path_skill(path(0.7, 0.0)) == pytest.approx(1)
    assert experiments.path_skill(path(0.7, 0.1)) > 0.8
    walk = [experiments.path_skill(path(0.0, 1.0, seed)) for seed in range(20)]
    assert -0.2 < np.mean(walk) < 0.1
    assert math.isnan(experiments.path_skill([torch.zeros(3)] * 5))


def test_a_falling_loss_is_foretold_and_a_still_one_is_not() -> None:
    falls = np.exp(-np.cumsum(0.9 ** np.arange(20)) / 3)
    assert experiments.loss_skill(list(falls)) > 0.9
    noise = np.exp(np.random.default_rng(0).normal(size=20))
    assert experiments.loss_skill(list(noise)) < 0.3
    assert math.isnan(experiments.loss_skill([1.0] * 20))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two pools of the study, with twenty models of two seeds."""
    runs = tmp_path_factory.mktemp("study")
    for pool in pools.pools(quick=True):
        given = pool.configuration() | {"trials": 20, "replicates": 2}
        given["budget"] = {"epochs": 10, "batch_size": 64}
        given["space"]["architecture"] = {"mlp": {"hidden": {"int": [4, 16]}}}
        sweeps.run(given, out=runs / pool.name, progress=False)
    return runs


@pytest.mark.slow
def test_the_study_from_its_sweeps_to_its_tables(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    chosen = pools.pools(quick=True)
    monkeypatch.setitem(pools.MODELS, "free", 20)
    monkeypatch.setitem(pools.MODELS, "held", 20)
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*.npz")}
    study.train(trained, chosen)
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*.npz")} == before
    measures = gather(trained, chosen)
    assert set(measures["kind"]) == {"free", "held"}
    assert set(measures["share"]) == {0.1, 0.3, 0.5, 1.0}
    ended = measures[measures["share"] == 1]
    assert (ended["early"] == ended["validation"]).all()
    measures.to_parquet(tmp_path / "measures.parquet")
    known = candidates(trained, chosen[0])
    assert set(known) == set(measures.loc[measures["kind"] == "free", "model_id"])
    two = dict(list(known.items())[:2])
    followed = experiments.followed(two, 2).assign(task="breast_cancer", kind="free")
    assert len(followed) == 4
    zeroed = experiments.faithful(two).assign(task="breast_cancer")
    assert set(zeroed["estimator"]) == {"taylor", "gradient", "magnitude", "fisher", "mas"}
    followed = experiments.followed(known, 1).assign(task="breast_cancer", kind="free")
    followed.to_parquet(tmp_path / "followed.parquet")
    zeroed.to_parquet(tmp_path / "zeroed.parquet")
    study.analyse(tmp_path)
    table = pd.read_csv(tmp_path / "usefulness.csv")
    assert {"score.0.5", "trivial.early", "stability.directness"} <= set(table["measure"])
    decided = pd.read_csv(tmp_path / "choices.csv").set_index(["of", "choice"])
    floors = decided.loc["floor", "models"]
    assert floors.is_monotonic_decreasing
    assert floors.iloc[0] > floors.iloc[-1]
    assert decided.loc[("replicates", 1), "tau"] > 0
    assert study.compare(tmp_path, tmp_path)
    assert "τ differs by 0.000 at most" in capsys.readouterr().out
    (tmp_path / "fewer").mkdir()
    table.assign(tau=table["tau"].mask(table["measure"] == "score.0.5")).to_csv(
        tmp_path / "fewer" / "usefulness.csv", index=False
    )
    assert not study.compare(tmp_path / "fewer", tmp_path)


def test_what_tells_of_the_test_metric_is_found() -> None:
    """A pool in which gini is the test metric, directness its reverse, and magnitude is noise."""
    generator = np.random.default_rng(0)
    rows = []
    for model in range(30):
        quality = generator.normal()
        for seed in range(3):
            noise = generator.normal(size=40)
            row = dict(
                zip(
                    (c for c in measures_columns() if "." in c or c in NUMBERS), noise, strict=False
                )
            )
            rows.append(
                row
                | {"task": "t", "kind": "free", "importance": "taylor", "share": 1.0}
                | {"model_id": f"m{model:02}", "seed": seed, "baseline": -9.0, "parameters": 10}
                | {"learning_rate": 0.1, "weight_decay": 0.0, "test": quality, "validation": 0.0}
                | {"explainability.gini": quality + 0.05 * noise[0]}
                | {"stability.directness": -quality + 0.05 * noise[1]}
                | {"stability.steadiness": 0.5 + 0.001 * noise[2]}
            )
    table = analysis.usefulness(pd.DataFrame(rows)).set_index("measure")
    assert table.loc["explainability.gini", "tau"] > 0.8
    assert table.loc["explainability.gini", "repeatability"] > 0.8
    assert table.loc["stability.directness", "high"] < -0.6
    assert table.loc["stability.magnitude", "p"] > 0.01


def test_the_other_correlations_are_scipys() -> None:
    generator = np.random.default_rng(1)
    x, y = generator.integers(0, 9, size=(2, 25)).astype(float)
    value, low, high = resampled(spearman, x, y, draws=200)
    assert value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert low < value < high
    weighted, _, _ = resampled(weighted_kendall, x, y, draws=2)
    assert weighted == stats.weightedtau(x, y).statistic


NUMBERS = ("article", "loss", "loss_sum", "early")


def measures_columns() -> list[str]:
    return [
        *(f"stability.{kind}" for kind in analysis.STABILITIES),
        *(f"change_rate.{kind}" for kind in analysis.RATES),
        *(f"explainability.{kind}" for kind in analysis.CONCENTRATIONS),
        *NUMBERS,
    ]


def test_the_page_says_what_the_results_say() -> None:
    page = document.PAGE.read_text()
    assert document.write(page) == page, "write it anew: python -m benchmarks.validity.document"
    assert document.PICTURE.read_text() == document.picture()


def test_an_experiment_does_not_depend_on_what_ran_before() -> None:
    config = SweepConfig.from_dict(
        {
            "name": "one",
            "task": "wine",
            "budget": {"epochs": 8, "batch_size": 64},
            "trials": 1,
            "space": {"architecture": {"mlp": {"hidden": 4, "depth": 1}}},
        }
    )
    from sweeps.candidate import Candidate

    parameters = config.space.draw(lambda name, dimension: dimension.values[0])
    candidate = Candidate.from_parameters(config, parameters)[0]
    given = (candidate.model_id, replace(candidate).to_dict(), 0)
    assert experiments._faithful(given) == experiments._faithful(given)
    assert experiments._followed(given) == experiments._followed(given)
