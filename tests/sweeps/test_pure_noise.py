"""Sweeps of one model under many names, made of real replicates, must end in one tie."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sweeps.candidate import Candidate, Training
from sweeps.config import SweepConfig
from sweeps.ranking import MetricInfo, rank
from sweeps.records import TrainingRecord
from sweeps.scoring import score
from sweeps.training import TrainingRun
from sweeps.validity import assess_ranking

MODELS, REPLICATES, SWEEPS = 12, 3, 100
CONFIG = {
    "name": "noise",
    "task": "breast_cancer",
    "budget": {"epochs": 4, "batch_size": 32},
    "replicates": 1,
    "trials": 1,
    "space": {"architecture": {"mlp": {"hidden": 8, "depth": 1}}, "learning_rate": 0.05},
}


@pytest.fixture(scope="module")
def replicates(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Scores of one model under more seeds than a sweep has trainings."""
    config = SweepConfig.from_dict(CONFIG)
    parameters = config.space.draw(lambda name, dimension: dimension.values[0])
    candidate = Candidate.from_parameters(config, parameters)[0]
    rows = []
    for seed in range(2 * MODELS * REPLICATES):
        run = TrainingRun(Training(candidate, seed), tmp_path_factory.mktemp("noise") / "none")
        run.advance(60)
        record = TrainingRecord(
            *("", "", seed, "COMPLETE", 0, "", run.seconds),
            parameters=run.parameters,
            steps=run.step,
            examples=run.examples,
            direction="maximize",
            baseline=run.task.baseline(),
            metric_test=run.evaluate("test")[0],
            history=run.history,
        )
        rows.append(score(record, run.trace(), config))
    return pd.DataFrame(rows)


@pytest.mark.slow
def test_equal_models_are_tied(replicates: pd.DataFrame) -> None:
    tied = by_chance = 0
    for sweep in range(SWEEPS):
        generator = np.random.default_rng(sweep)
        chosen = generator.choice(len(replicates), MODELS * REPLICATES, replace=False)
        names = np.repeat([f"model{i:02}" for i in range(MODELS)], REPLICATES)
        table = replicates.iloc[chosen].assign(
            model_id=names, seed=np.tile(np.arange(REPLICATES), MODELS)
        )
        models = pd.DataFrame(
            {
                "model_id": np.unique(names),
                "architecture": "mlp",
                "init": "default",
                "settings": [{}] * MODELS,
                "state": "COMPLETE",
                "reason": "",
            }
        )
        ranking = rank(
            models,
            table,
            metric=MetricInfo("accuracy", "maximize", 0.6),
            replicates_expected=REPLICATES,
            seed=sweep,
        )
        frame = ranking.frame
        tied += bool(
            not ranking.distinguishable
            and (frame["rank_low"] == 1).all()
            and (frame["rank_high"] == MODELS).all()
            and frame["p_first"].isna().all()
            and any("cannot be told apart" in warning for warning in ranking.warnings)
        )
        by_chance += assess_ranking(ranking, models, table, sweep).verdict == "chance"
    assert tied >= 90
    assert by_chance >= 95
