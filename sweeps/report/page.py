"""The page: facts and drawings set into the template, as one file that needs no network."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from sweeps.report import charts, scatter, wording
from sweeps.report.facts import Facts

LOG_TAIL = 4_000
"""Characters shown of a log's end; the whole log is with the run."""

_COMMANDS = {"train_winner": "Train the winner again"}


def render(facts: Facts) -> str:
    """The HTML of the report; every text in it is escaped, whatever a model is called."""
    style = _resource("style.css")
    return _template().render(
        facts=facts,
        leader=facts.models[0] if facts.models else None,
        drawn=[row for row in facts.models if row["key"]],
        # Written by the project itself, so that escaping it would only break its selectors.
        style=Markup(style),  # noqa: S704
        policy=content_policy(style),
        scatter=charts.scatter_charts(facts) if facts.models else [],
        scatter_caption=scatter.caption(facts.excluded, facts.metric),
        timelines=charts.step_charts(facts) if facts.models else [],
        ranks=charts.rank_charts(facts) if facts.alphas["lines"] else [],
        heat=_heat(facts),
        log_tail=LOG_TAIL,
        command_titles=_COMMANDS,
    )


def content_policy(style: str) -> str:
    """The page's content security policy: nothing but the one style sheet, known by its hash."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _heat(facts: Facts) -> list[list[int | None]]:
    """A shade from 0 to 4 for every cell of the grid, by its place in the range of traceability."""
    figures = [
        [cell["traceability"] if cell else None for cell in row] for row in facts.grid["cells"]
    ]
    known = [figure for row in figures for figure in row if figure is not None]
    low, width = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)

    def shade(figure: float | None) -> int | None:
        if figure is None:
            return None
        return min(4, int(5 * (figure - low) / width)) if width > 0 else 2

    return [[shade(figure) for figure in row] for row in figures]


@lru_cache
def _resource(name: str) -> str:
    return files("sweeps.report").joinpath(name).read_text(encoding="utf-8")


@lru_cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for name in ("number", "significant", "percent", "span", "count", "settings", "capitalised"):
        environment.filters[name] = getattr(wording, name)
    environment.filters["interval_bar"] = charts.interval_bar
    return environment.from_string(_resource("template.html"))
