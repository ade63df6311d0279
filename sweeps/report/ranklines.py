"""Rank against α: who is where at every weighting, and who leads where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sweeps.report.axes import Box, axes, badge, spread
from sweeps.report.scales import Scale
from sweeps.report.svg import drawing, group, path, tag
from sweeps.report.wording import significant

WIDE = Box(1000, 400, left=58, right=52, top=76)
NARROW = Box(360, 360, left=40, right=40, top=76)
_STRIP = 22
_MOST_LINEAR = 30
"""Above this many ranks the axis is logarithmic: the top ten would share a finger's width."""


def rank_lines(
    alphas: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    alpha: float,
    box: Box,
    class_: str,
) -> Markup:
    """Stepped lines over α in [0, 1], the strip of leaders above them, and the common α.

    ``models`` holds the ranked rows by id. A line steps exactly where two models change places.
    """
    lines = alphas["lines"]
    worst = max((step[2] for line in lines for step in line["steps"]), default=1)
    log = worst > _MOST_LINEAR
    x = box.x(0.0, 1.0)
    y = box.y(0.95, worst * 1.08, log=True, down=True) if log else _linear(box, worst)
    children = [
        axes(box, x, y, "α →", "", y_ticks=_ticks(worst), write=lambda rank: f"{rank:.0f}"),
        tag("text", "leader", class_="title", x=4, y=box.top - 62),
        tag("text", "rank", class_="title", x=4, y=box.top - 12),
        tag("text", "explainability alone", class_="note", x=box.left, y=box.height - 6),
        tag(
            "text",
            "stability alone",
            class_="note",
            x=box.width - box.right,
            y=box.height - 6,
            text_anchor="end",
        ),
        *[_strip(span, models, x, box) for span in alphas["spans"]],
        _mark(alpha, box, x),
        *[_line(line, models[line["model_id"]]["key"], x, y) for line in reversed(lines)],
        *_ends(lines, models, box, y),
    ]
    description = "; ".join(
        f"{models[span['models'][0]]['name']} leads for α from {significant(span['low'])} "
        f"to {significant(span['high'])}"
        for span in alphas["spans"]
    )
    title = "Rank of the leading models for every α"
    return drawing(box.width, box.height, title, f"{description}.", children, class_)


def _linear(box: Box, worst: int) -> Scale:
    return box.y(0.5, max(worst, 2) + 0.5, down=True)


def _ticks(worst: int) -> list[float]:
    """Rank 1, and round ranks below it."""
    if worst <= 10:
        return [float(rank) for rank in range(1, worst + 1)]
    if worst <= _MOST_LINEAR:
        return [1.0, *(float(rank) for rank in range(5, worst + 1, 5))]
    top = math.floor(math.log10(worst))
    return [float(m * 10**e) for e in range(top + 1) for m in (1, 2, 5) if m * 10**e <= worst]


def _strip(
    span: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], x: Scale, box: Box
) -> Markup:
    """One stretch of the leaders' strip: the letter, and the name where it is wide enough."""
    row = models[span["models"][0]]
    left, right = x(span["low"]), x(span["high"])
    width = right - left
    top = box.top - 56
    reach = f"leads for α from {span['low']:.4g} to {span['high']:.4g}"
    hint = f"{row['name']} ({row['model_id']}) {reach}"
    key = row["key"]
    parts = [
        tag("title", hint),
        tag("rect", x=left + 0.75, y=top, width=max(width - 1.5, 0.5), height=_STRIP, rx=3),
    ]
    text = f"{key} {row['name']}" if key else str(row["name"])
    if len(text) * 7.2 + 12 > width:
        text = key or ""
    if text and width > 14:
        parts.append(tag("text", text, x=(left + right) / 2, y=top + 15.5, text_anchor="middle"))
    return group(parts, class_=f"span key-{key}" if key else "span")


def _mark(alpha: float, box: Box, x: Scale) -> Markup:
    at = x(alpha)
    top = box.top - 30
    anchor = "end" if alpha > 0.8 else "start"
    text = f"α = {significant(alpha)}, used here"
    side = -6 if anchor == "end" else 6
    return group(
        [
            tag("line", x1=at, x2=at, y1=top, y2=box.height - box.bottom),
            tag("text", text, x=at + side, y=top + 14, text_anchor=anchor),
        ],
        class_="common",
    )


def _line(line: Mapping[str, Any], key: str, x: Scale, y: Scale) -> Markup:
    points = []
    for low, high, rank in line["steps"]:
        points += [(x(low), y(rank)), (x(high), y(rank))]
    return group([tag("path", d=path(points))], class_=f"curve ranked key-{key}")


def _ends(
    lines: Sequence[Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    box: Box,
    y: Scale,
) -> list[Markup]:
    """Letters at the right, where α is 1, moved apart where ranks lie close."""
    at = [y(line["steps"][-1][2]) for line in lines]
    places = spread(at, 19.0, box.top + 2.0, box.height - box.bottom - 4.0)
    edge = box.width - box.right
    marks = []
    for line, start, place in zip(lines, at, places, strict=True):
        marks.append(tag("line", x1=edge, y1=start, x2=edge + 22, y2=place, class_="leader-line"))
        marks.append(badge(edge + 24, place, models[line["model_id"]]["key"]))
    return marks
