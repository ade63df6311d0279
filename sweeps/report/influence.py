"""Which settings matter for traceability and for the metric: the table of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Importances = Callable[[Sequence[Mapping[str, Any]], Sequence[float]], Mapping[str, float]]
"""Settings of models and a figure of each -> the share that each setting explains."""

SHOWN = 8
"""Settings of a table."""


def influence(rows: Sequence[Mapping[str, Any]], importances: Importances) -> list[dict[str, Any]]:
    """A table over all ranked models, and one for every architecture of which there are enough.

    Each has ``of`` (the architecture, or None), ``models`` and ``rows``: ``setting``, and the
    shares ``traceability`` and ``metric`` in [0, 1], None where nothing can be said.
    """
    groups: dict[str | None, list[Mapping[str, Any]]] = {None: list(rows)}
    architectures = sorted({row["architecture"] for row in rows})
    if len(architectures) > 1:
        for name in architectures:
            groups[name] = [row for row in rows if row["architecture"] == name]
    tables = []
    for name, members in groups.items():
        table = _table(members, importances)
        if table:
            tables.append({"of": name, "models": len(members), "rows": table[:SHOWN]})
    return tables


def _table(rows: Sequence[Mapping[str, Any]], importances: Importances) -> list[dict[str, Any]]:
    settings = [
        {"architecture": row["architecture"], "init": row["init"], **row["settings"]}
        for row in rows
    ]
    shares = {
        name: importances(settings, [_number(row[name]) for row in rows])
        for name in ("traceability", "metric")
    }
    names = dict.fromkeys([*shares["traceability"], *shares["metric"]])
    return [
        {"setting": name, **{what: found.get(name) for what, found in shares.items()}}
        for name in names
    ]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
