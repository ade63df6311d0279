"""Everything the page says, as plain data that can be written as JSON, with nothing drawn yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from search_spaces import task_name
from sweeps import yaml_text
from sweeps.ranking import READINGS, fingerprint
from sweeps.report.alphas import alpha_facts
from sweeps.report.browsed import WHOLE, Depth, browsed
from sweeps.report.details import ModelTraces, details
from sweeps.report.drawn import drawn
from sweeps.report.influence import Importances, influence
from sweeps.report.settings import common_settings, flat, model_names, own_settings
from sweeps.report.validity import validity_facts
from sweeps.report.verdict import alpha_sentence, tally, verdict
from sweeps.report.wording import capitalised, finite

if TYPE_CHECKING:
    from sweeps.ranking import MetricInfo, Ranking
    from sweeps.validity import Assessment
    from trace_core.statistics import Array

LEADERS = 5
"""Models that get a letter and a colour, and are drawn over the steps."""

KEYS = "ABCDEFGH"
FIGURES = (
    "traceability",
    "stability",
    "explainability",
    "change_rate",
    "article_score",
    "metric",
    "metric_best",
    "metric_test",
    "share_first",
    "p_first",
)


@dataclass(frozen=True)
class Facts:
    """What the page says, in the order in which it says it; values are of JSON's types only.

    Every ``models`` row is the row of ``ranking.json`` and more: ``name``, ``own_settings`` (those
    that not all models share), ``key`` (the letter of a model that is drawn, or None), ``pareto``,
    and ``ranges`` over the replicates. Figures that are missing are None.
    """

    name: str
    task: str
    metric: dict[str, Any]
    alpha: dict[str, Any]
    verdict: dict[str, Any]
    alpha_sentence: str
    tally: str
    warnings: list[str]
    models: list[dict[str, Any]]
    common_settings: dict[str, Any]
    excluded: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    alphas: dict[str, Any]
    grid: dict[str, Any]
    influence: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    trials: dict[str, int]
    commands: dict[str, str]
    kinds: dict[str, str]
    omnibus: dict[str, Any]
    validity: dict[str, Any]
    replicates: int
    seeds: list[int]
    browsed: dict[str, Any]
    fingerprint: str
    environment: dict[str, str]
    configuration: str

    def to_json(self) -> dict[str, Any]:
        """The facts as nested dicts and lists."""
        return asdict(self)


def build_facts(
    *,
    ranking: Ranking,
    validity: Assessment | None,
    config: Mapping[str, Any],
    metric: MetricInfo,
    models: pd.DataFrame,
    replicates: pd.DataFrame,
    traces: Callable[[str], ModelTraces],
    curves: Callable[[str], Sequence[Array]],
    failures: Sequence[Mapping[str, Any]],
    environment: Mapping[str, Any],
    commands: Mapping[str, str],
    importances: Importances,
    depth: Depth = WHOLE,
) -> Facts:
    """Gather the facts; ``traces`` is asked for those of the leading models alone, and what takes
    long is left out as far as ``depth`` says.
    """
    table = ranking.to_json()
    kinds = score_kinds(config)
    described = _described(models)
    names = model_names(described)
    scored = with_scores(replicates, table["reading"], table["alpha"])
    means = complete_means(models, scored)
    common = common_settings([dict(row["settings"] or {}) for row in described.values()])
    rows = _rows(table, names, common, scored)
    alphas = alpha_facts([row["model_id"] for row in rows], scored, table["leaders"], LEADERS)
    _give_keys(rows, [line["model_id"] for line in alphas["lines"]])
    excluded = _excluded(table["excluded"], described, names, common, means)
    measured = metric_facts(metric, rows, excluded, config)
    omnibus = table["omnibus"]
    seed = int((config.get("sampler") or {}).get("seed", 0))

    def deep(row: Mapping[str, Any], phased: bool = True) -> dict[str, Any]:
        stored = traces(row["model_id"])
        return details(stored, kinds, phased)

    in_depth = {
        row["model_id"]: deep(row, phased=place < depth.phased)
        for place, row in enumerate(rows[: depth.detailed])
    }
    # Why a model did not learn is asked too; one of which a training failed has no whole story.
    trained = [row for row in excluded if row["state"] == "COMPLETE"]
    unranked = {row["model_id"]: deep(row) for row in trained[: depth.unranked]}
    alpha = {"value": table["alpha"], "reading": table["reading"]}
    alpha |= {"source": table["alpha_source"], "note": table["alpha_note"]}
    return Facts(
        name=str(config.get("name", "sweep")),
        task=task_name(config.get("task", "")),
        metric=measured,
        alpha=alpha,
        verdict=verdict(rows, excluded, omnibus, measured),
        alpha_sentence=alpha_sentence(alpha, rows[0] if rows else None),
        tally=tally(len(rows), len(excluded), table["trials"]),
        warnings=[capitalised(str(warning)) for warning in ranking.warnings],
        models=rows,
        common_settings=common,
        excluded=excluded,
        curves=[
            {"model_id": model_id, **in_depth[model_id]} for model_id in list(in_depth)[:LEADERS]
        ],
        alphas=alphas,
        grid=grid(described, rows, means),
        influence=influence(rows, importances) if depth.searched else [],
        failures=[_failure(failure, names) for failure in failures],
        trials={state: int(amount) for state, amount in table["trials"].items()},
        commands={str(label): str(text) for label, text in commands.items()},
        kinds=kinds,
        omnibus=omnibus,
        validity=validity_facts(validity, measured),
        replicates=int(config.get("replicates", 0)),
        seeds=sorted({int(seed) for seed in replicates["seed"]}) if len(replicates) else [],
        browsed=browsed(
            rows,
            replicates,
            in_depth | unranked,
            [curves(row["model_id"]) for row in rows],
            scored,
            seed if depth.searched else None,
        )
        | {"scatter": drawn(rows, excluded, replicates)},
        fingerprint=fingerprint(table),
        environment=flat(environment),
        configuration=yaml_text.write(dict(config)),
    )


def score_kinds(config: Mapping[str, Any]) -> dict[str, str]:
    """Which kind of stability, change rate and concentration the scores are of."""
    chosen = config.get("ranking") or {}
    defaults = {"stability": "steadiness", "change_rate": "rms", "explainability": "gini"}
    return {name: str(chosen.get(name, default)) for name, default in defaults.items()}


def with_scores(replicates: pd.DataFrame, reading: str, alpha: float) -> pd.DataFrame:
    """The replicate table with what α weighs (``first``), 1 − α (``second``) and ``traceability``.

    In the article's reading both are its score where its two terms were not kept.
    """
    names = READINGS[reading]
    if any(name not in replicates for name in names):
        names = ("article_score", "article_score")
    first, second = (replicates[name].astype(float) for name in names)
    score = alpha * first + (1 - alpha) * second
    return replicates.assign(first=first, second=second, traceability=score)


def complete_means(
    models: pd.DataFrame, scored: pd.DataFrame
) -> dict[str, dict[str, float | None]]:
    """Mean figures over the replicates, of models all of whose trainings finished.

    A model that diverged in part is not averaged over its survivors: it has no entry.
    """
    complete = models.loc[models["state"] == "COMPLETE", "model_id"]
    of_complete = scored[scored["model_id"].isin(complete)]
    means = of_complete.groupby("model_id")[["traceability", "metric"]].mean()
    return {
        str(model): {str(column): finite(value) for column, value in row.items()}
        for model, row in means.to_dict("index").items()
    }


def metric_facts(
    metric: MetricInfo,
    rows: Sequence[Mapping[str, Any]],
    excluded: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """The metric, its baseline, the best of all models and the floor that learning has to reach."""
    choose = max if metric.direction == "maximize" else min
    known = [row for row in [*rows, *excluded] if row["metric"] is not None]
    best = choose(known, key=lambda row: row["metric"], default=None)
    best_ranked = choose((row["metric"] for row in rows), default=None)
    baseline = finite(metric.baseline)
    share = float((config.get("ranking") or {}).get("floor", 0.5))
    floor = None
    if best_ranked is not None and baseline is not None:
        floor = baseline + share * (best_ranked - baseline)
    return {
        "name": metric.name,
        "label": metric.name.replace("_", " "),
        "direction": metric.direction,
        "baseline": baseline,
        "best": best["metric"] if best else None,
        "best_model": best["model_id"] if best else None,
        "best_name": best["name"] if best else None,
        "floor": floor,
        "floor_share": share,
    }


def grid(
    described: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    means: Mapping[str, Mapping[str, float | None]],
) -> dict[str, Any]:
    """Mean traceability and metric of the models tried, per architecture and initialisation.

    ``cells`` are in the order of ``architectures`` × ``inits``, None where nothing was tried;
    ``measured`` counts the models whose trainings all finished, over which the means are taken.
    """
    ranked = {row["model_id"] for row in rows}
    architectures = sorted({str(model["architecture"]) for model in described.values()})
    inits = sorted({str(model["init"]) for model in described.values()})
    members: dict[tuple[str, str], list[str]] = {}
    for model_id, model in described.items():
        place = (str(model["architecture"]), str(model["init"]))
        members.setdefault(place, []).append(model_id)

    def cell(place: tuple[str, str]) -> dict[str, Any] | None:
        ids = members.get(place)
        if not ids:
            return None
        figures = [means[model_id] for model_id in ids if model_id in means]
        return {
            "tried": len(ids),
            "measured": len(figures),
            "ranked": len(ranked.intersection(ids)),
            "traceability": _mean(figures, "traceability"),
            "metric": _mean(figures, "metric"),
        }

    return {
        "architectures": architectures,
        "inits": inits,
        "cells": [[cell((a, i)) for i in inits] for a in architectures],
    }


def _mean(figures: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    known = [value for each in figures if (value := each[name]) is not None]
    return float(np.mean(known)) if known else None


def _give_keys(rows: Sequence[dict[str, Any]], drawn: Sequence[str]) -> None:
    """A letter for every model that is drawn: the first ones, and those that lead for some α."""
    first = [row["model_id"] for row in rows[:LEADERS]]
    letters = dict(zip(dict.fromkeys([*first, *drawn]), KEYS, strict=False))
    for row in rows:
        row["key"] = letters.get(row["model_id"])


def _rows(
    table: Mapping[str, Any],
    names: Mapping[str, str],
    common: Mapping[str, Any],
    scored: pd.DataFrame,
) -> list[dict[str, Any]]:
    front = set(table["pareto"])
    traceability = _extent(scored, "traceability")
    metric = _extent(scored, "metric")
    return [
        dict(row)
        | {name: finite(row[name]) for name in FIGURES}
        | {
            "name": names[row["model_id"]],
            "own_settings": own_settings(row["settings"], common),
            "key": None,
            "pareto": row["model_id"] in front,
            "ranges": {
                "traceability": traceability.get(row["model_id"]),
                "metric": metric.get(row["model_id"]),
            },
        }
        for row in table["models"]
    ]


def _extent(table: pd.DataFrame, column: str) -> dict[str, list[float]]:
    """Lowest and highest value of each model's trainings."""
    # A negative zero is a zero, as in `finite`.
    figures = table[column].to_numpy(dtype=np.float64) + 0.0
    known = np.isfinite(figures)
    of_models = pd.Series(figures[known]).groupby(table["model_id"].to_numpy()[known])
    ends = of_models.agg(["min", "max"])
    return dict(zip(map(str, ends.index), ends.to_numpy().tolist(), strict=True))


