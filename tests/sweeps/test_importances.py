"""Which setting explains a figure: what was planted, at any scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sweeps.selection import setting_importances


def models(count: int, seed: int = 0) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The rate decides, the name a little, the depth nothing; some have a setting of their own."""
    rng = np.random.default_rng(seed)
    settings: list[dict[str, Any]] = [
        {
            "rate": float(10 ** rng.uniform(-3, 0)),
            "name": ["a", "b"][int(rng.integers(2))],
            "depth": int(rng.integers(1, 5)),
            "batch": 64,
            "bias": bool(rng.integers(2)),
        }
        | ({"own": 3} if index % 2 else {})
        for index in range(count)
    ]
    figures = [np.log10(each["rate"]) + 0.3 * (each["name"] == "b") for each in settings]
    return settings, np.array(figures)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e200])
@pytest.mark.parametrize("count", [30, 400])
def test_what_decides_comes_first_at_any_scale(count: int, scale: float) -> None:
    settings, figures = models(count)
    found = setting_importances(settings, scale * figures)
    assert next(iter(found)) == "rate"
    assert found["rate"] > 0.7
    assert set(found) == {"rate", "name", "depth", "bias"}
    assert sum(found.values()) == pytest.approx(1)


def test_where_nothing_can_be_said_nothing_is() -> None:
    settings, figures = models(30)
    assert setting_importances(settings[:9], figures[:9]) == {}
    assert setting_importances(settings, np.full(30, 0.3)) == {}
    assert setting_importances(settings, 0.3 + 1e-16 * np.arange(30)) == {}
    assert setting_importances(settings, np.full(30, np.nan)) == {}
    assert setting_importances([{"batch": 1}] * 30, figures) == {}
    assert setting_importances([{"depth": i % 3} for i in range(30)], figures) == {"depth": 1.0}
