"""The frame of a chart: its two scales, grid lines, ticks and axis titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sweeps.report.scales import Scale
from sweeps.report.svg import group, tag
from sweeps.report.wording import significant


@dataclass(frozen=True)
class Box:
    """Size of a drawing, and the margins between its edge and the plotting area."""

    width: int
    height: int
    left: int = 58
    right: int = 20
    top: int = 30
    bottom: int = 46

    def x(self, low: float, high: float) -> Scale:
        """A scale across the plotting area."""
        return Scale(low, high, self.left, self.width - self.right)

    def y(self, low: float, high: float, log: bool = False, down: bool = False) -> Scale:
        """A scale up the plotting area; ``down`` puts the low end on top."""
        bottom, top = self.height - self.bottom, self.top
        return Scale(low, high, top, bottom, log) if down else Scale(low, high, bottom, top, log)


def axes(
    box: Box,
    x: Scale,
    y: Scale,
    x_title: str,
    y_title: str,
    y_ticks: Sequence[float] | None = None,
    write: Callable[[float], str] = significant,
) -> Markup:
    """Horizontal grid lines, ticks and titles; the y title stands level above its axis."""
    bottom = box.height - box.bottom
    right = box.width - box.right
    parts = []
    for value in y.ticks(6) if y_ticks is None else y_ticks:
        at = y(value)
        parts.append(tag("line", class_="grid", x1=box.left, x2=right, y1=at, y2=at))
        parts.append(
            tag("text", write(value), class_="tick", x=box.left - 8, y=at + 4, text_anchor="end")
        )
    for value in x.ticks(7 if box.width > 600 else 5):
        at = x(value)
        parts.append(tag("line", class_="tickmark", x1=at, x2=at, y1=bottom, y2=bottom + 5))
        parts.append(
            tag("text", f"{value:g}", class_="tick", x=at, y=bottom + 19, text_anchor="middle")
        )
    parts.append(tag("line", class_="axis", x1=box.left, x2=right, y1=bottom, y2=bottom))
    middle = (box.left + right) / 2
    parts.append(
        tag("text", x_title, class_="title", x=middle, y=box.height - 6, text_anchor="middle")
    )
    parts.append(tag("text", y_title, class_="title", x=4, y=14))
    return group(parts, class_="axes")


def badge(x: float, y: float, key: str) -> Markup:
    """The letter of a model in its colour: it names a model where colour alone would."""
    return group(
        [
            tag("circle", cx=x, cy=y, r=8.5, class_="disc"),
            tag("text", key, x=x, y=y + 3.9, text_anchor="middle", class_="letter"),
        ],
        class_=f"badge key-{key}",
    )


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """``places`` moved ``gap`` apart, in their order, and within ``low..high`` if there is room."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    floor = low
    for index in order:
        moved[index] = max(moved[index], floor)
        floor = moved[index] + gap
    ceiling = high
    for index in reversed(order):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved
