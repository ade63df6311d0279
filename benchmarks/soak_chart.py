"""The memory of a sweep's processes over its trials in one picture, as an SVG."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.soaking import Look, Soak
from sweeps.report.scales import Scale

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's, which the colour-blind can tell apart."""

SHOWN = ("driver", "worker", "review", "raylet", "GCS")
"""The roles that are drawn; every worker is a line."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 380, 60, 150, 40, 46


def chart(found: Soak) -> str:
    """Resident memory (MiB) over trials, a line a process."""
    lines = dict(_lines(found.looks))
    most = max(value for line in lines.values() for _, value in line)
    x = Scale(0, max(1, found.looks[-1].trials), _LEFT, _WIDTH - _RIGHT)
    y = Scale(0, most, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12" role="img" '
        'aria-label="Resident memory of a sweep\'s processes over its trials">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        '<text x="4" y="18" fill="#222">resident memory, MiB</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" fill="#222" text-anchor="end">'
        "trials that have ended</text>",
    ]
    for tick in y.ticks():
        parts += [
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" '
            'stroke="#ddd"/>',
            f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end" fill="#444">'
            f"{tick:g}</text>",
        ]
    for tick in x.ticks():
        parts.append(
            f'<text x="{x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" '
            f'fill="#444">{tick:,.0f}</text>'
        )
    below = 0.0
    for (name, line), colour in zip(
        sorted(lines.items(), key=lambda one: -one[1][-1][1]), COLOURS * 9, strict=False
    ):
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line)
        below = max(below + 15, y(line[-1][1]))
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
            f'<text x="{_WIDTH - _RIGHT + 8}" y="{below + 4:.1f}" fill="{colour}">{name}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _lines(looks: list[Look]) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """Each process's points: trials and MiB, thinned to what can be seen."""
    step = max(1, len(looks) // (_WIDTH // 2))
    pids = {each.pid: each.role for look in looks for each in look.processes if each.role in SHOWN}
    for role in SHOWN:
        of_role = [pid for pid, its in pids.items() if its == role]
        for number, pid in enumerate(of_role, 1):
            name = role if len(of_role) == 1 else f"{role} {number}"
            yield (
                name,
                [
                    (look.trials, each.rss / 1024)
                    for look in looks[::step]
                    for each in look.processes
                    if each.pid == pid
                ],
            )
