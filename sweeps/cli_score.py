"""``tracerank score``: how a model moved through its saved checkpoints; nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeps.cli_answers import answer, as_json
from sweeps.plain_text import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sweeps.series_scores import Block

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
@click.option(
    "--html", type=click.Path(path_type=Path), help="Write a page of the series there, one file."
)
@as_json
def score(
    checkpoints: tuple[Path, ...], out: Path | None, html: Path | None, as_json: bool
) -> None:
    """Score a series of saved checkpoints: how fast, how steadily and how straight the parameters
    moved from one to the next, and where the weights are concentrated.

    A CHECKPOINT is a .safetensors, .pt, .pth, .bin or .ckpt file, or a folder with one, in shards
    or not; a single folder is searched for checkpoint-* folders or such files. They are taken in
    the order of their steps where these are known. No code of a model is run.
    """
    from rich.console import Console

    from sweeps.jobs.display import show_bytes, showing
    from sweeps.series_scores import blocks_by_path, series_notes, series_scores
    from trace_core.checkpoints import measure_series, open_series

    console = Console(stderr=True)
    kept = {"trace": out, "page": html}
    for name, file in kept.items():
        _require_free(file, "--out" if name == "trace" else "--html")
    if out is not None and html is not None and out.absolute() == html.absolute():
        raise FileExistsError(f"{out}: is both the trace's file and the page's; name two files")
    series = open_series(checkpoints)
    with showing(console, at_once=False) as show:
        measured = measure_series(series, on_progress=lambda done, of: show_bytes(show, done, of))
    if out is not None:
        measured.trace.save(out)
    figures, notes = series_scores(measured, series), series_notes(measured, series)
    blocks = blocks_by_path(measured)
    if html is not None:
        from sweeps.report.checkpoints import write_page

        write_page(html, measured, figures, blocks, notes)
    files = {name: str(file) for name, file in kept.items() if file is not None}
    if as_json:
        answer(json.dumps(figures | files, allow_nan=False))
    else:
        for path in files.values():
            answer(path)
    _show(console, figures, blocks, notes)


def _require_free(file: Path | None, option: str) -> None:
    if file is not None and file.exists():
        raise FileExistsError(
            f"{file}: there is something already; name another file with {option}"
        )


def _show(console: Console, figures: dict[str, Any], blocks: list[Block], notes: list[str]) -> None:
    from rich.text import Text

    intervals, end = figures["intervals"], figures["end"]
    said = f"{len(intervals) + 1} checkpoints of {figures['parameters']:,} parameters"
    said += f", in {len(end['tensors'])} tensors"
    if figures["left_out"]:
        said += f"; {len(figures['left_out'])} more are left out"
    console.print(said, highlight=False, markup=False)
    rows = _table("from", "to", "change rate", "global_l1", "Gini of |θ| before")
    for each in intervals:
        rates = each["change_rate"]
        cells = (rates["rms"], rates["global_l1"], each["explainability"]["gini"])
        rows.add_row(Text(plain(each["from"])), Text(plain(each["to"])), *map(_figure, cells))
    gini = end["explainability"]["gini"]
    rows.add_row(Text(plain(end["checkpoint"])), "(the last)", "", "", _figure(gini))
    console.print(rows)
    moved = _table("block that moved most", "parameters", "path / size", "Gini of |θ|")
    for block in blocks[:_BLOCKS]:
        gini = float(block.end.explainability("gini")[0])
        name = plain(block.name) or "(top level)"
        moved.add_row(Text(name), f"{block.parameters:,}", _figure(block.path), _figure(gini))
    console.print(moved)
    told = ", ".join(f"{kind} {_figure(value)}" for kind, value in figures["stability"].items())
    console.print(f"Stability: {told}", highlight=False, markup=False, soft_wrap=True)
    for note in notes:
        console.print(f"note: {plain(note)}", highlight=False, markup=False, soft_wrap=True)


def _table(*columns: str) -> Table:
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(columns):
        made.add_column(name, justify="right" if i >= len(columns) - 3 else "left")
    return made


def _figure(value: float | None) -> str:
    if value == float("inf"):
        return "∞"
    return "–" if value is None or value != value else f"{value:.4g}"
