"""Traceability against the metric: whether models that can be followed are also good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sweeps.report.axes import Box, axes, badge
from sweeps.report.scales import Scale, domain
from sweeps.report.svg import drawing, group, path, tag
from sweeps.report.verdict import short_name
from sweeps.report.wording import number, percent

WIDE = Box(1000, 460, right=24)
NARROW = Box(360, 380, left=50, right=12)
MOST_MARKS = 400
_REACH = 0.6
"""How far, in spans of the ranked models, excluded ones and the floor may stretch an axis."""


def scatter(
    rows: Sequence[Mapping[str, Any]],
    excluded: Sequence[Mapping[str, Any]],
    metric: Mapping[str, Any],
    box: Box,
    class_: str,
) -> Markup:
    """One mark per model; better is up and to the right whichever way the metric counts.

    Excluded models far outside the range of the others are set on the edge, pointing outwards, and
    a floor far below is only mentioned, so that they don't press the rest into a corner.
    """
    inside = [row for row in rows if row["metric"] is not None]
    hollow = [r for r in excluded if r["metric"] is not None and r["traceability"] is not None]
    floor = [] if metric["floor"] is None else [metric["floor"]]
    down = metric["direction"] == "minimize"
    x = box.x(*_domain(_extents(inside, "traceability"), (r["traceability"] for r in hollow)))
    aside = [*floor, *(r["metric"] for r in hollow)]
    y = box.y(*_domain(_extents(inside, "metric"), aside), down=down)
    better = f"{metric['label']} on validation data, {'lower' if down else 'higher'} is better ↑"
    leaders = [row for row in inside if row["key"]]
    others = [row for row in inside if not row["key"]]
    children = [
        axes(box, x, y, "traceability →", better),
        *_floor(metric, box, y),
        group([_excluded(row, x, y) for row in thinned(hollow)], class_="excluded"),
        group([_ranked(row, x, y, len(inside)) for row in thinned(others)], class_="others"),
        *[_whiskers(row, x, y) for row in reversed(leaders)],
        *[_ranked(row, x, y, 1) for row in reversed(leaders)],
        *_labels(leaders, inside, box, x, y),
    ]
    description = (
        f"{len(inside)} ranked models as filled marks, {len(hollow)} excluded as hollow marks. "
        "All figures of the ranked models are in the ranking table."
    )
    title = f"Traceability against validation {metric['label']}"
    return drawing(box.width, box.height, title, description, children, class_)


def thinned(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of many, every so-manieth and all of the Pareto front: more marks hide each other, and each
    costs a page 200 bytes.
    """
    step = -(-len(rows) // MOST_MARKS) or 1
    return [row for at, row in enumerate(rows) if at % step == 0 or row.get("pareto")]


def _extents(rows: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    """The figures of ``rows``, with the whiskers of those that have them drawn."""
    rows = list(rows)
    whiskers = [end for row in rows if row["key"] for end in row["ranges"][name] or ()]
    return [*(row[name] for row in rows), *whiskers]


def _domain(ranked: Sequence[float], aside: Iterable[float]) -> tuple[float, float]:
    low, high = domain(ranked)
    reach = _REACH * (high - low)
    near = [value for value in aside if low - reach <= value <= high + reach]
    return domain([*ranked, *near])


def _floor(metric: Mapping[str, Any], box: Box, y: Scale) -> list[Markup]:
    if metric["floor"] is None:
        return []
    at = y(metric["floor"])
    text = f"learning floor {number(metric['floor'])}"
    right = box.width - box.right
    if _beyond(metric["floor"], y):
        return [tag("text", f"{text} ↓", class_="note", x=right - 4, y=at - 8, text_anchor="end")]
    return [
        tag("line", class_="floor", x1=box.left, x2=right, y1=at, y2=at),
        tag("text", text, class_="note", x=right - 4, y=at - 6, text_anchor="end"),
    ]


def _hint(row: Mapping[str, Any], place: str) -> Markup:
    figures = f"traceability {number(row['traceability'])}, metric {number(row['metric'])}"
    return tag("title", f"{row['name']} ({row['model_id']}): {place}; {figures}")


def _ranked(row: Mapping[str, Any], x: Scale, y: Scale, crowd: int) -> Markup:
    at_x, at_y = x(row["traceability"]), y(row["metric"])
    size = 5.5 if crowd <= 60 else 4.0 if crowd <= 300 else 3.0
    hint = _hint(row, f"rank {row['rank']}")
    kind = f"mark key-{row['key']}" if row["key"] else "mark"
    if row["pareto"]:
        return tag("path", hint, d=_diamond(at_x, at_y, size * 1.35), class_=f"{kind} pareto")
    return tag("circle", hint, cx=at_x, cy=at_y, r=size, class_=kind)


def _excluded(row: Mapping[str, Any], x: Scale, y: Scale) -> Markup:
    at_x, at_y = x(row["traceability"]), y(row["metric"])
    hint = _hint(row, f"excluded, {row['reason']}")
    right = _beyond(row["traceability"], x)
    up = _beyond(row["metric"], y)
    if y.start < y.end:
        up = -up
    if right or up:
        return tag("path", hint, d=_arrow(at_x, at_y, right, -up), class_="hollow beyond")
    return tag("circle", hint, cx=at_x, cy=at_y, r=4.5, class_="hollow")


def _beyond(value: float, scale: Scale) -> int:
    return (value > scale.high) - (value < scale.low)


def _diamond(x: float, y: float, size: float) -> str:
    return path([(x, y - size), (x + size, y), (x, y + size), (x - size, y)], closed=True)


def _arrow(x: float, y: float, dx: int, dy: int) -> str:
    """A triangle with its tip towards where the value lies; one direction is enough."""
    if dy:
        return path([(x, y + 5 * dy), (x - 5, y - 4 * dy), (x + 5, y - 4 * dy)], closed=True)
    return path([(x + 5 * dx, y), (x - 4 * dx, y - 5), (x - 4 * dx, y + 5)], closed=True)


def _whiskers(row: Mapping[str, Any], x: Scale, y: Scale) -> Markup:
    """The range over the replicates, both ways."""
    at_x, at_y = x(row["traceability"]), y(row["metric"])
    lines = []
    if across := row["ranges"]["traceability"]:
        lines.append(tag("line", x1=x(across[0]), x2=x(across[1]), y1=at_y, y2=at_y))
    if along := row["ranges"]["metric"]:
        lines.append(tag("line", x1=at_x, x2=at_x, y1=y(along[0]), y2=y(along[1])))
    return group(lines, class_=f"whiskers key-{row['key']}")


def _labels(
    leaders: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    box: Box,
    x: Scale,
    y: Scale,
) -> list[Markup]:
    """Letters, with names where there is room for them, each where it covers least."""
    crowded = [(x(r["traceability"]), y(r["metric"])) for r in thinned(rows)]
    crowded += [spot for row in leaders for spot in _along(row, x, y)]
    named = box.width > 600
    taken: list[tuple[float, float, float, float]] = []
    labels = []
    for row in leaders:
        at = (x(row["traceability"]), y(row["metric"]))
        name = _short(short_name(row)) if named else ""
        width = 20 + (len(name) * 7.5 + 6 if name else 0)
        left, top = _place(at, width, taken, crowded, box)
        taken.append((left, top, width, 20))
        centre = top + 10
        near = min(max(at[0], left + 10), left + width)
        labels.append(tag("line", x1=at[0], y1=at[1], x2=near, y2=centre, class_="leader-line"))
        labels.append(badge(left + 10, centre, row["key"]))
        if name:
            labels.append(tag("text", name, class_="name", x=left + 23, y=centre + 4.2))
    return labels


def _along(row: Mapping[str, Any], x: Scale, y: Scale) -> list[tuple[float, float]]:
    """Places along the whiskers of a model, for labels to keep clear of."""
    across, along = row["ranges"]["traceability"], row["ranges"]["metric"]
    shares = [i / 8 for i in range(9)]
    places = []
    if across:
        ends = x(across[0]), x(across[1])
        places += [(ends[0] + s * (ends[1] - ends[0]), y(row["metric"])) for s in shares]
    if along:
        ends = y(along[0]), y(along[1])
        places += [(x(row["traceability"]), ends[0] + s * (ends[1] - ends[0])) for s in shares]
    return places


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"


def _place(
    at: tuple[float, float],
    width: float,
    taken: Sequence[tuple[float, float, float, float]],
    points: Sequence[tuple[float, float]],
    box: Box,
) -> tuple[float, float]:
    """The corner of the spot that covers the fewest labels, then marks, then is nearest."""

    def cost(spot: tuple[float, float]) -> tuple[float, float]:
        left, top = spot
        outside = left < box.left or left + width > box.width or top < 4
        outside = outside or top + 20 > box.height - box.bottom
        overlaps = sum(
            left < tx + tw and tx < left + width and top < ty + th and ty < top + 20
            for tx, ty, tw, th in taken
        )
        covered = sum(
            left - 4 < px < left + width + 4 and top - 4 < py < top + 24 for px, py in points
        )
        distance = abs(left + width / 2 - at[0]) / width + abs(top + 10 - at[1]) / 20
        return (100.0 * outside + 50.0 * overlaps + min(covered, 30), distance)

    spots = [
        (at[0] + dx, at[1] + dy - 10)
        for reach in (14, 30, 50, 76, 104, 134)
        for dx in (reach, -reach - width, -width / 2, 4.0, -width - 4.0)
        for dy in (0, -reach, reach)
        if abs(dx) >= 12 + width or dx >= 12 or dy
    ]
    return min(spots, key=cost)


def outside(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many excluded models have no figures, hence no mark."""
    return sum(row["metric"] is None or row["traceability"] is None for row in rows)


def caption(excluded: Sequence[Mapping[str, Any]], metric: Mapping[str, Any]) -> str:
    """What the marks mean, in a sentence or two."""
    missing = outside(excluded)
    text = (
        "Diamonds: the Pareto front of stability, explainability and metric. "
        "Lines through the leaders: the range over their replicates. "
        "Hollow: excluded; a triangle on the edge lies further out."
    )
    if metric["floor"] is not None:
        share = percent(metric["floor_share"])
        text += (
            f" The learning floor is {share} of the way from the baseline "
            f"({number(metric['baseline'])}) to the best ranked model."
        )
    return f"{text} Not drawn, for want of figures: {missing}." if missing else text


def thinning(rows: Sequence[Mapping[str, Any]], excluded: Sequence[Mapping[str, Any]]) -> str:
    """How many of the models are drawn, where that is not all of them."""
    return " ".join(
        f"Of {len(every):,} {what} models one in {-(-len(every) // MOST_MARKS)} is drawn."
        for what, every in (("ranked", rows), ("excluded", excluded))
        if len(every) > MOST_MARKS
    )
