"""From figures to places in a drawing: linear and logarithmic scales, and their ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps ``low..high`` onto ``start..end`` of the drawing; logarithmically if ``log``.

    ``start`` may lie beyond ``end``: an axis that runs up the page, or one that is reversed.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a scale needs finite low < high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale needs low > 0, got {self.low}")

    def __call__(self, value: float) -> float:
        """The place of ``value``; values outside the scale are placed at its nearer end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within the scale, at most about ``most`` of them."""
        return (
            log_ticks(self.low, self.high, most) if self.log else ticks(self.low, self.high, most)
        )


def domain(values: Iterable[float], pad: float = 0.06) -> tuple[float, float]:
    """The range of ``values`` with a margin of ``pad`` of it; never empty.

    A single value gets a range around itself, and no values at all get 0..1.
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    width = high - low
    if width <= 1e-9 * max(abs(low), abs(high)):
        width = max(abs(low), 1e-3) * 0.2
        return low - width / 2, high + width / 2
    return low - pad * width, high + pad * width


def log_domain(values: Iterable[float], pad: float = 0.06) -> tuple[float, float]:
    """As ``domain``, on a logarithmic axis; values that are not above zero have no place there."""
    known = [math.log10(value) for value in values if value > 0 and math.isfinite(value)]
    low, high = domain(known, pad) if known else (-1.0, 0.0)
    if high - low < 0.2:
        middle = (low + high) / 2
        low, high = middle - 0.1, middle + 0.1
    return 10.0**low, 10.0**high


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 × a power of ten within ``low..high``, at most ``most`` of them."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (m * power for m in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    digits = max(0, -math.floor(math.log10(step)))
    return [round(i * step, digits) + 0.0 for i in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Powers of ten within ``low..high``, thinned to ``most``; with 2s and 5s where there are few.

    Where not even those give two ticks, the span is so narrow that linear ticks read better.
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = [10.0**e for e in range(first, last + 1)]
    if len(powers) > most:
        powers = powers[:: math.ceil(len(powers) / most)]
    if len(powers) >= 3:
        return powers
    for multiples in ((1, 3), (1, 2, 5)):
        fine = [
            m * 10.0**e
            for e in range(first - 1, last + 1)
            for m in multiples
            if low * (1 - 1e-9) <= m * 10.0**e <= high * (1 + 1e-9)
        ]
        if len(fine) >= 3:
            return fine
    return ticks(low, high, most)
