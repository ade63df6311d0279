"""The rank of a model as a function of α: steps between the points where its line crosses another.

A model's score is a straight line in α, from the component that 1 − α weighs to the one that α
weighs (explainability and stability), so between two neighbouring crossings no rank changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

OTHERS = 3
"""Models drawn beside the first ones because they lead for some α."""


def rank_steps(
    first: NDArray[np.float64], second: NDArray[np.float64], model: int
) -> list[tuple[float, float, int]]:
    """``(low, high, rank)`` of one model over [0, 1], in order and without gaps.

    Of models with equal scores all have the better rank, as in a race.
    """
    at_zero = second - second[model]
    at_one = first - first[model]
    crossed = np.divide(
        at_zero, at_zero - at_one, out=np.full(len(at_zero), -1.0), where=at_zero != at_one
    )
    bounds = np.unique(np.concatenate(([0.0, 1.0], crossed[(crossed > 0) & (crossed < 1)])))
    middles = ((bounds[:-1] + bounds[1:]) / 2)[:, None]
    better = at_zero * (1 - middles) + at_one * middles > 0
    steps: list[tuple[float, float, int]] = []
    for low, high, rank in zip(bounds[:-1], bounds[1:], 1 + better.sum(axis=1), strict=True):
        if steps and steps[-1][2] == rank:
            steps[-1] = (steps[-1][0], float(high), int(rank))
        else:
            steps.append((float(low), float(high), int(rank)))
    return steps


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
