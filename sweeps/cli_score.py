"""``tracerank score``: how a model moved through its saved checkpoints; nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeps.cli_answers import answer, as_json

if TYPE_CHECKING:
    from rich.console import Console

    from trace_core import Trace
    from trace_core.checkpoints.series import Series

_BLOCKS = 12
"""Rows of the table of blocks."""


@click.command()
@click.argument(
    "checkpoints",
    metavar="CHECKPOINT...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Keep the trace there (Trace.load reads it)."
)
@as_json
def score(checkpoints: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Score a series of saved checkpoints: how fast, how steadily and how straight the parameters
    moved from one to the next, and where the weights are concentrated.

    A CHECKPOINT is a .safetensors, .pt, .pth, .bin or .ckpt file, or a folder with one, in shards
    or not; a single folder is searched for checkpoint-* folders or such files. They are taken in
    the order of their steps where these are known. No code of a model is run.
    """
    from rich.console import Console

    from sweeps.jobs.display import show_bytes, showing
    from sweeps.series_scores import series_scores
    from trace_core.checkpoints import trace_checkpoints
    from trace_core.checkpoints.series import open_series

    console = Console(stderr=True)
    if out is not None and out.exists():
        raise FileExistsError(f"{out}: there is something already; name another file with --out")
    series = open_series(checkpoints)
    if series.reordered:
        click.echo("note: taken in the order of their steps, not as they were given", err=True)
    with showing(console, at_once=False) as show:
        trace = trace_checkpoints(series, on_progress=lambda done, of: show_bytes(show, done, of))
    if out is not None:
        trace.save(out)
    figures = series_scores(trace, series)
    if as_json:
        answer(json.dumps(figures | ({"trace": str(out)} if out else {})))
    elif out is not None:
        answer(out)
    _show(console, trace, series, figures)


def _show(console: Console, trace: Trace, series: Series, figures: dict[str, Any]) -> None:
    import numpy as np
    from rich.table import Table
    from rich.text import Text

    from trace_core.statistics import Statistic

    def table(*columns: str) -> Table:
        made = Table(box=None, pad_edge=False, header_style="bold")
        for i, name in enumerate(columns):
            made.add_column(name, justify="right" if i >= len(columns) - 3 else "left")
        return made

    said = f"{len(series.checkpoints)} checkpoints of {figures['parameters']:,} parameters"
    console.print(f"{said}, in {len(trace.tensors)} tensors", highlight=False, markup=False)
    rows = table("from", "to", "change rate", "global_l1", "Gini of |θ| before")
    for each in figures["intervals"]:
        rates = each["change_rate"]
        cells = (rates["rms"], rates["global_l1"], each["explainability"]["gini"])
        rows.add_row(Text(each["from"]), Text(each["to"]), *map(_figure, cells))
    console.print(rows)
    moved = table("block that moved most", "parameters", "path / size", "Gini of |θ|")
    for name, part, path in _by_path(trace)[:_BLOCKS]:
        gini = float(part.explainability("gini")[-1])
        moved.add_row(Text(name), f"{int(part.sizes.sum()):,}", _figure(path), _figure(gini))
    console.print(moved)
    told = ", ".join(f"{kind} {_figure(value)}" for kind, value in figures["stability"].items())
    console.print(f"Stability: {told}", highlight=False, markup=False, soft_wrap=True)
    if figures["stability"]["steadiness"] is None:
        text = "(steadiness needs eight intervals in which something moved)"
        console.print(text, highlight=False, markup=False)
    finite = np.isfinite(trace.statistics[:, :, Statistic.ABS_DELTA]).all(axis=1)
    if not finite.all():
        label = series.labels[int(np.argmin(finite)) + 1]
        console.print(f"note: {label} isn't finite", highlight=False, markup=False)


def _by_path(trace: Trace) -> list[tuple[str, Trace, float]]:
    """Blocks with the length of their path over their mean size, the longest first."""
    import numpy as np

    from trace_core.statistics import Statistic, total

    found = []
    for name, part in trace.by_block().items():
        moved, size = (
            np.sqrt(total(part.statistics, statistic))
            for statistic in (Statistic.SQ_DELTA, Statistic.SQ_THETA)
        )
        mean = float(size.mean())
        found.append((name or "(top level)", part, float(moved.sum()) / mean if mean else 0.0))
    return sorted(found, key=lambda each: -each[2])


def _figure(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.4g}"
