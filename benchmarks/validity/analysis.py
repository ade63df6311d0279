"""From measures to findings: every measure of every pool against what it is to tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.validity.correlations import resampled, spearman, weighted_kendall
from benchmarks.validity.gather import CONCENTRATIONS, HALF, RATES, STABILITIES
from sweeps.validity import FEWEST_MODELS, association, kendall, repeatability, residual
from trace_core.alpha import common_alpha

FLOOR = 0.5
"""Of the best model's lead over the baseline that a model must have, as in a sweep's ranking."""

FLOORS = (0.0, 0.25, FLOOR, 0.75)
DEFAULT = ("steadiness", "gini")
ALPHAS = ("std", "entropy")
FITTED = ("cross_validated",)
TRIVIAL = ("parameters", "learning_rate", "loss", "loss_sum", "early")
_LESS_IS_MORE = ("change_rate.", "loss")
WEIGHTED_DRAWS = 300


def usefulness(measures: pd.DataFrame) -> pd.DataFrame:
    """A row for every pool, share of the budget and measure: association with the test metric at
    the end, what is left of it given the confounders and given the early validation metric, and how
    alike the orders of single seeds are.
    """
    rows = []
    for (task, kind, importance), pool in measures.groupby(["task", "kind", "importance"]):
        named = {"task": task, "kind": kind, "importance": importance}
        eligible = _eligible(pool)
        for share in sorted(set(pool["share"]) - {HALF}):
            part = pool[(pool["share"] == share) & pool["model_id"].isin(eligible)]
            for name, by_seed in _candidates(part, importance):
                found = _against_test(part, name, by_seed)
                rows.append(named | {"share": share, "measure": name} | found)
    return pd.DataFrame(rows)


def foretelling(measures: pd.DataFrame, followed: pd.DataFrame) -> pd.DataFrame:
    """A row for every task, kind of pool, measure of the first half and skill of foretelling the
    second.
    """
    rows = []
    pools = measures[measures["importance"] == "taylor"].groupby(["task", "kind"])
    for (task, kind), trained in followed.groupby(["task", "kind"]):
        pool = pools.get_group((task, kind))
        first = pool[(pool["share"] == HALF) & pool["model_id"].isin(_eligible(pool))]
        skills = trained.groupby("model_id")
        for skill in ("path_skill", "loss_skill"):
            target = skills[skill].mean().reindex(sorted(set(first["model_id"])))
            for name, by_seed in _candidates(first, "taylor"):
                score = by_seed.mean(axis=1)
                there = (target.notna() & score.notna()).to_numpy()
                found = association(score[there], target[there])
                left = residual(
                    score[there], target[there], [each[there] for each in _confounders(first)]
                )
                rows.append(
                    {"task": task, "kind": kind, "skill": skill, "measure": name}
                    | {"models": int(there.sum())}
                    | {"mean_skill": float(target[there].mean()), "tau": found.value}
                    | {"low": found.low, "high": found.high, "p": found.p_value}
                    | {"left": left.value, "left_p": left.p_value}
                )
    return pd.DataFrame(rows)


def faithfulness(zeroed: pd.DataFrame) -> pd.DataFrame:
    """Median rise of the loss over models, by task, estimator and fraction, and in how many of them
    zeroing the first costs more than zeroing as many drawn from the same tensors.
    """
    ways = ["top", "shuffled", "random", "bottom"]
    grouped = zeroed.assign(wins=zeroed["top"] > zeroed["shuffled"]).groupby(
        ["task", "estimator", "fraction"]
    )
    table = grouped[ways].median()
    return table.assign(wins=grouped["wins"].sum(), models=grouped.size()).reset_index()


def choices(measures: pd.DataFrame) -> pd.DataFrame:
    """What two other defaults decide, by task, on the free pools: the association of the default
    score with the test metric above each learning floor (``of`` "floor"), and how alike its orders
    are by disjoint sets of seeds (``of`` "replicates").
    """
    rows: list[dict[str, Any]] = []
    whole = measures[measures["share"] == 1.0]
    for task, pool in whole[(whole["kind"] == "free") & (whole["importance"] == "taylor")].groupby(
        "task"
    ):
        for floor in FLOORS:
            part = pool[pool["model_id"].isin(_eligible(pool, floor))]
            scores = dict(_candidates(part, "taylor"))["score.0.5"].mean(axis=1)
            test = part.groupby("model_id")["test"].mean().sort_index()
            found = association(scores, test)
            rows.append(
                {"task": task, "of": "floor", "choice": floor, "models": len(scores)}
                | {"tau": found.value, "low": found.low, "high": found.high, "p": found.p_value}
            )
        part = pool[pool["model_id"].isin(_eligible(pool))]
        by_seed = dict(_candidates(part, "taylor"))["score.0.5"]
        seeds = list(by_seed)
        for count in range(1, len(seeds) // 2 + 1):
            sets = list(combinations(seeds, count))
            taus = [
                kendall(by_seed[list(one)].mean(axis=1), by_seed[list(other)].mean(axis=1))
                for one, other in combinations(sets, 2)
                if not set(one) & set(other)
            ]
            rows.append(
                {"task": task, "of": "replicates", "choice": count, "models": len(by_seed)}
                | {"tau": float(np.mean(taus))}
            )
    return pd.DataFrame(rows)


def schedules(measures: pd.DataFrame) -> pd.DataFrame:
    """A row for every task of which a pool varies the schedule, and measure: the share of its ranks
    that learning rate, weight decay and size explain, and that with the schedule (``scheduled``);
    and its association with the schedule, positive where cosine has more of it.
    """
    rows = []
    ended = measures[(measures["kind"] == "schedules") & (measures["share"] == 1.0)]
    for task, pool in ended.groupby("task"):
        part = pool[pool["model_id"].isin(_eligible(pool))]
        cosine = (part["schedule"] == "cosine").groupby(part["model_id"]).mean().sort_index()
        for name, by_seed in _candidates(part, "taylor"):
            score = by_seed.mean(axis=1)
            if score.isna().any() or score.nunique() < 2:
                continue
            settings = _confounders(part)
            found = association(score, cosine)
            rows.append(
                {"task": task, "measure": name, "models": len(score)}
                | {"explained": residual(score, score, settings).explained}
                | {"scheduled": residual(score, score, [*settings, cosine]).explained}
                | {"tau": found.value, "low": found.low, "high": found.high, "p": found.p_value}
            )
    return pd.DataFrame(rows)


def _eligible(pool: pd.DataFrame, floor: float = FLOOR) -> list[str]:
    """The models above the floor, by the validation metric at the end."""
    end = pool[pool["share"] == 1.0].groupby("model_id")[["validation", "baseline"]].mean()
    lead = end["validation"] - end["baseline"]
    return sorted(lead.index[lead >= floor * lead.max()])


def _candidates(part: pd.DataFrame, importance: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every measure by model and seed, higher is to mean better."""
    tables = {}

    def table(column: str) -> pd.DataFrame:
        if column not in tables:
            tables[column] = part.pivot_table(
                index="model_id", columns="seed", values=column, dropna=False
            ).sort_index()
        return tables[column]

    names = [f"explainability.{kind}" for kind in CONCENTRATIONS]
    if importance == "taylor":
        # The importance changes nothing of these.
        names += [f"stability.{kind}" for kind in STABILITIES]
        names += [f"change_rate.{kind}" for kind in RATES]
        names += ["article", *TRIVIAL]
    for name in names:
        sign = -1 if name.startswith(_LESS_IS_MORE) else 1
        label = f"trivial.{name}" if name in TRIVIAL else name
        yield label, sign * table(name)
    stability, gini = table(f"stability.{DEFAULT[0]}"), table(f"explainability.{DEFAULT[1]}")
    yield "score.0.5", 0.5 * stability + 0.5 * gini
    if importance == "taylor":
        for kind in STABILITIES[1:]:
            yield f"score.0.5.{kind}", 0.5 * table(f"stability.{kind}") + 0.5 * gini
        validation, test = table("validation").mean(axis=1), table("test").mean(axis=1)
        means = stability.mean(axis=1), gini.mean(axis=1)
        # So early that a stability is undefined, a pool has no α.
        there = bool(np.isfinite(means).all())
        # The cross-validated α is fitted to metrics that a part of the budget hasn't seen.
        whole = bool((part["share"] == 1.0).all())
        for scheme in (*ALPHAS, *(FITTED if whole else ())) if there else ():
            alpha = common_alpha(scheme, *means, validation=validation, test=test).alpha
            yield f"score.{scheme}", alpha * stability + (1 - alpha) * gini