def _described(models: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """What is said of each model besides its figures, by its id."""
    names = ("architecture", "init", "settings", "state")
    columns = [models[name].tolist() for name in names]
    return {
        str(model_id): dict(zip(names, values, strict=True))
        for model_id, *values in zip(models["model_id"].tolist(), *columns, strict=True)
    }


def _excluded(
    given: Sequence[Mapping[str, Any]],
    described: Mapping[str, Mapping[str, Any]],
    names: Mapping[str, str],
    common: Mapping[str, Any],
    means: Mapping[str, Mapping[str, float | None]],
) -> list[dict[str, Any]]:
    rows = []
    for entry in given:
        model_id = str(entry["model_id"])
        model = described.get(model_id)
        figures = means.get(model_id, {})
        rows.append(
            {
                "model_id": model_id,
                "name": names.get(model_id, model_id),
                "architecture": str(model["architecture"]) if model else "",
                "init": str(model["init"]) if model else "",
                "own_settings": own_settings(model["settings"] or {}, common) if model else {},
                "state": str(model["state"]) if model else "",
                "reason": str(entry["reason"]),
                "traceability": figures.get("traceability"),
                "metric": figures.get("metric"),
            }
        )
    return rows


def _failure(failure: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    model_id = str(failure.get("model") or "")
    return {
        "trial": int(failure["trial"]),
        "model_id": model_id,
        "name": names.get(model_id, model_id),
        "state": str(failure["state"]),
        "reason": str(failure.get("reason") or ""),
        "log_tail": str(failure.get("log_tail") or ""),
    }
