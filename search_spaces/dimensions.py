"""What one parameter may be: a choice, a range of integers, a range of floats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from search_spaces.errors import SpaceError, did_you_mean, listing, shown

Scalar: TypeAlias = bool | int | float | str | None
MOST = 2**63 - 1
"""No integer goes beyond it, nor below its negative."""
EXACT = 2**53
"""Nor the ends of a range: up to here floats, in which samplers reckon, tell any two apart."""
_MOST_STEPS = 10**9


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    # Integers beyond the float range overflow in isfinite.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


@dataclass(frozen=True)
class Choice:
    """One of the values given, without an order.

    ``values``: at least one of bool, int, finite float, str or None; no two alike (1, 1.0 and True
    are alike: a sampler cannot tell them apart). Raises SpaceError.
    """

    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise SpaceError("got []; a list of choices needs at least one value")
        for value in self.values:
            if isinstance(value, float) and not math.isfinite(value):
                raise SpaceError(f"got {shown(value)}; a choice must be a finite number")
            if value is not None and not isinstance(value, bool | int | float | str):
                raise SpaceError(
                    f"got {shown(value)}; a choice must be a number, text or true/false"
                )
            if _is_int(value) and abs(value) > MOST:  # type: ignore[arg-type]
                raise SpaceError(f"got {shown(value)}; an integer must fit 64 bits")
        if len(set(self.values)) < len(self.values):
            twice = _second(self.values)
            raise SpaceError(f"got {shown(list(self.values))}; {shown(twice)} stands there twice")

    def size(self) -> int:
        """How many different values there are."""
        return len(self.values)

    def at(self, index: int) -> Scalar:
        """The value at ``index``, from 0 to size - 1."""
        return self.values[index]

    def quantile(self, share: float) -> Scalar:
        """The value below which ``share``, in [0, 1), of the draws fall."""
        return self.values[int(share * len(self.values))]

    def contains(self, value: object) -> bool:
        """Whether the value is one of the choices."""
        return value in self.values

    def to_yaml(self) -> Any:
        """The value that `parse_dimension` reads back to an equal dimension."""
        return self.values[0] if len(self.values) == 1 else list(self.values)

    def __str__(self) -> str:
        return listing(self.values)


def _second(values: Sequence[Scalar]) -> Scalar:
    """The first value that is like one before it."""
    seen: set[Scalar] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    raise AssertionError


@dataclass(frozen=True)
class IntRange:
    """Integers low, low + step, ..., high, both ends included.

    ``log`` draws evenly in the logarithm; it needs low >= 1 and step 1. high - low must be a
    multiple of step. Raises SpaceError.
    """

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        got = f"got {shown([self.low, self.high])}"
        if not _is_int(self.low) or not _is_int(self.high):
            raise SpaceError(f"{got}; the ends of an int range must be integers")
        if not _is_int(self.step) or self.step < 1:
            raise SpaceError(
                f"got step {shown(self.step)}; the step must be an integer of at least 1"
            )
        if max(abs(self.low), abs(self.high)) > EXACT:
            raise SpaceError(f"{got}; the ends of an int range must be at most 2 to the 53rd")
        _check_ends(self.low, self.high, self.log, self.step != 1)
        if self.log and self.low < 1:
            raise SpaceError(f"{got}; with log the low end must be at least 1")
        rest = (self.high - self.low) % self.step
        if rest:
            raise SpaceError(
                f"{got}; high - low must be a multiple of step {shown(self.step)}: "
                f"the nearest high below is {self.high - rest}"
            )

    def size(self) -> int:
        """How many different values there are."""
        return (self.high - self.low) // self.step + 1

    def at(self, index: int) -> int:
        """The value at ``index``, from 0 to size - 1."""
        return self.low + index * self.step

    def quantile(self, share: float) -> int:
        """The value below which ``share``, in [0, 1), of the draws fall."""
        if not self.log:
            return self.at(int(share * self.size()))
        # Every integer has the share of the logarithm that rounds to it.
        value = round(_between(self.low - 0.5, self.high + 0.5, share, log=True))
        return min(max(value, self.low), self.high)

    def contains(self, value: object) -> bool:
        """Whether the value is an integer of the range."""
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and (value - self.low) % self.step == 0
        )

    def to_yaml(self) -> Any:
        """The value that `parse_dimension` reads back to an equal dimension."""
        plain: dict[str, Any] = {"int": [self.low, self.high]}
        if self.step != 1:
            plain["step"] = self.step
        if self.log:
            plain["log"] = True
        return plain

    def __str__(self) -> str:
        step = f" in steps of {self.step}" if self.step != 1 else ""
        return f"integer {self.low} to {self.high}{step}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class FloatRange:
    """Floats from low to high, both ends included; with ``step``, only low + k step.

    ``log`` draws evenly in the logarithm; it needs low > 0 and no step. With a step, high - low
    must be a multiple of it, as decimals. Integers become floats. Raises SpaceError.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        got = f"got {shown([self.low, self.high])}"
        if not _is_number(self.low) or not _is_number(self.high):
            raise SpaceError(f"{got}; the ends of a float range must be finite numbers")
        if self.step is not None and (not _is_number(self.step) or self.step <= 0):
            raise SpaceError(f"got step {shown(self.step)}; the step must be a number above 0")
        _check_ends(self.low, self.high, self.log, self.step is not None)
        if self.log and self.low <= 0:
            raise SpaceError(f"{got}; with log the low end must be above 0")
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        if not math.isfinite(self.high - self.low):
            raise SpaceError(f"{got}; high - low must be a finite number")
        if self.step is not None and (self.high - self.low) / self.step > _MOST_STEPS:
            raise SpaceError(f"{got}, step {self.step}; must be at most {_MOST_STEPS:,} steps")
        if self.step is not None and self._decimal_span() % Decimal(repr(self.step)):
            raise SpaceError(f"{got}; high - low must be a multiple of step {self.step}")

    def _decimal_span(self) -> Decimal:
        # In binary 0.3 - 0.1 is no multiple of 0.1; in the decimals that were written it is.
        return Decimal(repr(self.high)) - Decimal(repr(self.low))

    def size(self) -> int | None:
        """How many different values there are, or None for a continuous range."""
        if self.low == self.high:
            return 1
        if self.step is None:
            return None
        return int(self._decimal_span() / Decimal(repr(self.step))) + 1

    def at(self, index: int) -> float:
        """The value at ``index``, from 0 to size - 1."""
        if self.step is None:
            return self.low
        return float(Decimal(repr(self.low)) + index * Decimal(repr(self.step)))

    def quantile(self, share: float) -> float:
        """The value below which ``share``, in [0, 1), of the draws fall."""
        size = self.size()
        if size is not None:
            return self.at(int(share * size))
        return min(_between(self.low, self.high, share, log=self.log), self.high)

    def contains(self, value: object) -> bool:
        """Whether the value lies in the range; with a step, on its grid to 1e-9 of a step."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-9)

    def to_yaml(self) -> Any:
        """The value that `parse_dimension` reads back to an equal dimension."""
        plain: dict[str, Any] = {"float": [self.low, self.high]}
        if self.step is not None:
            plain["step"] = self.step
        if self.log:
            plain["log"] = True
        return plain

    def __str__(self) -> str:
        step = f" in steps of {self.step:g}" if self.step is not None else ""
        return f"float {self.low:g} to {self.high:g}{step}{' (log)' if self.log else ''}"


Dimension: TypeAlias = Choice | IntRange | FloatRange


def _between(low: float, high: float, share: float, *, log: bool) -> float:
    if log:
        return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    return low + share * (high - low)


def _check_ends(low: float, high: float, log: object, stepped: bool) -> None:
    if low > high:
        raise SpaceError(f"got {shown([low, high])}; the low end must not be above the high end")
    if not isinstance(log, bool):
        raise SpaceError(f"got log {shown(log)}; log must be true or false")
    if log and stepped:
        raise SpaceError("got log with a step; a range has one or the other")


def parse_dimension(value: object, where: str) -> Dimension:
    """A dimension from what stands in a configuration.

    A plain value is a `Choice` of one, a list a `Choice`, ``{int: [low, high], step:, log:}`` an
    `IntRange`, ``{float: [low, high], step:, log:}`` a `FloatRange`. ``where`` is the key path for
    messages. Raises SpaceError.
    """
    try:
        if isinstance(value, Mapping):
            return _parse_range(value)
        return Choice(tuple(value) if isinstance(value, list | tuple) else (value,))  # type: ignore[arg-type]
    except SpaceError as error:
        raise SpaceError(*(f"{where}: {problem}" for problem in error.problems)) from None


def _parse_range(value: Mapping[Any, Any]) -> IntRange | FloatRange:
    form = "a range is {int: [low, high]} or {float: [low, high]}, with step: or log: if wanted"
    valid = ("int", "float", "step", "log")
    for key in value:
        if key not in valid:
            raise SpaceError(
                f"unknown key {shown(key)} in a range; {form}{did_you_mean(key, valid)}"
            )
    kinds = [kind for kind in ("int", "float") if kind in value]
    if len(kinds) != 1:
        raise SpaceError(f"got {shown(dict(value))}; {form}")
    ends = value[kinds[0]]
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        raise SpaceError(f"got {kinds[0]}: {shown(ends)}; {form}")
    options = {key: value[key] for key in ("step", "log") if key in value}
    if kinds[0] == "int":
        return IntRange(ends[0], ends[1], **options)
    return FloatRange(ends[0], ends[1], **options)
