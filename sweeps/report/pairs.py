"""What tells whether two models differ at any α: the figures behind the rank intervals.

A rank interval counts over all models, so that two may overlap although the pair is significant.
The variance of a score α · a + (1 − α) · b is a parabola in α, of which each model's three
coefficients say all; the page's scripts compare any pair of them, as `rank_intervals` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeps.ranking.rank_intervals import LEVEL, RankIntervals
from sweeps.ranking.studentized_range import critical_values, interpolated_critical_values

_NODES = 257
"""Critical values that are written down, over 1/ν from 0 to 1: between them a straight line is off
by less than 1e-4 of a value.
"""


def pair_figures(
    parts: Sequence[NDArray[np.float64]], found: Sequence[RankIntervals]
) -> dict[str, Any] | None:
    """``parts`` of each model, (replicates, 2): what α and what 1 − α weighs. ``found``: the rank
    intervals at every hundredth of α.

    None where nothing can be compared; else ``methods`` and ``distinguishable`` by hundredths;
    ``sizes``, the replicates of each model; ``spreads``, each model's variances of both parts and,
    between them, the covariance; ``critical``, of Tukey's differences; and ``critical_by_freedom``,
    logarithms over 1/ν, where some α needs Games and Howell's.
    """
    if not found or found[0].method == "none":
        return None
    spreads = [np.cov(part, rowvar=False, ddof=1) for part in parts]
    sizes = [len(part) for part in parts]
    methods = [each.method for each in found]
    freedom = sum(sizes) - len(sizes)
    inverse = np.linspace(0, 1, _NODES)
    unequal = "games-howell" in methods
    by_freedom = (
        np.log(
            interpolated_critical_values(len(parts), 1 / np.maximum(inverse, 1e-6), 1 - LEVEL)
        ).tolist()
        if unequal
        else []
    )
    return {
        "methods": methods,
        "distinguishable": [each.distinguishable for each in found],
        "sizes": sizes,
        "spreads": [[float(s[0, 0]), float(s[0, 1]), float(s[1, 1])] for s in spreads],
        "critical": float(critical_values(len(parts), freedom, 1 - LEVEL)),
        "critical_by_freedom": by_freedom,
    }
