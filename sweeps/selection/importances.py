"""Which setting matters: the share of a figure's variation over the models that each explains.

By functional ANOVA over a random forest (`sweeps.selection.fanova`). Models differ in which
settings they have, and a setting that only some have can't be compared over all: so those that all
have are judged over all models, and an architecture's own over the models of that architecture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from sweeps.selection.fanova import FloatArray, explained_shares

FEWEST = 10
"""Models under which a forest says nothing."""
MOST = 200
"""Models that are judged by: more are drawn from, as the time grows with them."""
TREES = 16
ROUNDING = 1e-9
"""Spread, as a share of the figures, that counts as none."""


def setting_importances(
    settings: Sequence[Mapping[str, Any]], figures: Sequence[float], seed: int = 0
) -> dict[str, float]:
    """The share that each setting explains, for the settings that all models have and in which they
    differ, the greatest first; they sum to 1. Nothing under `FEWEST` models, or where figures or
    settings are all the same.

    Args:
        settings: of each model: numbers, truth values and names.
        figures: of each model; models whose figure isn't finite are left out.
        seed: of the forest.
    """
    finite = [i for i, figure in enumerate(figures) if np.isfinite(figure)]
    if len(finite) > MOST:
        finite = sorted(np.random.default_rng(seed).choice(finite, MOST, replace=False).tolist())
    kept = [settings[i] for i in finite]
    if len(kept) < FEWEST:
        return {}
    chosen = np.array([figures[i] for i in finite], dtype=np.float64)
    spread = float(np.ptp(chosen))
    if not spread > ROUNDING * float(np.abs(chosen).max()):
        return {}
    # A forest stops splitting at a spread that it takes for none, whatever the figures' scale.
    chosen = (chosen - chosen.min()) / spread
    shared = [name for name in sorted(kept[0]) if all(name in each for each in kept)]
    columns = {name: _coordinates([each[name] for each in kept]) for name in shared}
    varying = {name: each for name, each in columns.items() if each is not None}
    if len(varying) < 2:
        return dict.fromkeys(varying, 1.0)
    points = np.concatenate(list(varying.values()), axis=1)
    bounds = np.stack([points.min(axis=0), points.max(axis=0)], axis=1)
    ends = np.cumsum([each.shape[1] for each in varying.values()]).tolist()
    coordinates = [range(first, end) for first, end in pairwise([0, *ends])]
    shares = explained_shares(points, chosen, bounds, coordinates, trees=TREES, seed=seed)
    total = sum(shares)
    found = {
        name: share / total if total > 0 else 0.0
        for name, share in zip(varying, shares, strict=True)
    }
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def _coordinates(values: Sequence[Any]) -> FloatArray | None:
    """(N, coordinates) of a setting's values: numbers as they are, names as one 0 or 1 for each;
    None where they are all the same.
    """
    names = [str(value) for value in values]
    if len(set(names)) < 2:
        return None
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.array(values, dtype=np.float64)[:, None]
    return np.array([[name == each for each in sorted(set(names))] for name in names], np.float64)
