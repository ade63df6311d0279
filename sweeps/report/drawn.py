"""What the page's scatter is given beside the ranked models.

The excluded ones that have figures, and the single trainings of the models with letters, so that
both follow α and the kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sweeps.report.wording import finite
from sweeps.scoring import KIND_COLUMNS


def drawn(
    rows: Sequence[Mapping[str, Any]],
    excluded: Sequence[Mapping[str, Any]],
    replicates: pd.DataFrame,
) -> dict[str, Any]:
    """``excluded``: a list for every column, and under ``values`` the mean of every kind;
    ``seeds`` by model id: ``metric`` and ``values``, in the order of the seeds.
    """
    names = [name for name in (*KIND_COLUMNS, "article_explainability") if name in replicates]
    shown = [r for r in excluded if r["metric"] is not None and r["traceability"] is not None]
    left_out = [row["model_id"] for row in shown]
    lettered = [row["model_id"] for row in rows if row["key"]]
    means: dict[Any, Any] = {}
    trainings: dict[Any, pd.DataFrame] = {}
    if left_out or lettered:
        ordered = replicates.sort_values(["model_id", "seed"])
        of_excluded = ordered[ordered["model_id"].isin(left_out)].groupby("model_id")[names]
        means = of_excluded.mean(skipna=False).to_dict()
        trainings = dict(list(ordered[ordered["model_id"].isin(lettered)].groupby("model_id")))
    return {
        "excluded": {
            **{
                name: [row[name] for row in shown]
                for name in ("model_id", "name", "reason", "metric")
            },
            "values": {name: [_short(means[name][each]) for each in left_out] for name in names},
        },
        "seeds": {
            model: {
                "metric": [_short(value) for value in trainings[model]["metric"]],
                "values": {
                    name: [_short(value) for value in trainings[model][name]] for name in names
                },
            }
            for model in lettered
        },
    }


def _short(value: Any) -> float | None:
    """Six significant figures: finer than a drawing shows."""
    return finite(f"{value:.6g}")
