"""The validity panel in words: does the ranking go with performance that nothing chose?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweeps.report.wording import count, finite, listing, number
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


def validity_facts(found: Assessment, metric: Mapping[str, Any]) -> dict[str, Any]:
    """The panel's data: ``verdict``, ``sentences``, and ``rows`` for the score and each trivial
    property (``name``, ``tau``, ``low``, ``high``, ``added``, ``added_p``).
    """
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
        "sentences": [_sentence(found, label), *_repeatability(found)],
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
    tau = (
        f"Kendall's τ {number(found.score.value, 2)}, 95% from {number(found.score.low, 2)} to "
        f"{number(found.score.high, 2)}"
    )
    if found.verdict == "chance":
        return (
            f"Among the {ranked}, the order by traceability can't be told from chance as an order "
            f"by {label} on held-out data ({tau}). Choose by it for how learning can be followed, "
            "not for performance."
        )
    way = "better" if found.score.value > 0 else "worse"
    goes = f"Among the {ranked}, more traceable models have a {way} {label} on held-out data"
    names = [_NAMES[name].format(metric=label) for name in found.confounders]
    if found.verdict == "explained":
        return (
            f"{goes} ({tau}), but what they differ in besides may be the reason: given "
            f"{listing(names)}, nothing is left that could be told from chance "
            f"(p = {number(found.left.p_value, 2)})."
        )
    if found.verdict == "untested":
        return (
            f"{goes} ({tau}). Whether {listing(names)} are the reason can't be told from so few "
            "models."
        )
    given = f", also given {listing(names)}" if names else ""
    return f"{goes} ({tau}){given}."


def _repeatability(found: Assessment) -> list[str]:
    tau = finite(found.repeatability)
    if tau is None:
        return []
    unsteady = ": a single seed says little" if tau < _LOW else ""
    return [f"Rankings by single seeds agree with τ {number(tau, 2)} on average{unsteady}."]
