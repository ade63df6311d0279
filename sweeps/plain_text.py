"""Text that others wrote, such as another machine's or the names in a file, made safe to show."""

from __future__ import annotations

_MOST = 300
"""Characters of what others wrote that are shown on a line."""


def plain(text: object) -> str:
    """What others wrote, on one line, without what a terminal would obey."""
    clean = harmless(" ".join(str(text).split()))
    return clean if len(clean) <= _MOST else f"{clean[:_MOST]}…"


def harmless(text: str) -> str:
    """All of a text in its lines, without what a terminal would obey."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def printable(text: str) -> str:
    """The text with what UTF-8 has no form for (half of a surrogate pair, which also stands for a
    byte of a file's name that isn't UTF-8) written as an escape.
    """
    return text.encode("utf-8", "backslashreplace").decode()