def _confounders(part: pd.DataFrame) -> list[Any]:
    means = part.groupby("model_id")[["learning_rate", "weight_decay", "parameters"]].mean()
    return [np.log(means[name]).to_numpy() for name in means if means[name].nunique() > 1]


def _against_test(part: pd.DataFrame, name: str, by_seed: pd.DataFrame) -> dict[str, Any]:
    score = by_seed.mean(axis=1)
    means = part.groupby("model_id")[["test", "early"]].mean().sort_index()
    there = score.notna().to_numpy()
    x, y = score[there].to_numpy(), means["test"].to_numpy()[there]
    found: dict[str, Any] = {"models": len(x), "seeds": by_seed.shape[1]}
    if len(x) < FEWEST_MODELS or len(set(x)) < 2:
        return found
    tau = association(x, y)
    rho, rho_low, rho_high = resampled(spearman, x, y)
    weighted, weighted_low, weighted_high = resampled(weighted_kendall, x, y, draws=WEIGHTED_DRAWS)
    left = residual(x, y, [each[there] for each in _confounders(part)])
    added = residual(x, y, [means["early"].to_numpy()[there]])
    found |= {"tau": tau.value, "low": tau.low, "high": tau.high, "p": tau.p_value}
    found |= {"rho": rho, "rho_low": rho_low, "rho_high": rho_high}
    found |= {"weighted": weighted, "weighted_low": weighted_low, "weighted_high": weighted_high}
    found |= {f"left_{key}": value for key, value in asdict(left).items()}
    found |= {"added": added.value, "added_p": added.p_value}
    whole = [by_seed[seed][there] for seed in by_seed if by_seed[seed][there].notna().all()]
    return found | {"repeatability": repeatability(whole)}
