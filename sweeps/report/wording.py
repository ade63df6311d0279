"""How figures and settings are put into words: one place, so that the page agrees with itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "–"
_MOST_WHOLE = 1e15
"""Settings below are written in full where they are whole."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def finite(value: Any) -> float | None:
    """``value`` as a float, or None if it is missing or not finite, which JSON can't hold."""
    if value is None:
        return None
    # A negative zero is a zero, in words too.
    number_ = float(value) + 0.0
    return number_ if math.isfinite(number_) else None


def number(value: Any, digits: int = 3) -> str:
    """``value`` to ``digits`` decimals; small or large ones to as many significant figures.

    Decimals and not significant figures in the ordinary range, so that a column lines up.
    """
    figure = finite(value)
    if figure is None:
        return MISSING
    size = abs(figure)
    if size == 0 or 10.0 ** (1 - digits) <= size < 1e3:
        return f"{figure:.{digits}f}".replace("-", "−")
    return significant(figure, digits)


def significant(value: Any, digits: int = 3, pad: bool = False) -> str:
    """``value`` to ``digits`` significant figures, as a power of ten where digits would be many.

    ``pad`` keeps the zeros at the end, so that figures in a column are of one length.
    """
    figure = finite(value)
    if figure is None:
        return MISSING
    if figure == 0 or 1e-4 <= abs(figure) < 1e6:
        if abs(figure) >= 10**digits - 0.5:
            text = f"{figure:.0f}"
        else:
            text = f"{figure:#.{digits}g}".rstrip(".") if pad else f"{figure:.{digits}g}"
        return text.replace("-", "−")
    mantissa, exponent = f"{figure:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPTS)}".replace("-", "−")


def percent(share: Any) -> str:
    """A share of one as whole per cent, but never 0% or 100% by rounding alone."""
    figure = finite(share)
    if figure is None:
        return MISSING
    if 0 < figure < 0.01:
        return "<1%"
    if 0.99 < figure < 1:
        return ">99%"
    return f"{100 * figure:.0f}%"


def span(low: int, high: int) -> str:
    """A range of ranks: "3", or "1–4"."""
    return f"{low}" if low == high else f"{low}–{high}"


def count(amount: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: 1 model, 3 models."""
    return f"{amount:,} {noun if amount == 1 else plural or noun + 's'}"


def listing(items: Sequence[str], most: int = 5) -> str:
    """Items as "a, b and c"; what goes beyond ``most`` is counted, not named."""
    shown = list(items[:most])
    rest = len(items) - len(shown)
    if rest:
        shown.append(f"{rest:,} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def setting(name: str, value: Any) -> str:
    """One setting as the table shows it: its name without the architecture's prefix, and its value.

    The space before the value does not break, so that no line begins with a bare number.
    """
    return f"{name.rsplit('.', 1)[-1].replace('_', ' ')}\u00a0{plain(value)}"


def plain(value: Any) -> str:
    """A setting's value; whole numbers in full, be they of integers or of floats."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        whole = abs(value) < _MOST_WHOLE and value == int(value)
        return f"{int(value)}" if whole else significant(value)
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def settings(values: Mapping[str, Any]) -> str:
    """Settings in a row, for one line of text."""
    return ", ".join(setting(name, value) for name, value in values.items())


def capitalised(sentence: str) -> str:
    """A sentence with its first letter large, and nothing else changed."""
    return sentence[:1].upper() + sentence[1:]
