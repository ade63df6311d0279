"""The validity panel in words: does the ranking go with performance that nothing chose?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweeps.report.wording import count, finite, listing, number, significant
from sweeps.validity import FEWEST_MODELS

if TYPE_CHECKING:
    from sweeps.validity import Assessment

_NAMES = {
    "parameters": "number of parameters",
    "learning_rate": "learning rate",
    "weight_decay": "weight decay",
    "batch_size": "batch size",
    "epochs": "number of epochs",
    "metric_early": "{metric} after a tenth of the budget",
    "train_loss": "training loss at the end",
    "train_loss_sum": "sum of training losses",
}
_LOW = 0.4
"""τ between single seeds under which an order is called unsteady."""


def validity_facts(found: Assessment | None, metric: Mapping[str, Any]) -> dict[str, Any]:
    """The panel's data: ``verdict``, ``sentences``, and ``rows`` for the score and each trivial
    property (``name``, ``tau``, ``low``, ``high``, ``added``, ``added_p``). Sentences alone where
    nothing was assessed.
    """
    if found is None:
        return {"sentences": ["Told at the end, of all models."], "rows": []}
    label = str(metric["label"])
    rows = [_row("traceability", found.score)]
    for name, each in found.beside.items():
        added = found.added[name]
        rows.append(
            _row(_NAMES.get(name, name).format(metric=label), each)
            | {"added": finite(added.value), "added_p": finite(added.p_value)}
        )
    return {
        "verdict": found.verdict,
        "models": found.models,
        "sentences": [_sentence(found, label), *_fitted(found, label), *_repeatability(found)],
        "rows": rows if found.verdict != "few" else [],
        "p_value": finite(found.score.p_value),
        "left": finite(found.left.value),
        "left_p": finite(found.left.p_value),
        "repeatability": finite(found.repeatability),
    }


def _row(name: str, each: Any) -> dict[str, Any]:
    figures = {"tau": each.value, "low": each.low, "high": each.high}
    return {"name": name, "added": None, "added_p": None} | {
        key: finite(value) for key, value in figures.items()
    }


def _sentence(found: Assessment, label: str) -> str:
    ranked = count(found.models, "ranked model")
    if found.verdict == "few":
        return (
            f"With {ranked} there are too few to ask whether traceability goes with the {label} on "
            f"held-out data: it takes {FEWEST_MODELS} that differ."
        )
    if not math.isfinite(found.score.value):
        return f"The {ranked} all have the same traceability, or the same {label} on held-out data."
    tau = (
        f"Kendall's τ {number(found.score.value, 2)}, 95% from {number(found.score.low, 2)} to "
        f"{number(found.score.high, 2)}, p = {significant(found.score.p_value, 2)}"
    )
    if found.verdict == "chance":
        return (
            f"Among the {ranked}, the order by traceability can't be told from chance, at 1%, as "
            f"an order by {label} on held-out data ({tau}): it is no guide to performance here."
        )
    way = "better" if found.score.value > 0 else "worse"
    goes = f"Among the {ranked}, more traceable models have a {way} {label} on held-out data"
    names = listing([_NAMES[name].format(metric=label) for name in found.confounders] or [""])
    if found.verdict == "explained":
        chance = significant(found.left.p_value, 2)
        nothing = (
            ""
            if math.isnan(found.left.p_value)
            else f" that could be told from chance (p = {chance})"
        )
        return (
            f"{goes} ({tau}), but what they differ in besides may be the reason: given {names}, "
            f"nothing is left{nothing}."
        )
    if found.verdict == "untested":
        return f"{goes} ({tau}). Of so few models it can't be told whether {names} is the reason."
    if found.verdict == "reversed":
        return (
            f"{goes} ({tau}), but given {names} it is the other way round (correlation of what is "
            f"left {number(found.left.value, 2)}): what they differ in besides is the reason."
        )
    return f"{goes} ({tau}){f', also given {names}' if found.confounders else ''}."


def _fitted(found: Assessment, label: str) -> list[str]:
    if not found.fitted:
        return []
    return [f"α was accepted for its agreement with this very {label}, which flatters the order."]


def _repeatability(found: Assessment) -> list[str]:
    tau = finite(found.repeatability)
    if tau is None:
        return []
    unsteady = ": a single seed says little" if tau < _LOW else ""
    return [f"Rankings by single seeds agree with τ {number(tau, 2)} on average{unsteady}."]
