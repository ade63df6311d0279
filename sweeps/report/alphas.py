"""The rank of a model as a function of α: steps between the points where its line crosses another.

A model's score is a straight line in α, from the component that 1 − α weighs to the one that α
weighs (explainability and stability), so between two neighbouring crossings no rank changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from trace_core.alpha import rank_steps

OTHERS = 3
"""Models drawn beside the first ones because they lead for some α."""


def alpha_facts(
    model_ids: Sequence[str], scored: pd.DataFrame, leaders: Sequence[dict[str, Any]], most: int
) -> dict[str, Any]:
    """Rank against α of the first ``most`` of ``model_ids``, and who leads where.

    ``scored`` has what α weighs (``first``) and what 1 − α weighs (``second``) of every training,
    ``leaders`` a ``{"model_id", "from", "to"}`` per stretch of α and model that leads there;
    without leaders there is nothing to draw.

    ``spans`` holds each stretch once with all its ``models``, and ``lines`` a
    ``{"model_id", "steps"}`` for the first ``most`` models and for up to ``OTHERS`` further ones
    that lead somewhere, those of the widest stretches.
    """
    if not leaders:
        return {"lines": [], "spans": []}
    means = scored.groupby("model_id")[["first", "second"]].mean().loc[list(model_ids)]
    first, second = means["first"].to_numpy(), means["second"].to_numpy()
    place = {model_id: index for index, model_id in enumerate(model_ids)}
    stretches: dict[tuple[float, float], list[str]] = {}
    further: dict[int, float] = {}
    for leader in leaders:
        low, high = float(leader["from"]), float(leader["to"])
        stretches.setdefault((low, high), []).append(leader["model_id"])
        index = place[leader["model_id"]]
        if index >= most:
            further[index] = further.get(index, 0.0) + high - low
    widest = sorted(further, key=lambda index: -further[index])[:OTHERS]
    drawn = [*range(min(most, len(model_ids))), *widest]
    return {
        "lines": [
            {
                "model_id": model_ids[index],
                "steps": rank_steps(first, second, index),
            }
            for index in drawn
        ],
        "spans": [
            {"low": low, "high": high, "models": models}
            for (low, high), models in sorted(stretches.items())
        ],
    }
