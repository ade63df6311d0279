"""What is known right after an observed step, for showing the score live (S6 of the design)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trace_core import stability
from trace_core.change_rate import CHANGE_RATES
from trace_core.concentration import EXPLAINABILITIES, FROM_ORDER
from trace_core.errors import look_up, require_known
from trace_core.trace import READINGS, Trace, blend


@dataclass(frozen=True)
class Observation:
    """Model-level values at one observed step; NaN where undefined."""

    step: int
    """Optimiser step, from 0."""
    change_rate: Mapping[str, float]
    """Change rate ≥ 0 by kind."""
    explainability: Mapping[str, float]
    """Concentration of the importance by kind; `gini` and `top_mass` are of the last histogram."""
    steadiness: float
    """Steadiness in [0, 1] of the trailing 50 observations."""

    @classmethod
    def last_of(cls, trace: Trace) -> Observation:
        """Return the last observation of a trace that reaches back to a histogram."""
        count, at = len(trace), int(trace.histogram.observations[-1])
        last, of_histogram = trace.rows(count - 1, count), trace.rows(at, at + 1)
        trailing = trace.rows(max(0, count - stability.TRAILING), count)
        return cls(
            step=int(trace.steps[-1]),
            change_rate={kind: float(last.change_rate(kind)[0]) for kind in CHANGE_RATES},
            explainability={
                kind: float((of_histogram if kind in FROM_ORDER else last).explainability(kind)[0])
                for kind in EXPLAINABILITIES
            },
            steadiness=stability.steadiness(trailing.change_rate("rms"), trailing.learning_rate()),
        )

    def score(
        self,
        alpha: float = 0.5,
        reading: str = "calibrated",
        change_rate: str = "tensor_l1",
        explainability: str = "gini",
    ) -> float:
        """Score of this step, as `Trace.scores` gives it: ``calibrated`` from the steadiness and an
        explainability, ``article`` from a change rate and 1/N.

        Raises TraceError if α is outside [0, 1], or for an unknown reading or kind.
        """
        if require_known(reading, READINGS, "reading") == "article":
            rate = look_up(change_rate, self.change_rate, "change rate")
            return blend(alpha, rate, self.explainability["article"])
        return blend(
            alpha, self.steadiness, look_up(explainability, self.explainability, "explainability")
        )
