"""The measure: collect what the parameters do while a model trains, and score how traceable it is.

``Tracer`` needs torch and is loaded when it is first asked for; a stored ``Trace`` is scored with
numpy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trace_core.change_rate import CHANGE_RATES as _CHANGE_RATES
from trace_core.concentration import EXPLAINABILITIES
from trace_core.errors import TraceError
from trace_core.observation import Observation
from trace_core.stability import STABILITIES
from trace_core.statistics import STATISTICS_VERSION
from trace_core.trace import READINGS, Trace

if TYPE_CHECKING:
    from trace_core.tracer import Tracer

CHANGE_RATES = tuple(_CHANGE_RATES)

__all__ = [
    "CHANGE_RATES",
    "EXPLAINABILITIES",
    "READINGS",
    "STABILITIES",
    "STATISTICS_VERSION",
    "Observation",
    "Trace",
    "TraceError",
    "Tracer",
]


def __getattr__(name: str) -> Any:
    if name == "Tracer":
        from trace_core.tracer import Tracer

        return Tracer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
