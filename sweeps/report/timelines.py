"""A quantity over the steps of training: a mean line and a band of the seeds per model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from sweeps.report.axes import Box, axes, badge, spread
from sweeps.report.scales import Scale, domain, log_domain
from sweeps.report.svg import drawing, group, path, tag

BOX = Box(490, 320, left=56, right=40)
_END = 22
"""Room between the last step and a curve's letter."""

Curve = Mapping[str, Sequence[float | None]]
Point = tuple[float, float, float, float]


def timeline(
    curves: Mapping[str, Curve], title: str, y_title: str, log: bool = False, box: Box = BOX
) -> Markup:
    """Curves by letter over optimiser steps; what a logarithmic axis can't show is a gap."""
    bound = 0.0 if log else float("-inf")
    values = [v for c in curves.values() for k in ("low", "high") for v in c[k] if v is not None]
    y = box.y(*(log_domain(values) if log else domain(values)), log=log)
    steps = [step for curve in curves.values() for step in curve["steps"] if step is not None]
    x = box.x(0.0, max([*steps, 1.0]))
    drawn = {k: list(_runs(c, bound)) for k, c in curves.items()}
    bands = [_band(runs, key, x, y) for key, runs in reversed(drawn.items())]
    lines = [_line(runs, key, x, y) for key, runs in reversed(drawn.items())]
    description = (
        f"Mean over replicates of {len(curves)} models, each with a band from the lowest to the "
        "highest seed."
    )
    children = [
        axes(box, x, y, "optimiser step", y_title),
        *bands,
        *lines,
        *_ends(drawn, box, x, y),
    ]
    return drawing(box.width, box.height, title, description, children, "chart")


def _runs(curve: Curve, bound: float) -> Iterator[list[Point]]:
    """Unbroken stretches of (step, mean, low, high)."""
    run: list[Point] = []
    for step, mean, low, high in zip(
        curve["steps"], curve["mean"], curve["low"], curve["high"], strict=True
    ):
        if step is None or mean is None or low is None or high is None or mean <= bound:
            if run:
                yield run
            run = []
        else:
            run.append((step, mean, low, high))
    if run:
        yield run


def _band(runs: Sequence[Sequence[Point]], key: str, x: Scale, y: Scale) -> Markup:
    outlines = [
        tag(
            "path",
            d=path(
                [
                    *((x(step), y(high)) for step, _, _, high in run),
                    *((x(step), y(low)) for step, _, low, _ in reversed(run)),
                ],
                closed=True,
            ),
        )
        for run in runs
        if len(run) > 1
    ]
    return group(outlines, class_=f"band key-{key}")


def _line(runs: Sequence[Sequence[Point]], key: str, x: Scale, y: Scale) -> Markup:
    lines = []
    for run in runs:
        points = [(x(step), y(mean)) for step, mean, _, _ in run]
        if len(points) == 1:
            lines.append(tag("circle", cx=points[0][0], cy=points[0][1], r=1.6, class_="dot"))
        else:
            lines.append(tag("path", d=path(points)))
    return group(lines, class_=f"curve key-{key}")


def _ends(
    drawn: Mapping[str, Sequence[Sequence[Point]]], box: Box, x: Scale, y: Scale
) -> list[Markup]:
    """Each curve's letter at its end, moved apart where curves end close together."""
    ends = {key: (x(runs[-1][-1][0]), y(runs[-1][-1][1])) for key, runs in drawn.items() if runs}
    low, high = box.top + 8.0, box.height - box.bottom - 8.0
    places = spread([at for _, at in ends.values()], 19.0, low, high)
    marks = []
    for (key, (at_x, at_y)), place in zip(ends.items(), places, strict=True):
        column = box.width - box.right + _END
        marks.append(tag("line", x1=at_x, y1=at_y, x2=column, y2=place, class_="leader-line"))
        marks.append(badge(column, place, key))
    return marks
