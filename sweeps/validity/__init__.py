"""Does a score mean anything? Rank correlations with performance, and what explains them."""

from sweeps.validity.assessment import FEWEST_MODELS, Assessment, assess, repeatability
from sweeps.validity.association import Association, association, kendall
from sweeps.validity.confounding import Residual, residual
from sweeps.validity.of_ranking import assess_ranking

__all__ = [
    "FEWEST_MODELS",
    "Assessment",
    "Association",
    "Residual",
    "assess",
    "assess_ranking",
    "association",
    "kendall",
    "repeatability",
    "residual",
]
