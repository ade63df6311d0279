"""The pools of models that the study trains: sweeps, each in a run directory of its own.

A pool is a task and a way in which its models differ: `free` in everything that people search over,
`held` at one learning rate and weight decay, `orders` with seeds that share their first weights and
differ in the order of the batches alone. The random sampler asks for the same models whenever it is
asked, so that the pools of other importances hold the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCHEDULES = ["constant", "cosine"]
INITS = ["default", "xavier_uniform", "kaiming_normal", "orthogonal", "normal_002"]
EPOCHS = 20
"""Of every training, so that a tenth of the budget is two epochs."""

SEEDS = 5
_MLP = {
    "hidden": {"int": [8, 128], "log": True},
    "depth": [1, 2, 3, 4],
    "activation": ["relu", "tanh", "gelu"],
}
_TRANSFORMER = {"width": [16, 32], "depth": [1, 2]}
_GRU = {"hidden": {"int": [8, 64], "log": True}}
_CNN = {"channels": {"int": [4, 24], "step": 4}, "depth": [1, 2]}
TASKS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "breast_cancer": ("breast_cancer", 32, {"mlp": _MLP, "transformer": _TRANSFORMER}),
    "diabetes": ("diabetes", 32, {"mlp": _MLP, "transformer": _TRANSFORMER}),
    "digits": ("digits", 64, {"mlp": _MLP, "cnn": _CNN, "gru": _GRU, "transformer": _TRANSFORMER}),
    "verses": (
        "benchmarks.validity.tasks:verses",
        64,
        {"mlp": _MLP, "gru": _GRU, "transformer": _TRANSFORMER},
    ),
}
"""What each task is called in a configuration, its batch size and its architectures: two tables, an
image and a text.
"""

IMPORTANCES = (
    *("taylor", "gradient", "magnitude", "synaptic_intelligence"),
    *("fisher", "mas", "ablation", "permutation"),
)
OTHER_IMPORTANCES_ON = ("breast_cancer", "digits")
"""Tasks on which the importances but `taylor` are studied; the last, `permutation`, on the first
alone: shuffling every tensor in turn takes hours.
"""

SCHEDULES_ON = ("breast_cancer", "digits")
"""Tasks of which a pool varies the learning rate's schedule as well."""

MODELS = {"free": 64, "held": 96, "orders": 24, "schedules": 64}
"""Trials of each; where little varies, some ask for a model that was asked for before."""
_RATES = {"diabetes": (1.0e-3, 1.0e-1, 0.02)}
"""Lowest, highest and held learning rate, where it isn't `_RATE`: more than a third of the models
of a regression diverge there.
"""
_RATE = (3.0e-3, 3.0e-1, 0.05)
_FIXED_WEIGHTS = {
    "benchmarks.validity.models:mlp": {"hidden": {"int": [8, 128], "log": True}, "depth": [1, 2]},
    "benchmarks.validity.models:transformer": {"width": [16, 32]},
}


@dataclass(frozen=True)
class Pool:
    """A sweep of the study."""

    task: str
    kind: str
    importance: str = "taylor"

    @property
    def name(self) -> str:
        """Its run directory's."""
        return f"{self.task}-{self.kind}-{self.importance}".replace("_", "-")

    def configuration(self) -> dict[str, Any]:
        """The sweep's."""
        task, batch, architectures = TASKS[self.task]
        given = _FIXED_WEIGHTS if self.kind == "orders" else architectures
        return {
            "name": self.name,
            "task": task,
            "budget": {"epochs": EPOCHS, "batch_size": batch},
            "replicates": 2 if self.importance != "taylor" or self.kind == "schedules" else SEEDS,
            "trials": MODELS[self.kind],
            "space": {"architecture": given, "momentum": 0.9, **self._settings()},
            "sampler": {"name": "random", "seed": 1},
            "tracer": {"importance": self.importance},
        }

    def _settings(self) -> dict[str, Any]:
        low, high, held = _RATES.get(self.task, _RATE)
        rate = {"float": [low, high], "log": True}
        decay = {"float": [1.0e-5, 1.0e-2], "log": True}
        return {
            "free": {"init": INITS, "learning_rate": rate, "weight_decay": decay},
            "held": {"init": INITS, "learning_rate": held, "weight_decay": 1.0e-4},
            "orders": {"learning_rate": rate},
            "schedules": {
                "init": INITS,
                "learning_rate": rate,
                "weight_decay": decay,
                "schedule": SCHEDULES,
            },
        }[self.kind]


def pools(*, quick: bool) -> list[Pool]:
    """Those of the whole study, or the two that take least time."""
    if quick:
        return [Pool("breast_cancer", "free"), Pool("breast_cancer", "held")]
    return [
        *(Pool(task, kind) for kind in ("free", "held", "orders") for task in TASKS),
        *(Pool(task, "schedules") for task in SCHEDULES_ON),
        *(
            Pool(task, "free", importance)
            for importance in IMPORTANCES[1:]
            for task in OTHER_IMPORTANCES_ON[: 1 if importance == "permutation" else None]
        ),
    ]
