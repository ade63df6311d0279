"""What the page's scripts are given: the ranked models as columns, each with a thin curve, and the
leading ones in depth.

Scores are whole float64, so that the page orders the models as `sweeps.ranking` does at any α and
of any kind; what is only drawn is rounded. Packed as gzip'd JSON in base64: a browser unpacks that
itself, and a third of it is smaller than any numbers in text.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweeps.ranking import intervals_over_alpha
from sweeps.report.pairs import pair_figures
from sweeps.report.thin_curves import thin_curves
from sweeps.report.wording import finite
from sweeps.scoring import KIND_COLUMNS
from trace_core.statistics import Array


@dataclass(frozen=True)
class Depth:
    """How much is told: of how many leading models the curves and layers, and of how many of those
    the phases; of how many ``unranked`` ones all of that; and whether ``searched`` for the ranks
    that the data allow at every α, for what the order tells of performance, and for the settings
    that matter, which takes longer than all else.
    """

    detailed: int
    phased: int
    unranked: int
    searched: bool


WHOLE = Depth(detailed=500, phased=50, unranked=20, searched=True)
"""What a report has."""

COLUMNS = (
    *("model_id", "architecture", "init", "name", "key", "own_settings", "replicates"),
    *("rank_low", "rank_high", "p_first", "share_first"),
    *("metric", "metric_best", "metric_test", "change_rate", "article_score"),
)


def browsed(
    rows: Sequence[Mapping[str, Any]],
    replicates: pd.DataFrame,
    details: Mapping[str, Mapping[str, Any]],
    curves: Sequence[Sequence[Array]],
    scored: pd.DataFrame,
    seed: int | None,
) -> dict[str, Any]:
    """``models``: a list for every column, in order of rank, and under ``values`` the mean of every
    kind over a model's trainings; ``details`` by model id; ``curves``: what `thin_curves` makes of
    those of all models; ``intervals``: for every hundredth of α the ranks that the data allow
    (``low``, ``high``, a list each), of not too many models, and ``pairs``, from which any two of
    them are compared.

    ``scored`` has what α weighs (``first``) and what 1 − α weighs (``second``) of every training.
    Without a ``seed`` there are no intervals but those reported.
    """
    names = [name for name in (*KIND_COLUMNS, "article_explainability") if name in replicates]
    ids = [row["model_id"] for row in rows]
    ordered = replicates.sort_values(["model_id", "seed"]) if len(replicates) else replicates
    # As the ranking takes them: a kind that one training lacks, its model lacks.
    means = ordered.groupby("model_id")[names].mean(skipna=False) if len(ordered) else None
    values = {
        name: [finite(value) for value in means.loc[ids, name]] if means is not None else []
        for name in names
    }
    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    columns["settings"] = columns.pop("own_settings")
    weighed = scored[["first", "second"]].to_numpy()
    places = scored.groupby("model_id").indices if ids else {}
    parts = [weighed[places[each]] for each in ids]
    found = [] if seed is None else intervals_over_alpha(parts, seed)
    return {
        "models": {**columns, "values": values},
        "details": dict(details),
        "curves": thin_curves(curves),
        "intervals": [{"low": each.low.tolist(), "high": each.high.tolist()} for each in found],
        "pairs": pair_figures(parts, found),
    }


def packed(data: Mapping[str, Any]) -> str:
    """The data as gzip'd JSON in base64, the same for the same data."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()
