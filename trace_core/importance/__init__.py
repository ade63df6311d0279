"""Importance c of single parameters (design §4.3): which estimators there are, and what each needs.

`IMPORTANCES` are functions of θ and of the gradient that made the step. `PROBED` run the model on a
`Probe`, apart from the training, which they leave as it is to the bit. `SynapticIntelligence`
accumulates along the steps. `ESTIMATORS` says what each costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from trace_core.importance.ablation import ablation, ablation_rises
from trace_core.importance.elementwise import (
    IMPORTANCES,
    ElementwiseImportance,
    importance_estimator,
)
from trace_core.importance.fisher import fisher
from trace_core.importance.mas import mas
from trace_core.importance.per_sample import Estimate
from trace_core.importance.permutation import permutation, permutation_rises
from trace_core.importance.probe import Probe
from trace_core.importance.synaptic_intelligence import SynapticIntelligence
from trace_core.importance.units import UNITS

__all__ = [
    "ESTIMATORS",
    "IMPORTANCES",
    "PROBED",
    "UNITS",
    "ElementwiseImportance",
    "Estimate",
    "Needs",
    "Probe",
    "ProbedImportance",
    "SynapticIntelligence",
    "ablation_rises",
    "importance_estimator",
    "permutation_rises",
]

ProbedImportance = Callable[..., dict[str, Tensor]]
"""(model, probe, **options) → c ≥ 0 of each trainable parameter by name, in its shape."""

PROBED: dict[str, ProbedImportance] = {
    "fisher": fisher,
    "mas": mas,
    "ablation": ablation,
    "permutation": permutation,
}
"""Estimators on a probe, by name."""


@dataclass(frozen=True)
class Needs:
    """What one estimate takes beyond reading θ and g once. B is the number of samples in the probe,
    U the number of units, R the repeats.
    """

    forwards: str = "0"
    """Forward passes: of one sample where they are B, of the whole probe otherwise."""
    backwards: str = "0"
    """Backward passes of one sample."""
    probe: bool = False
    """Whether a `Probe` has to be given."""
    copies: int = 0
    """Copies of the parameters that are kept from step to step."""


ESTIMATORS: dict[str, Needs] = {
    **dict.fromkeys(IMPORTANCES, Needs()),
    "synaptic_intelligence": Needs(copies=2),
    "fisher": Needs(forwards="B", backwards="B", probe=True),
    "mas": Needs(forwards="B", backwards="B", probe=True),
    "ablation": Needs(forwards="U + 1", probe=True),
    "permutation": Needs(forwards="U·R + 1", probe=True),
}
"""Every estimator of the house and what it needs; one that a user registers isn't listed."""
