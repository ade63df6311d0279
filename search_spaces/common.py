"""The parameters that every model has, whatever its architecture: their rules and defaults."""

from __future__ import annotations

from search_spaces.initialisations import INITIALISATIONS
from search_spaces.setting import Setting

# In the order in which a draw asks for them; alpha, which determines no training, comes last.
COMMON: dict[str, Setting] = {
    "init": Setting("str", "default", "how the parameters start", choices=tuple(INITIALISATIONS)),
    "optimizer": Setting("str", "sgd", "what makes the steps", choices=("sgd", "adam", "adamw")),
    "learning_rate": Setting(
        "float", 0.1, "the learning rate at the first step", low=0.0, low_open=True
    ),
    "momentum": Setting("float", 0.0, "momentum of sgd", low=0.0, high=1.0, high_open=True),
    "weight_decay": Setting("float", 0.0, "weight decay, as the optimiser applies it", low=0.0),
    "schedule": Setting(
        "str", "constant", "the learning rate over the run", choices=("constant", "cosine")
    ),
    "batch_size": Setting("int", None, "examples a step, instead of the budget's", low=1),
    "epochs": Setting("int", None, "passes over the training part, instead of the budget's", low=1),
    "alpha": Setting("float", 0.5, "weight of stability against explainability", low=0.0, high=1.0),
}

# Absent unless the space names them: the budget holds for all.
OPTIONAL = ("batch_size", "epochs")
