"""The traceability values that go into a training's logs, under the same names everywhere."""

from __future__ import annotations

from trace_core.observation import Observation
from trace_core.trace import blend

CHANGE_RATE, EXPLAINABILITY = "rms", "gini"
"""The kinds in a training's logs: of `steadiness`, and of `score`."""


def tag(name: str) -> str:
    """Return the name in the logs of a value of the whole model."""
    return f"traceability/{name}"


def scalars(seen: Observation, alpha: float) -> dict[str, float]:
    """Return what one log entry says of the last observation: ``score`` (at α), ``steadiness``,
    ``change_rate_rms`` and ``explainability_gini``, each after ``traceability/``; NaN where
    undefined.
    """
    return {
        tag("score"): seen.score(alpha),
        tag("steadiness"): seen.steadiness,
        tag(f"change_rate_{CHANGE_RATE}"): seen.change_rate[CHANGE_RATE],
        tag(f"explainability_{EXPLAINABILITY}"): seen.explainability[EXPLAINABILITY],
    }


def checked_alpha(alpha: float) -> float:
    """Return α. Raises TraceError unless it lies in [0, 1], before the training rather than at its
    first log entry.
    """
    blend(alpha, 0.0, 0.0)
    return alpha
