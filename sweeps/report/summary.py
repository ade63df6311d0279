"""The report in a few lines of Markdown, for a pull request or a chat."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from sweeps.report.facts import Facts
from sweeps.report.wording import capitalised, count, number, percent, settings, span

LISTED = 15
"""Models in the table."""
_LINKED = re.compile(r"(?i)www(?=\.)|:(?=//)|@")
_MEANINGFUL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")


def summary(facts: Facts) -> str:
    """Verdict, cautions, the first models, what was left out, and what to type.

    What comes from a sweep, a model's name above all, is escaped: it can make neither a link nor
    HTML.
    """
    parts = [
        f"# {escaped(facts.name)}: traceability ranking",
        f"**{escaped(facts.verdict['headline'])}**",
    ]
    parts.append(escaped(" ".join(facts.verdict["sentences"])))
    parts.append(escaped(f"{facts.alpha_sentence} {facts.tally}"))
    if facts.warnings:
        parts.append(_listing("Before you rely on this:", facts.warnings))
    if facts.models:
        parts.append(_table(facts))
        if len(facts.models) > LISTED:
            rest = count(len(facts.models) - LISTED, "more model")
            parts.append(f"And {rest}, in `ranking.csv` and `index.html`.")
        if facts.common_settings:
            parts.append(escaped(f"The same for all models: {settings(facts.common_settings)}."))
        parts.append(escaped(" ".join(facts.validity["sentences"])))
    if facts.excluded:
        reasons: dict[str, int] = {}
        for row in facts.excluded:
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
        told = [f"{reason} ({count(times, 'model')})" for reason, times in reasons.items()]
        more = [f"and {len(told) - LISTED} more reasons"] if len(told) > LISTED else []
        parts.append(_listing(f"Not ranked ({len(facts.excluded)}):", [*told[:LISTED], *more]))
    for purpose, command in facts.commands.items():
        title = capitalised(purpose.replace("_", " "))
        fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", command)), default=0))
        parts.append(f"{escaped(title)}:\n\n{fence}\n{command}\n{fence}")
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    plain = _MEANINGFUL.sub(r"\\\1", " ".join(text.split()))
    # An invisible space keeps addresses and names from becoming links and calls by themselves.
    return _LINKED.sub("\\g<0>\u200b", plain)


def _listing(title: str, items: Iterable[str]) -> str:
    return title + "\n\n" + "\n".join(f"- {escaped(item)}" for item in items)


def _table(facts: Facts) -> str:
    metric = facts.metric["label"]
    heads = ["rank", "ranks allowed", "model", "traceability", "stability", "explainability"]
    heads += ["P(first)", metric, f"test {metric}", "id"]
    rule = "|--:|--:|---|" + "--:|" * 6 + "---|"
    lines = [_row(heads), rule]
    for row in facts.models[:LISTED]:
        own = settings(row["own_settings"])
        name = f"{row['architecture']} · {row['init']}" + (f", {own}" if own else "")
        figures = [number(row[key]) for key in ("traceability", "stability", "explainability")]
        figures += [percent(row["p_first"]), number(row["metric"]), number(row["metric_test"])]
        bounds = span(row["rank_low"], row["rank_high"])
        lines.append(_row([str(row["rank"]), bounds, name, *figures, row["model_id"]]))
    return "\n".join(lines)


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(escaped(str(cell)) for cell in cells) + " |"
