"""The ranking report: facts (data), charts (SVG), page (HTML), and tables beside the page.

``page/`` holds what a browser is given: the template, the style, and the scripts (`bundle` joins
them), which work on what `browsed` packs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sweeps.plain_text import printable
from sweeps.report.browsed import WHOLE, Depth
from sweeps.report.details import ModelTraces, details
from sweeps.report.facts import Facts, build_facts
from sweeps.report.influence import Importances
from sweeps.report.page import render, served
from sweeps.report.summary import summary
from trace_core.durable import write_atomically

if TYPE_CHECKING:
    from sweeps.ranking import MetricInfo, Ranking
    from sweeps.validity import Assessment
    from trace_core.statistics import Array

__all__ = [
    "WHOLE",
    "Depth",
    "Facts",
    "ModelTraces",
    "build_facts",
    "details",
    "render",
    "served",
    "write_report",
]


def write_report(
    directory: Path,
    *,
    ranking: Ranking,
    validity: Assessment,
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
) -> Path:
    """Write ``index.html``, ``report.md``, and ``ranking`` as ``.json``, ``.csv`` and ``.parquet``,
    each atomically.

    Args:
        directory: where to; made if it isn't there.
        ranking: what the page is about.
        validity: what it tells about performance; ``validity`` in ``ranking.json``.
        config: the resolved configuration.
        metric: the task's metric.
        models: one row per model tried: ``model_id``, ``architecture``, ``init``, ``settings``,
            ``state``, ``reason``.
        replicates: one row of scores per finished training.
        traces: what is stored of a model's trainings; asked for the leading models alone.
        curves: of each of a ranked model's trainings the steps and the change rates, (2, points).
        failures: trials that aren't COMPLETE: ``trial``, ``model`` (its id), ``state``, ``reason``,
            ``log_tail``.
        environment: versions and machine, nested as you like.
        commands: what to type, by purpose (``train_winner``).
        importances: from models' settings and a figure of each, the share each setting explains.

    Returns:
        The path of the page. It is written last: where it is new, so are the tables.
    """
    facts = build_facts(
        ranking=ranking,
        validity=validity,
        config=config,
        metric=metric,
        models=models,
        replicates=replicates,
        traces=traces,
        curves=curves,
        failures=failures,
        environment=environment,
        commands=commands,
        importances=importances,
    )
    data = ranking.to_json() | {"validity": facts.validity}
    table = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    parquet = io.BytesIO()
    ranking.frame.to_parquet(parquet, index=False)
    texts = {
        "ranking.json": f"{table}\n",
        "ranking.csv": ranking.frame.to_csv(index=False),
        "report.md": summary(facts),
        "index.html": render(facts),
    }
    # All are made before one is written. The commands may name a folder whose name isn't UTF-8.
    files = {name: printable(text).encode() for name, text in texts.items()}
    page = files.pop("index.html")
    for name, content in (files | {"ranking.parquet": parquet.getvalue()}).items():
        write_atomically(directory / name, content)
    write_atomically(directory / "index.html", page)
    return directory / "index.html"
