"""The page of a series of saved checkpoints: one model, drawn and told as the ranking's page is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.plain_text import plain
from sweeps.report.details import COLUMNS, layer_map
from sweeps.report.page import filled
from sweeps.report.series import rounded
from sweeps.report.wording import finite, number, percent, significant
from trace_core.durable import write_atomically

if TYPE_CHECKING:
    from sweeps.series_scores import Block
    from trace_core import Trace
    from trace_core.checkpoints import Measured

CHANGE_RATE, CONCENTRATION = "rms", "gini"
MOST_ROWS = 300
"""Rows of a map: of a model with more layers its blocks are drawn, those that moved most."""
LISTED = 500
"""Rows of a table."""
TENSORS = 12
"""Tensors among those that moved most, and that hold most."""
UNEVEN = 20
"""Longest over shortest interval from which on the steps would crowd on an even axis."""


def write_page(
    file: Path,
    measured: Measured,
    figures: Mapping[str, Any],
    blocks: Sequence[Block],
    notes: Sequence[str],
) -> None:
    """Write the page to ``file``, atomically, as one file that needs no network.

    ``figures``, ``blocks`` and ``notes`` are what `sweeps.series_scores` makes of ``measured``.
    Raises OSError if it can't be written.
    """
    write_atomically(file, page(measured, figures, blocks, notes).encode(errors="replace"))


def page(
    measured: Measured,
    figures: Mapping[str, Any],
    blocks: Sequence[Block],
    notes: Sequence[str],
) -> str:
    """The HTML; every name in it is text, whatever a tensor or a file is called."""
    intervals = _named(figures)
    trace, places = measured.trace, _Places(intervals)
    rows, of_blocks = _rows_of_maps(trace, blocks)
    return filled(
        "checkpoints.html",
        "checkpoints.js",
        {
            "x": {"label": places.label, "names": places.names, "domain": places.domain},
            "curves": _curves(intervals, figures["end"], places),
            "maps": _maps(measured, rows, places),
        },
        first=intervals[0]["from"],
        last=intervals[-1]["to"],
        headline=_headline(intervals, blocks),
        sentences=_sentences(intervals, figures),
        figures=figures,
        intervals=intervals,
        notes=[plain(note) for note in notes],
        middle_rate=_median([each["change_rate"][CHANGE_RATE] for each in intervals]),
        tensors=len(trace.tensors),
        rates_known="learning_rate" in intervals[0],
        steps_known=places.steps_known,
        of_blocks=of_blocks,
        rows=len(rows),
        blocks=[_block_row(block) for block in blocks[:LISTED]],
        all_blocks=len(blocks),
        movers=[(plain(name), finite(path)) for name, path in trace.top_movers(TENSORS)],
        important=[(plain(name), share) for name, share in measured.end.most_important(TENSORS)],
        left_out=[row | {"tensor": plain(row["tensor"])} for row in figures["left_out"][:LISTED]],
        all_left_out=len(figures["left_out"]),
    )


def _named(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        each | {"from": plain(each["from"]), "to": plain(each["to"])}
        for each in figures["intervals"]
    ]


class _Places:
    """Where checkpoints and intervals stand on an axis: at their steps, or one after the other
    where these aren't known, or too unevenly spread to be told apart.
    """

    def __init__(self, intervals: Sequence[Mapping[str, Any]]) -> None:
        self.labels = [*(each["from"] for each in intervals), intervals[-1]["to"]]
        self.steps_known = "from_step" in intervals[0]
        short = list(self.labels)
        at = list(map(float, range(len(short))))
        even = not self.steps_known
        if self.steps_known:
            steps = [*(each["from_step"] for each in intervals), intervals[-1]["to_step"]]
            short = [significant(step, 6) for step in steps]
            apart = np.diff(np.array(steps, np.float64))
            even = bool(apart.max() > UNEVEN * apart.min())
            at = at if even else [float(step) for step in steps]
        self.short = [each if len(each) <= 14 else f"…{each[-13:]}" for each in short]
        self.checkpoints = at
        self.intervals = [(a + b) / 2 for a, b in itertools.pairwise(at)]
        self.domain = [at[0], at[-1]]
        self.label = "checkpoint" if not self.steps_known else "step, evenly" if even else "step"
        every = -(-len(at) // 6)
        chosen = list(zip(at, self.short, strict=True))[::every]
        self.names = [list(each) for each in chosen] if even else None


def _curves(
    intervals: Sequence[Mapping[str, Any]], end: Mapping[str, Any], places: _Places
) -> list[dict[str, Any]]:
    """Change rate and learning rate in the middle of each interval, concentration at each
    checkpoint.
    """
    between = [f"{each['from']} to {each['to']}" for each in intervals]

    def curve(title: str, name: str, ys: Sequence[Any], log: bool, whole: bool) -> dict[str, Any]:
        where = places.labels if whole else between
        return {
            "title": title,
            "file": name,
            "log": log,
            "xs": places.checkpoints if whole else places.intervals,
            "ys": [finite(y) for y in ys],
            "told": [f"{at}: {significant(y, 4)}" for at, y in zip(where, ys, strict=True)],
        }

    rates = [each["change_rate"][CHANGE_RATE] for each in intervals]
    parts = [each["explainability"][CONCENTRATION] for each in (*intervals, end)]
    curves = [
        curve("Change rate of an interval (rms)", "change-rate", rates, True, False),
        curve("Concentration of |θ| (Gini)", "concentration", parts, False, True),
    ]
    if "learning_rate" in intervals[0]:
        learned = [each["learning_rate"] for each in intervals]
        curves.append(curve("Learning rate, mean", "learning-rate", learned, False, False))
    return curves


def _rows_of_maps(trace: Trace, blocks: Sequence[Block]) -> tuple[dict[str, Trace], bool]:
    """The parts that have a row, by name, and whether they are blocks."""
    if len(trace.layer_names) <= MOST_ROWS:
        return trace.by_layer(), False
    chosen = {block.name for block in blocks[:MOST_ROWS]}
    return {name: trace.block(name) for name in trace.block_names if name in chosen}, True


def _maps(measured: Measured, rows: Mapping[str, Trace], places: _Places) -> list[dict[str, Any]]:
    """Change rate by part and interval, concentration by part and checkpoint."""
    found = layer_map(measured.trace, CHANGE_RATE, CONCENTRATION, rows)
    width = max(1, -(-len(measured.trace) // COLUMNS))
    starts = range(0, len(measured.trace), width)
    stops = [min(start + width, len(measured.trace)) for start in starts]
    labels, short = places.labels, places.short
    ends = list(zip(starts, stops, strict=True))
    of_part = measured.end.block if set(rows) - set(measured.end.layer_names) else None
    at_end = [
        rounded((of_part or measured.end.layer)(name).explainability(CONCENTRATION))
        for name in rows
    ]
    names = [plain(name) or "(top level)" for name in rows]
    kept = [*(start for start, _ in ends), len(measured.trace)]
    axis = "step" if places.steps_known else "checkpoint"
    return [
        {
            "title": "Change rate, by its logarithm",
            "file": "layers-change-rate",
            "log": True,
            "rows": names,
            "columns": [f"{short[a]}–{short[b]}" for a, b in ends],
            "places": [f"{labels[a]} to {labels[b]}" for a, b in ends],
            "values": found["change_rate"],
            "axis": f"from {axis} to {axis}",
        },
        {
            "title": "Concentration of |θ|",
            "file": "layers-concentration",
            "log": False,
            "rows": names,
            "columns": [short[place] for place in kept],
            "places": [labels[place] for place in kept],
            "values": [
                [*row, *last] for row, last in zip(found["explainability"], at_end, strict=True)
            ],
            "axis": axis,
        },
    ]


def _block_row(block: Block) -> dict[str, Any]:
    return {
        "name": plain(block.name) or "(top level)",
        "parameters": block.parameters,
        "path": finite(block.path),
        "change_rate": _median(block.trace.change_rate(CHANGE_RATE).tolist()),
        "start": finite(block.trace.explainability(CONCENTRATION)[0]),
        "end": finite(block.end.explainability(CONCENTRATION)[0]),
    }


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if finite(value) is not None]
    return float(np.median(np.array(known, np.float64))) if known else None


def _headline(intervals: Sequence[Mapping[str, Any]], blocks: Sequence[Block]) -> str:
    between = f"From {intervals[0]['from']} to {intervals[-1]['to']}"
    first = blocks[0]
    if not first.path > 0:
        return f"{between} nothing moved"
    if len(blocks) == 1:
        return f"How the model moved, {between[0].lower()}{between[1:]}"
    return f"{between}, {plain(first.name) or 'the top level'} moved most for its size"


def _sentences(intervals: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> list[str]:
    """How far, how straight and how concentrated, in words."""
    told = []
    rates = [rate for each in intervals if (rate := each["change_rate"][CHANGE_RATE]) is not None]
    if rates:
        low, high = significant(min(rates)), significant(max(rates))
        when = "Between them" if len(intervals) == 1 else "From one to the next"
        size = low if low == high else f"{low} to {high}"
        told.append(f"{when} the parameters changed by {size} of their size.")
    directness = figures["stability"]["directness"]
    if directness is not None and len(intervals) > 1:
        told.append(
            f"The way from the first to the last is {percent(directness)} of the path through all "
            "of them: 100% would be a straight line."
        )
    first, last = (each["explainability"][CONCENTRATION] for each in (intervals[0], figures["end"]))
    if first is not None and last is not None:
        before, after = number(first), number(last)
        went = f"stayed at {after}" if before == after else f"went from {before} to {after}"
        told.append(f"The concentration of |θ| {went}.")
    return told
