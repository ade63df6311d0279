"""The rule that the values of one parameter obey: its type, bounds and default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from search_spaces.dimensions import Choice, Dimension, IntRange, Scalar
from search_spaces.errors import SpaceError, did_you_mean, listing, shown

Kind = Literal["int", "float", "bool", "str", "any"]
_WORDS = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "text"}


@dataclass(frozen=True)
class Setting:
    """One parameter: what it is for, its type, its default and what it may be.

    ``kind`` "any" takes every scalar (a user's parameter without an annotation). ``required``
    settings have no default. ``low`` and ``high`` are bounds of numbers, themselves allowed unless
    ``low_open`` or ``high_open``; ``choices`` lists the valid values instead.
    """

    kind: Kind
    default: Scalar
    description: str
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    choices: tuple[Scalar, ...] | None = None
    required: bool = False

    def rule(self) -> str:
        """The rule in words, to follow "must be"."""
        if self.choices is not None:
            return f"one of {listing(self.choices)}"
        words = _WORDS.get(self.kind, "a number, text or true/false")
        if self.low is None and self.high is None:
            return words
        low, high = f"{self.low:g}" if self.low is not None else "", f"{self.high or 0:g}"
        if self.high is None:
            return f"{words} above {low}" if self.low_open else f"{words} of at least {low}"
        if self.low_open or self.high_open:
            ends = f"{'(' if self.low_open else '['}{low}, {high}{')' if self.high_open else ']'}"
            return f"{words} in {ends}"
        return f"{words} from {low} to {high}"

    def check(self, dimension: Dimension, where: str) -> Dimension:
        """The dimension with its values in this setting's type, all of them valid.

        Integers of a float setting become floats, so that 1 and 1.0 are the same model. Raises
        SpaceError naming ``where``, the value and the rule.
        """
        if isinstance(dimension, Choice):
            values = tuple(self.value(value, where) for value in dimension.values)
            return Choice(values)
        wanted = "int" if isinstance(dimension, IntRange) else "float"
        if self.kind not in (wanted, "any") or self.choices is not None:
            raise SpaceError(
                f"{where}: got a range of {wanted}s, {shown(dimension.to_yaml())}; "
                f"must be {self.rule()}"
            )
        for end in (dimension.low, dimension.high):
            self.value(end, where)
        return dimension

    def value(self, value: object, where: str) -> Scalar:
        """The value in this setting's type. Raises SpaceError naming where, value and rule."""
        if self.choices is not None:
            for choice in self.choices:
                if choice == value and type(choice) is type(value):
                    return choice
        elif self.kind == "any":
            return Choice((value,)).values[0]  # type: ignore[arg-type]
        elif isinstance(value, bool | str) and type(value).__name__ == self.kind:
            return value
        elif self.kind in ("int", "float"):
            number = self._number(value)
            if number is not None:
                return number
        hint = did_you_mean(value, self.choices or ())
        raise SpaceError(f"{where}: got {shown(value)}; must be {self.rule()}{hint}")

    def _number(self, value: object) -> int | float | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if self.kind == "int" and not isinstance(value, int):
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if self.low is not None and (value < self.low or (self.low_open and value == self.low)):
            return None
        if self.high is not None and (value > self.high or (self.high_open and value == self.high)):
            return None
        try:
            return float(value) if self.kind == "float" else value
        except OverflowError:
            return None


def check_settings(
    settings: dict[str, Setting], given: dict[str, Dimension], where: str
) -> dict[str, Dimension]:
    """Dimensions for all the settings, in their order: those given, checked, and the defaults.

    Names that are no setting must have been refused before. Raises SpaceError listing every
    problem.
    """
    problems: list[str] = []
    checked: dict[str, Dimension] = {}
    for name, setting in settings.items():
        place = f"{where}.{name}"
        try:
            if setting.required and name not in given:
                problems.append(f"{place}: missing; must be {setting.rule()}")
                continue
            checked[name] = setting.check(given.get(name, Choice((setting.default,))), place)
        except SpaceError as error:
            problems += [p if p.startswith(place) else f"{place}: {p}" for p in error.problems]
    if problems:
        raise SpaceError(*problems)
    return checked
