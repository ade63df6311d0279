"""The study in one picture: each measure's τ with the test metric, task by task, as an SVG."""

from __future__ import annotations

from html import escape

import pandas as pd

COLOURS = {
    "breast_cancer": "#0072b2",
    "diabetes": "#d55e00",
    "digits": "#009e73",
    "verses": "#cc79a7",
}
"""Okabe and Ito's, which the colour-blind can tell apart."""

_LEFT, _WIDTH, _ROW, _TOP = 210, 480, 34, 46


def usefulness(table: pd.DataFrame, measures: tuple[str, ...]) -> str:
    """τ and its 95% interval for every measure (a row) and task (a colour)."""
    shown = [name for name in measures if table.loc[table["measure"] == name, "tau"].notna().any()]
    height = _TOP + _ROW * len(shown) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {height}" '
        'font-family="sans-serif" font-size="12" role="img" '
        'aria-label="Kendall\'s tau of every measure with the test metric">',
        f'<rect width="{_LEFT + _WIDTH + 20}" height="{height}" fill="#fff"/>',
    ]
    for index, (task, colour) in enumerate(COLOURS.items()):
        x = _LEFT + 120 * index
        parts += [
            f'<circle cx="{x}" cy="16" r="4" fill="{colour}"/>',
            f'<text x="{x + 9}" y="20" fill="#222">{escape(task.replace("_", " "))}</text>',
        ]
    for tick in (-1, -0.5, 0, 0.5, 1):
        stroke = "#555" if tick == 0 else "#ddd"
        parts += [
            f'<line x1="{_x(tick)}" x2="{_x(tick)}" y1="{_TOP - 10}" y2="{height - 24}" '
            f'stroke="{stroke}"/>',
            f'<text x="{_x(tick)}" y="{height - 8}" text-anchor="middle" fill="#444">'
            f"{str(tick).replace('-', '−')}</text>",
        ]
    for row, name in enumerate(shown):
        y = _TOP + _ROW * row
        parts.append(
            f'<text x="{_LEFT - 12}" y="{y + 12}" text-anchor="end" fill="#222">'
            f"{escape(name)}</text>"
        )
        for offset, (task, colour) in enumerate(COLOURS.items()):
            found = table[(table["measure"] == name) & (table["task"] == task)]
            if len(found) and pd.notna(found.iloc[0]["tau"]):
                parts += _interval(found.iloc[0], y + 7 * offset - 2, colour)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _interval(row: pd.Series, y: float, colour: str) -> list[str]:
    return [
        f'<line x1="{_x(row["low"])}" x2="{_x(row["high"])}" y1="{y}" y2="{y}" stroke="{colour}" '
        'stroke-width="1.5"/>',
        f'<circle cx="{_x(row["tau"])}" cy="{y}" r="2.6" fill="{colour}"/>',
    ]


def _x(tau: float) -> str:
    return f"{_LEFT + _WIDTH * (tau + 1) / 2:.1f}"
