"""What a ranking tells about performance that nothing chose: the validity of one sweep.

The question is put to the models as they are ranked: does a higher traceability go with a better
metric on the held-out part, which no step of the sweep has seen? And if it does, would a trivial
property of the models have told as much, such as the learning rate or the early validation metric?
An answer of no is no fault of a sweep: traceability is worth having in itself. It says that the
ranking must not be read as a ranking by performance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from sweeps.validity.association import Association, FloatArray, associations, kendall
from sweeps.validity.confounding import Residual, residual

FEWEST_MODELS = 8
"""Models that differ, under which nothing is assessed: an interval of fewer is of no use, and no
confounder can be accounted for.
"""

LEVEL = 0.01
"""Of each test: a verdict is wrong in about one of a hundred sweeps in which there is nothing."""

MOST_MODELS = 1_000
"""Models that are assessed: of a larger pool so many, drawn. They bound τ to about 0.04."""

Verdict = Literal["few", "chance", "explained", "untested", "reversed", "informative"]


@dataclass(frozen=True)
class Assessment:
    """Whether a score goes with performance, over the ranked models of one sweep.

    Attributes:
        verdict: ``few`` models, or few that differ; ``chance``: the association can't be told from
            none; ``explained``: it can, but not once the ``confounders`` are accounted for;
            ``untested``: it can, and there are too few models for so many confounders;
            ``reversed``: given the confounders it goes the other way; ``informative``: it can even
            then, in the same direction (which may be a worse performance).
        models: how many have a score and a performance.
        score: the score's association with performance.
        beside: that of each trivial property, by its name.
        left: what is left between score and performance given the confounders.
        added: what is left given each trivial property by itself.
        confounders: those that vary in this sweep.
        repeatability: mean τ-b between the rankings by single seeds; NaN for a single seed.
        fitted: whether α was chosen with the performance in view, which flatters all of this.
    """

    verdict: Verdict
    models: int
    score: Association
    beside: Mapping[str, Association]
    left: Residual
    added: Mapping[str, Residual]
    confounders: tuple[str, ...]
    repeatability: float
    fitted: bool = False


def assess(
    score: npt.ArrayLike,
    performance: npt.ArrayLike,
    *,
    trivial: Mapping[str, npt.ArrayLike] | None = None,
    confounders: Mapping[str, npt.ArrayLike] | None = None,
    by_seed: Sequence[npt.ArrayLike] = (),
    seed: int = 0,
) -> Assessment:
    """Assess a score of M models against their performance.

    Args:
        score: (M,), higher is better.
        performance: (M,) on data that chose nothing, higher is better. A model that lacks either
            is left out.
        trivial: properties of the models that cost nothing, each (M,), any direction.
        confounders: settings that move a score without being a merit, each (M,); rates as
            logarithms.
        by_seed: the scores (M,) by each seed alone.
        seed: of the resampled pools and permutations.
    """
    sides = np.array([score, performance], dtype=np.float64)
    chosen = np.flatnonzero(np.isfinite(sides).all(axis=0))
    models = len(chosen)
    if models > MOST_MODELS:
        chosen = np.random.default_rng([seed, models]).choice(chosen, MOST_MODELS, replace=False)

    def column(given: npt.ArrayLike) -> FloatArray:
        return np.asarray(given, dtype=np.float64)[chosen]

    values, target = sides[:, chosen]
    varying = {
        name: each
        for name, given in (confounders or {}).items()
        if np.isfinite(each := column(given)).all() and len(np.unique(each)) > 1
    }
    if len(np.unique(sides[:, chosen], axis=1).T) < FEWEST_MODELS:
        nothing = Association(float("nan"), float("nan"), float("nan"), 1.0)
        none = Residual(float("nan"), float("nan"), float("nan"))
        return Assessment("few", models, nothing, {}, none, {}, tuple(varying), float("nan"))
    beside = {
        name: each
        for name, given in (trivial or {}).items()
        if np.isfinite(each := column(given)).all() and len(np.unique(each)) > 1
    }
    found, *others = associations([values, *beside.values()], target, seed=seed)
    left = residual(values, target, list(varying.values()), seed=seed)
    return Assessment(
        verdict=_verdict(found, left if varying else None),
        models=models,
        score=found,
        beside=dict(zip(beside, others, strict=True)),
        left=left,
        added={name: residual(values, target, [each], seed=seed) for name, each in beside.items()},
        confounders=tuple(varying),
        repeatability=repeatability([column(each) for each in by_seed]),
    )


def _verdict(found: Association, left: Residual | None) -> Verdict:
    """What the two tests together say, each at `LEVEL`; ``left`` is None without confounders."""
    if not found.p_value < LEVEL:
        return "chance"
    if left is None:
        return "informative"
    if left.p_value < LEVEL:
        return "informative" if left.value * found.value > 0 else "reversed"
    return "untested" if np.isnan(left.explained) else "explained"


def repeatability(by_seed: Sequence[npt.ArrayLike]) -> float:
    """Mean τ-b over all pairs of seeds between the orders of the same models; NaN if there is none.

    1 is one and the same order from every seed, 0 what unrelated orders yield.
    """
    pairs = [kendall(first, second) for first, second in combinations(by_seed, 2)]
    defined = [tau for tau in pairs if not np.isnan(tau)]
    return float(np.mean(defined)) if defined else float("nan")
