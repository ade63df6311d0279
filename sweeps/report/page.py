"""The page: facts and drawings set into the template, as one file that needs no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from sweeps.report import charts, scatter, wording
from sweeps.report.browsed import packed
from sweeps.report.bundle import bundled
from sweeps.report.facts import Facts

LOG_TAIL = 4_000
"""Characters shown of a log's end; the whole log is with the run."""

LISTED = 50
"""Models in the page's own table, for readers that run no scripts, such as a mail's preview."""

LISTED_EXCLUDED = 200
"""Models and trials in the tables of what was left out."""

_COMMANDS = {"train_winner": "Train the winner again"}


def render(facts: Facts) -> str:
    """The HTML of the report; every text in it is escaped, whatever a model is called."""
    return filled(
        "index.html",
        "main.js",
        given_to_scripts(facts),
        facts=facts,
        leader=facts.models[0] if facts.models else None,
        drawn=[row for row in facts.models if row["key"]],
        details=packed(facts.browsed["details"]),
        scatter=charts.scatter_charts(facts) if facts.models else [],
        scatter_caption=scatter.caption(facts.excluded, facts.metric),
        scatter_thinned=scatter.thinning(facts.models, facts.excluded),
        timelines=charts.step_charts(facts) if facts.models else [],
        ranks=charts.rank_charts(facts) if facts.alphas["lines"] else [],
        heat=_heat(facts),
        log_tail=LOG_TAIL,
        listed=LISTED,
        listed_excluded=LISTED_EXCLUDED,
        command_titles=_COMMANDS,
    )


def filled(template: str, entry: str, data: Mapping[str, Any], **values: Any) -> str:
    """A page of the project's style: the template with these values, the script that begins with
    the module ``entry``, and the ``data`` that it works with.
    """
    style, script = _resource("style.css"), _script(entry)
    return _template(template).render(
        # Written by the project itself, so that escaping it would only break its selectors.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        policy=content_policy(style, script),
        data=packed(data),
        **values,
    )


def given_to_scripts(facts: Facts) -> dict[str, Any]:
    """What the page's scripts work with, but for the models in depth, which come last in the page:
    it can be used before a browser has read them.
    """
    return {
        "metric": facts.metric,
        "fingerprint": facts.fingerprint,
        "omnibus": facts.omnibus,
        "view": {
            "alpha": facts.alpha["value"],
            "reading": facts.alpha["reading"],
            **facts.kinds,
        },
        **{name: each for name, each in facts.browsed.items() if name != "details"},
    }


def served(page: str, place: str, ranking: str = "") -> tuple[str, str] | None:
    """A page that `render` made, for a review server: told that the server's interface for the run
    is at ``place`` (a path) and which provisional ``ranking`` it shows, and the policy under which
    it may ask there. None for a page of another version, or one whose head, style or scripts were
    changed.
    """
    style, script = _resource("style.css"), _script("main.js")
    alone = f'content="{escape(content_policy(style, script))}"'
    meta = '<meta name="tracerank-review" content="{}" data-ranking="{}">'
    nowhere = meta.format("", "")
    head, body, rest = page.partition("</head>")
    # Nothing before or behind these words says another place, or leads a reader elsewhere.
    opening, ending = _head(alone), f"</title>\n<style>{style}</style>\n"
    title = head.removeprefix(opening).removesuffix(ending)
    if head != f"{opening}{title}{ending}" or "<" in title or "<meta" in rest.lower():
        return None
    if f"<script>{script}</script>" not in rest:
        return None
    policy = content_policy(style, script) + "; connect-src 'self'"
    head = head.replace(alone, f'content="{escape(policy)}"', 1)
    head = head.replace(nowhere, meta.format(escape(place), escape(ranking)), 1)
    return head + body + rest, policy


def _head(policy: str) -> str:
    """What `render` writes before the page's title, given the attribute that holds its policy."""
    template = _resource("index.html")
    start, end = template.index("<!DOCTYPE"), template.index("{{ facts.name }}: traceability")
    return template[start:end].replace('content="{{ policy }}"', policy)


def content_policy(style: str, script: str) -> str:
    """The page's content security policy: nothing but the one style sheet and the one script, each
    known by its hash.
    """
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _heat(facts: Facts) -> list[list[int | None]]:
    """A shade from 0 to 4 for every cell of the grid that has a ranked model, by its place in the
    range of traceability: what learns nothing stands still, and would be the strongest.
    """
    figures = [
        [cell["traceability"] if cell and cell["ranked"] else None for cell in row]
        for row in facts.grid["cells"]
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
    return files("sweeps.report").joinpath("page", name).read_text(encoding="utf-8")


@lru_cache
def _script(entry: str) -> str:
    return bundled(entry, _resource)


@lru_cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = ("number", "significant", "percent", "span", "count", "settings", "capitalised")
    environment.filters |= {each: getattr(wording, each) for each in words}
    environment.filters["interval_bar"] = charts.interval_bar
    environment.filters["share_bar"] = charts.share_bar
    return environment.get_template(name)
