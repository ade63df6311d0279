"""All drawings of the page, from the facts alone."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from sweeps.report import ranklines, scatter
from sweeps.report.facts import Facts
from sweeps.report.svg import tag
from sweeps.report.timelines import timeline


def scatter_charts(facts: Facts) -> list[Markup]:
    """The scatter for wide and for narrow screens; the style sheet shows one of them."""
    return [
        scatter.scatter(facts.models, facts.excluded, facts.metric, box, f"chart {which}")
        for box, which in ((scatter.WIDE, "wide"), (scatter.NARROW, "narrow"))
    ]


def rank_charts(facts: Facts) -> list[Markup]:
    """Rank against α for wide and for narrow screens."""
    models = {row["model_id"]: row for row in facts.models}
    return [
        ranklines.rank_lines(facts.alphas, models, facts.alpha["value"], box, f"chart {which}")
        for box, which in ((ranklines.WIDE, "wide"), (ranklines.NARROW, "narrow"))
    ]


def step_charts(facts: Facts) -> list[Markup]:
    """Change rate, on a logarithmic axis, and concentration over the leading models' steps."""
    keys = {row["model_id"]: row["key"] for row in facts.models}
    rates = {keys[curve["model_id"]]: curve["change_rate"] for curve in facts.curves}
    indices = {keys[curve["model_id"]]: curve["explainability"] for curve in facts.curves}
    rate, index = facts.kinds["change_rate"], facts.kinds["explainability"]
    return [
        timeline(rates, "Change rate over training", f"change rate ({rate}), log scale", log=True),
        timeline(indices, "Explainability over training", f"explainability ({index})"),
    ]


def interval_bar(row: dict[str, Any], ranks: int) -> Markup:
    """A rank and its interval on a short axis from 1 to ``ranks``; it decorates the figures."""
    width, last = 76.0, max(ranks - 1, 1)

    def place(rank: int) -> float:
        return 5 + (rank - 1) / last * (width - 10)

    low, high = place(row["rank_low"]), place(row["rank_high"])
    return tag(
        "svg",
        tag("line", x1=5, x2=width - 5, y1=7, y2=7, class_="rail"),
        tag("line", x1=low - 0.01, x2=high + 0.01, y1=7, y2=7, class_="reach"),
        tag("circle", cx=place(row["rank"]), cy=7, r=3.5, class_="at"),
        viewBox="0 0 76 14",
        width=76,
        height=14,
        aria_hidden="true",
        class_="interval",
    )


def share_bar(share: float | None) -> Markup:
    """A share of one as a bar; it decorates the figure."""
    width = 60 * (share or 0.0)
    bar = tag("rect", x=0, y=2, width=width, height=8, class_="share-bar")
    return tag("svg", bar, viewBox="0 0 60 12", width=60, height=12, aria_hidden="true")
