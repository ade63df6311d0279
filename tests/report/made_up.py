"""A sweep's results that were never trained: figures like a real sweep's, made up from a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sweeps.ranking import COLUMNS, Exclusion, Leader, MetricInfo, Ranking
from sweeps.report import ModelTraces
from sweeps.scoring import curve
from sweeps.selection import setting_importances
from sweeps.validity import assess_ranking
from trace_core.alpha import leaders, share_first
from trace_core.statistics import Statistic

ARCHITECTURES = {"mlp": "hidden", "cnn": "channels", "gru": "hidden", "transformer": "width"}
INITS = ("default", "xavier_uniform", "kaiming_normal", "orthogonal", "normal_002")


class MadeUpTrace:
    """One training's curves: a decaying, noisy change rate and a rising concentration."""

    def __init__(self, rng: np.random.Generator, steps: int, level: float) -> None:
        self.steps = np.arange(steps)
        progress = self.steps / max(steps - 1, 1)
        noise = rng.normal(0, 0.25, steps)
        self._rate = level * np.exp(-1.6 * progress + noise) * rng.uniform(0.85, 1.15)
        self._index = 0.45 + 0.2 * np.sqrt(progress) * level / 0.004 + rng.normal(0, 0.01, steps)
        self._rate[:3] = [0.0, np.nan, level]
        self._index[1::2] = np.nan

    def __len__(self) -> int:
        return len(self.steps)

    def change_rate(self, kind: str = "rms") -> Any:
        assert kind == "rms"
        return self._rate

    def explainability(self, kind: str = "gini") -> Any:
        assert kind == "gini"
        return self._index

    def learning_rate(self) -> Any:
        return np.full(len(self.steps), 0.1)

    def by_layer(self) -> dict[str, MadeUpTrace]:
        return {"hidden": self, "output": self}

    def by_part(self) -> dict[str, MadeUpTrace]:
        return {"backbone": self, "head": MadeUpBlock(self)}

    def by_block(self) -> dict[str, MadeUpTrace]:
        return {f"backbone.layer.{number}": MadeUpBlock(self) for number in range(2)}

    @property
    def statistics(self) -> Any:
        return np.ones((len(self.steps), 2, len(Statistic)))

    @property
    def active(self) -> Any:
        return np.full(len(self.steps), 1234)

    def stability(self, kind: str) -> float:
        return 0.875 if len(self.steps) > 8 else float("nan")

    def top_movers(self, count: int) -> list[tuple[str, float]]:
        return [("output.weight", 3.25), ("hidden.weight", 1.5)][:count]

    def most_important(self, count: int) -> list[tuple[str, float]]:
        return [("hidden.weight", 0.75), ("output.weight", 0.25)][:count]


class MadeUpBlock(MadeUpTrace):
    """A part without parts of its own."""

    def __init__(self, whole: MadeUpTrace) -> None:
        self.__dict__ |= whole.__dict__

    def by_block(self) -> dict[str, MadeUpTrace]:
        return {"": self}


@dataclass
class Sweep:
    """The arguments of ``write_report``, to be changed by a test before they are used."""

    models: pd.DataFrame
    replicates: pd.DataFrame
    ranking: Ranking
    metric: MetricInfo
    config: dict[str, Any]
    failures: list[dict[str, Any]]
    environment: dict[str, Any] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    steps: int = 435

    def traces(self, model_id: str) -> ModelTraces:
        ranked = self.ranking.frame.set_index("model_id")
        known = model_id in ranked.index
        rank, change_rate = ranked.loc[model_id, ["rank", "change_rate"]] if known else (0, 0.01)
        rng = np.random.default_rng(int(rank))
        steps = np.linspace(0, self.steps, 16).round()
        losses = [2 * np.exp(-steps / 100) + rng.normal(0, 0.01, 16) for _ in range(3)]
        histories = [
            [
                {"step": s, "train_loss": x, "metric": 1 - x / 3}
                for s, x in zip(steps, each, strict=True)
            ]
            for each in losses
        ]
        traces = [MadeUpTrace(rng, self.steps, float(change_rate)) for _ in range(3)]
        return ModelTraces(traces, histories, f"name: {model_id}\n")

    def curves(self, model_id: str) -> list[Any]:
        row = self.ranking.frame.set_index("model_id").loc[model_id]
        rng = np.random.default_rng(int(row["rank"]))
        traces = [MadeUpTrace(rng, self.steps, float(row["change_rate"])) for _ in range(3)]
        return [curve(trace, "rms") for trace in traces]

    def arguments(self) -> dict[str, Any]:
        return {
            "ranking": self.ranking,
            "validity": assess_ranking(self.ranking, self.models, self.replicates),
            "config": self.config,
            "metric": self.metric,
            "models": self.models,
            "replicates": self.replicates,
            "traces": self.traces,
            "curves": self.curves,
            "failures": self.failures,
            "environment": self.environment,
            "commands": self.commands,
            "importances": setting_importances,
        }


