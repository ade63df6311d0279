"""SVG as text: elements whose attributes and contents are escaped, and nothing else.

Looks are left to the page's style sheet through classes: its content policy forbids ``style``
attributes, and a class can follow the reader's light or dark scheme.
"""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape


def tag(name: str, *children: Markup | str, **attributes: str | float | None) -> Markup:
    """An element, its text escaped; ``class_`` is written class, ``text_anchor`` text-anchor."""
    written = "".join(
        f' {_attribute(key)}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(escape(child) for child in children)
    return Markup(f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>")  # noqa: S704


def group(children: Iterable[Markup], **attributes: str | float | None) -> Markup:
    """A ``<g>`` of ``children``."""
    return tag("g", *children, **attributes)


def drawing(
    width: float,
    height: float,
    title: str,
    description: str,
    children: Iterable[Markup],
    class_: str,
) -> Markup:
    """An ``<svg>`` image with a name and a description for those who don't see it."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *children,
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=title,
        class_=class_,
    )


def path(points: Iterable[tuple[float, float]], closed: bool = False) -> str:
    """Straight lines through ``points``, as the ``d`` of a ``<path>``."""
    steps = [f"{_value(x)},{_value(y)}" for x, y in points]
    return "M" + "L".join(steps) + ("Z" if closed else "")


def _attribute(key: str) -> str:
    return "viewBox" if key == "viewBox" else key.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    """A tenth of a pixel is finer than any screen shows, and keeps the page small."""
    if isinstance(value, str):
        return value
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
