"""The ranking: who is eligible, in what order, and how sure that order is."""

from sweeps.ranking.eligibility import STATES, Exclusion, MetricInfo
from sweeps.ranking.identity import fingerprint
from sweeps.ranking.over_alpha import intervals_over_alpha
from sweeps.ranking.ranking import COLUMNS, READINGS, Leader, Ranking, rank

__all__ = [
    "COLUMNS",
    "READINGS",
    "STATES",
    "Exclusion",
    "Leader",
    "MetricInfo",
    "Ranking",
    "fingerprint",
    "intervals_over_alpha",
    "rank",
]