def make_models(rng: np.random.Generator, count: int) -> pd.DataFrame:
    rows = []
    for number in range(count):
        architecture = list(ARCHITECTURES)[number % 4]
        settings: dict[str, Any] = {ARCHITECTURES[architecture]: int(rng.integers(2, 17)) * 8}
        if architecture != "cnn":
            settings["depth"] = int(rng.integers(1, 4))
        settings |= {"learning_rate": float(10 ** rng.uniform(-3, -0.5)), "batch_size": 64}
        rows.append(
            {
                "model_id": f"{number:04x}{rng.integers(16**6):06x}",
                "architecture": architecture,
                "init": INITS[int(rng.integers(len(INITS)))],
                "settings": settings,
                "state": "COMPLETE",
                "reason": "",
            }
        )
    return pd.DataFrame(rows)


def make_replicates(
    rng: np.random.Generator, models: pd.DataFrame, minimised: bool, spread: float
) -> pd.DataFrame:
    rows = []
    for model_id in models.loc[models["state"] == "COMPLETE", "model_id"]:
        stability, explainability = rng.uniform(0.55, 0.92), rng.uniform(0.42, 0.7)
        quality = 0.985 - 0.25 * rng.beta(1, 6) - 0.05 * max(0.0, stability - 0.8)
        for seed in range(3):
            accuracy = min(0.999, quality + rng.normal(0, 0.004))
            metric = 4 * (1 - accuracy) if minimised else accuracy
            rows.append(
                {
                    "model_id": model_id,
                    "seed": seed,
                    "stability": stability + rng.normal(0, spread),
                    "change_rate": 0.001 * np.exp(rng.normal(0.9, 0.5)),
                    "explainability": explainability + rng.normal(0, spread / 2),
                    "article_score": rng.uniform(0.001, 0.004),
                    "metric": metric,
                    "metric_best": metric * (0.99 if minimised else 1.001),
                    "metric_start": 4.0 if minimised else 0.1,
                    "metric_error": 0.008,
                    "metric_test": metric + rng.normal(0, 0.006),
                }
            )
    return with_kinds(pd.DataFrame(rows))


def with_kinds(replicates: pd.DataFrame) -> pd.DataFrame:
    """The table with a few other kinds of score, and the article's two terms."""
    rng = np.random.default_rng(len(replicates))
    size = len(replicates)
    return (
        replicates.assign(
            **{
                "stability.steadiness": replicates["stability"],
                "stability.directness": rng.uniform(0.1, 0.9, size),
                "explainability.gini": replicates["explainability"],
                "explainability.hoyer": rng.uniform(0.3, 0.6, size),
                "change_rate.rms": replicates["change_rate"],
                "change_rate.tensor_l1": rng.uniform(0.001, 0.01, size),
                "article_explainability": 1 / rng.integers(100, 9_999, size),
            }
        )
        if size
        else replicates
    )


