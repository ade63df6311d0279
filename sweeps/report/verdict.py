"""The verdict: which model, how sure, compared with what, in a sentence or two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.report.wording import count, listing, number, percent, significant

_SOURCES = {
    "fixed": "set beforehand",
    "std": "from the spread of the two components over these models",
    "entropy": "from the entropy of the two components over these models",
    "cross_validated": "the value that agrees best with the validation metric",
    "cross_validated: fallback": "the default, because no α could be supported by the data",
}


def verdict(
    rows: Sequence[Mapping[str, Any]],
    excluded: Sequence[Mapping[str, Any]],
    omnibus: Mapping[str, Any],
    metric: Mapping[str, Any],
) -> dict[str, Any]:
    """``kind``, ``headline`` and ``sentences`` for the ranked ``rows``, best first.

    ``omnibus`` has ``p_value`` and ``distinguishable``; ``kind`` is one of none, one,
    indistinguishable, tied, clear.
    """
    if not rows:
        return _none(excluded)
    leader = rows[0]
    name = short_name(leader)
    if len(rows) == 1:
        headline = f"{name} is the only model that could be ranked."
        return _of(
            "one", headline, ["There is nothing to compare it with.", _quality(leader, metric)]
        )
    if not omnibus["distinguishable"]:
        headline = f"The {len(rows):,} models cannot be told apart."
        return _of(
            "indistinguishable",
            headline,
            [_chance(omnibus), _highest(leader), _quality(leader, metric)],
        )
    tied = [row for row in rows if row["rank_low"] == 1]
    others = [row["name"] for row in tied if row["model_id"] != leader["model_id"]]
    if others:
        headline = f"{name} scores highest, tied with {count(len(others), 'other')}."
        why = (
            f"Tied with it: {listing(others)}. Another choice of seeds could bring any of these "
            f"{len(tied):,} to the top. {_probability(leader, rows)}"
        )
        return _of("tied", headline, [why, _quality(leader, metric)])
    headline = f"{name} is the most traceable model."
    return _of("clear", headline, [_probability(leader, rows), _quality(leader, metric)])


def alpha_sentence(alpha: Mapping[str, Any], leader: Mapping[str, Any] | None) -> str:
    """The common α, where it came from, and how far the leader's place hangs on it."""
    source = _SOURCES.get(str(alpha["source"]), str(alpha["source"]))
    value = significant(alpha["value"])
    sentence = f"α, the weight of stability against explainability, is {value}: {source}."
    if leader is None or leader["share_first"] is None:
        return sentence
    share = percent(leader["share_first"])
    return f"{sentence} {short_name(leader)} is first over {share} of all possible α."


def tally(ranked: int, excluded: int, trials: Mapping[str, int]) -> str:
    """How many models and trials there were, by what became of them."""
    states = ("COMPLETE", "PRUNED", "FAILED", "INTERRUPTED")
    total = sum(trials.get(state, 0) for state in states)
    ended = ", ".join(f"{trials[s]:,} {s.lower()}" for s in states if trials.get(s))
    return (
        f"{count(ranked, 'model')} ranked, {excluded:,} excluded. "
        f"{count(total, 'trial')}{f' ({ended})' if ended else ''}: "
        f"{trials.get('trained', 0):,} trained, {trials.get('replayed', 0):,} replayed from "
        "a stored trace."
    )


def short_name(model: Mapping[str, Any]) -> str:
    """A model's architecture and initialisation, where it is clear which one is meant."""
    return f"{model['architecture']} · {model['init']}"


def _of(kind: str, headline: str, sentences: Sequence[str]) -> dict[str, Any]:
    return {"kind": kind, "headline": headline, "sentences": [s for s in sentences if s]}


def _none(excluded: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not excluded:
        return _of("none", "There is no model to rank.", ["No training has finished yet."])
    reasons = Counter(str(row["reason"]) for row in excluded)
    named = [f"{reason} ({amount:,})" for reason, amount in reasons.most_common()]
    why = (
        f"All {len(excluded):,} were excluded" if len(excluded) > 1 else "The only one was excluded"
    )
    return _of(
        "none",
        "No model is eligible, so there is no ranking.",
        [f"{why}: {'; '.join(named[:4])}{'; and other reasons' if len(named) > 4 else ''}."],
    )


def _chance(omnibus: Mapping[str, Any]) -> str:
    if omnibus["p_value"] is None:
        return "There are too few replicates to test whether the models differ."
    return (
        "The differences in their traceability are no larger than chance could bring "
        f"(permutation test over all models, p = {significant(omnibus['p_value'], 2)})."
    )


def _highest(leader: Mapping[str, Any]) -> str:
    return (
        f"The highest mean, {number(leader['traceability'])}, is that of {short_name(leader)}; "
        "that it is first may be chance, so no probability is given."
    )


def _probability(leader: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    if leader["rank_high"] == 1:
        where = "it is significantly ahead of every other model"
    else:
        where = f"its rank lies between {leader['rank_low']} and {leader['rank_high']}"
    if leader["p_first"] is None:
        return f"Of {len(rows):,} models ranked, {where}."
    chance = percent(leader["p_first"])
    return f"The probability that it is first of the {len(rows):,} ranked is {chance}; {where}."


def _quality(leader: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    if leader["metric"] is None:
        return ""
    text = f"Its validation {metric['label']} is {number(leader['metric'])}"
    if metric["best_model"] == leader["model_id"]:
        text += ", the best of all models tried"
    elif metric["best"] is not None:
        text += f"; the best of all models, {metric['best_name']}, has {number(metric['best'])}"
    if metric["baseline"] is None:
        return f"{text}."
    return f"{text}, and a trivial predictor {number(metric['baseline'])}."