def make_ranking(
    models: pd.DataFrame,
    replicates: pd.DataFrame,
    metric: MetricInfo,
    excluded: tuple[Exclusion, ...],
    alpha: float = 0.5,
) -> Ranking:
    """Order by mean score; intervals from a fixed margin, which is enough for a page to show."""
    left_out = {each.model_id for each in excluded}
    kept = replicates[~replicates["model_id"].isin(left_out)]
    scores = kept[["model_id", "seed", "stability", "explainability"]].copy()
    scores["traceability"] = alpha * scores["stability"] + (1 - alpha) * scores["explainability"]
    frame = kept.drop(columns=["seed", "metric_start", "metric_error"]).groupby("model_id").mean()
    frame["traceability"] = scores.groupby("model_id")["traceability"].mean()
    frame = frame.sort_values("traceability", ascending=False).reset_index()
    frame = frame.merge(models[["model_id", "architecture", "init", "settings"]], on="model_id")
    frame["settings"] = [json.dumps(each, sort_keys=True) for each in frame["settings"]]
    score = frame["traceability"].to_numpy()
    frame["rank"] = np.arange(1, len(frame) + 1)
    frame["rank_low"] = [1 + int((score > each + 0.02).sum()) for each in score]
    frame["rank_high"] = [len(score) - int((score < each - 0.02).sum()) for each in score]
    frame["share_first"] = share_first(frame["stability"], frame["explainability"])
    weight = np.exp(150 * (score - score.max())) if len(score) else score
    frame["p_first"] = weight / weight.sum() if len(score) > 1 else np.nan
    frame["metric_name"] = metric.name
    frame["replicates"] = 3
    spans = leaders(frame["stability"], frame["explainability"])
    ids = list(frame["model_id"])
    columns = ["stability", "explainability"]
    points = np.column_stack([frame[columns], metric.sign * frame["metric"]])
    front = [not ((points >= p).all(axis=1) & (points > p).any(axis=1)).any() for p in points]
    return Ranking(
        alpha=alpha,
        alpha_source="fixed",
        alpha_note=f"α is fixed at {alpha:g}",
        reading="calibrated",
        metric=metric,
        frame=frame[list(COLUMNS)],
        scores=scores,
        excluded=excluded,
        trials={
            "COMPLETE": len(models) + 2,
            "PRUNED": 3,
            "FAILED": 2,
            "INTERRUPTED": 1,
            "trained": len(models) + 3,
            "replayed": 4,
        },
        warnings=("the ranked models differ in learning rate: the change rate follows it",),
        leaders=tuple(
            Leader(ids[model], float(span.start), float(span.stop))
            for span in spans
            for model in span.models
        ),
        pareto=tuple(model_id for model_id, on in zip(ids, front, strict=True) if on),
        method="tukey",
        omnibus_p=0.0004 if len(ids) > 1 else None,
        variances_p_value=0.41 if len(ids) > 1 else None,
        distinguishable=len(ids) > 1,
    )


def make_sweep(
    count: int = 30, *, seed: int = 3, minimised: bool = False, spread: float = 0.006
) -> Sweep:
    rng = np.random.default_rng(seed)
    models = make_models(rng, count)
    if count >= 10:
        troubled = models.index[4::9]
        models.loc[troubled, "state"] = ["FAILED", "PRUNED"] * (len(troubled) // 2) + [
            "INTERRUPTED"
        ] * (len(troubled) % 2)
        models.loc[troubled, "reason"] = "loss is not finite after step 212"
    metric = (
        MetricInfo("cross_entropy", "minimize", 2.303)
        if minimised
        else MetricInfo("accuracy", "maximize", 0.101)
    )
    replicates = make_replicates(rng, models, minimised, spread)
    excluded = [
        Exclusion(row.model_id, f"{row.state}: {row.reason}")
        for row in models.itertuples()
        if row.state != "COMPLETE"
    ]
    if count >= 10:
        lame = models.loc[models["state"] == "COMPLETE", "model_id"].iloc[3::8]
        at = replicates["model_id"].isin(lame)
        replicates.loc[at, "metric"] = 2.1 if minimised else rng.uniform(0.2, 0.5, at.sum())
        replicates.loc[at, "stability"] += 0.05
        reason = "is 28% of the way from the baseline to the best model's: below the floor of 50%"
        excluded += [Exclusion(model_id, f"{metric.name} {reason}") for model_id in lame]
    failures = [
        {
            "trial": 7 * i,
            "model": row.model_id,
            "state": row.state,
            "reason": row.reason,
            "log_tail": "step 211 loss 3.1\nstep 212 loss nan\nValueError: loss is not finite",
        }
        for i, row in enumerate(models[models["state"] != "COMPLETE"].itertuples())
    ]
    config = {
        "name": "digits",
        "task": "digits",
        "budget": {"epochs": 15, "batch_size": 64},
        "replicates": 3,
        "trials": count + 5,
        "sampler": {"name": "tpe", "seed": 0},
        "objectives": ["stability", "explainability", "accuracy"],
        "ranking": {"alpha": 0.5, "floor": 0.5},
    }
    return Sweep(
        models=models,
        replicates=replicates,
        ranking=make_ranking(models, replicates, metric, tuple(excluded)),
        metric=metric,
        config=config,
        failures=failures,
        environment={
            "python": "3.11.9",
            "packages": {"torch": "2.13.0", "ray": "2.60.0", "optuna": "5.0.0"},
            "cpus": 2,
        },
        commands={"train_winner": "tracerank run runs/digits/report/winner.yaml"},
    )
