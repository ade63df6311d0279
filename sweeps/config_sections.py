"""The sections of a sweep's configuration, each with its rules and defaults.

Every key, its rule and its default stand in docs/configuration.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from sweeps.config_messages import ProblemsError, one_of, shown
from sweeps.config_selection import SAMPLERS
from trace_core.change_rate import CHANGE_RATES
from trace_core.concentration import EXPLAINABILITIES
from trace_core.stability import STABILITIES

IMPORTANCES = (
    *("taylor", "gradient", "magnitude", "uniform", "synaptic_intelligence"),
    *("fisher", "mas", "ablation", "permutation"),
)
# The article's 1/N tells the number of parameters and nothing else, so nothing is ranked by it.
CONCENTRATIONS = tuple(kind for kind in EXPLAINABILITIES if kind != "article")
PRUNERS = ("none", "asha", "hyperband", "median")
ALPHA_SCHEMES = ("std", "entropy", "cross_validated")


MOST = 2**31 - 1
"""No count in a configuration goes beyond it."""

EVALUATIONS = 10
"""Evaluations of a training whose budget is in steps, unless told otherwise."""


def whole(default: Any, low: int, high: int = MOST) -> Any:
    """A field that holds an integer in a range."""
    words = f"an integer of at least {low}" if high == MOST else f"an integer from {low} to {high}"
    return Field(default, ge=low, le=high, json_schema_extra={"rule": words})


def named(default: Any, choices: tuple[str, ...]) -> Any:
    """A field that holds one of several names."""
    return Field(default, json_schema_extra={"rule": f"one of {', '.join(choices)}"})


def ruled(default: Any, rule: str, **limits: Any) -> Any:
    """A field with its rule in words."""
    return Field(default, json_schema_extra={"rule": rule}, **limits)


class Section(BaseModel):
    """A part of a configuration: strict, closed, frozen."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )


class Budget(Section):
    """How long each training lasts, and examples a step: ``epochs`` passes over the training part,
    each of which ends with an evaluation; or ``steps`` of the optimiser with ``evaluations`` evenly
    between them, 10 unless told otherwise.
    """

    epochs: int | None = whole(None, 1)
    steps: int | None = whole(None, 1)
    evaluations: int | None = whole(None, 1)
    batch_size: int = whole(..., 1)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        given = {name: each for name, each in value.items() if each is not None}
        if "steps" not in given:
            problems = ["budget.epochs: missing; must be an integer of at least 1"]
            if "evaluations" in given:
                problems = [
                    f"budget.evaluations: got {shown(given['evaluations'])}; epochs have one each: "
                    "it stands beside steps alone"
                ]
            elif "epochs" in given or {*given} - {*cls.model_fields}:
                return given
            raise ProblemsError(problems)
        if "epochs" in given:
            raise ProblemsError(["budget.steps: stands in place of epochs, not beside them"])
        steps = given["steps"]
        if "evaluations" not in given and type(steps) is int:
            given["evaluations"] = max(1, min(EVALUATIONS, steps))
        return given

    @model_validator(mode="after")
    def _check_evaluations(self) -> Self:
        if self.steps and self.evaluations and self.evaluations > self.steps:
            raise ProblemsError(
                [
                    f"budget.evaluations: got {self.evaluations}; must be at most the steps, "
                    f"{self.steps}"
                ]
            )
        return self


class SamplerSettings(Section):
    """What chooses the models to try, its seed, and how many nsga2 breeds from."""

    name: str = named("tpe", SAMPLERS)
    seed: int = whole(0, 0, 2**32 - 1)
    population: int = whole(20, 2, 10_000)

    _check_name = field_validator("name")(one_of(SAMPLERS))


class PrunerSettings(Section):
    """Which trainings are stopped early, by the validation metric of a model's first replicate.

    ``grace`` epochs are trained of each. ``asha`` and ``hyperband`` judge after ``grace`` epochs
    and after each ``reduction`` times as many, of which the best 1/``reduction`` go on; ``median``
    after every epoch, once ``startup`` others have come as far.
    """

    name: str = named("none", PRUNERS)
    grace: int = whole(1, 1)
    reduction: int = whole(4, 2, 100)
    startup: int = whole(5, 1)

    _check_name = field_validator("name")(one_of(PRUNERS))

    def reports(self, epochs: int) -> tuple[int, ...]:
        """The epochs after which a training of so many epochs is judged: or evaluations, where the
        budget is in steps.
        """
        if self.name == "none":
            return ()
        if self.name == "median":
            return tuple(range(self.grace, epochs))
        found = []
        epoch = self.grace
        while epoch < epochs:
            found.append(epoch)
            epoch *= self.reduction
        return tuple(found)


_GPUS_RULE = "a number from 0 to 1, or a whole number above"
_MEMORY_RULE = "bytes (0: not asked for), or text such as 500MB, 2GiB or 1.5TB"
_CUSTOM_RULE = "a mapping of Ray's names of resources to amounts of at least 0.0001"
_BYTES = {"B": 1} | {
    f"{prefix}{unit}": base**power
    for unit, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("KMGT", start=1)
}
_MOST_BYTES = 2**49
_LEAST_BYTES = 2**20
_LEAST_RULE = "bytes (1MiB at least), or text such as 500MB, 2GiB or 1.5TB"
_OTHER_KEYS = {"CPU": "cpus", "GPU": "gpus", "memory": "memory"}
_DURATION_RULE = "seconds above 0, or a time such as 90s, 10m, 1h30m"


def _seconds(value: object) -> object:
    seconds = value
    if isinstance(value, str):
        found = re.fullmatch(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", value)
        parts = [int(part or 0) for part in found.groups()] if found else []
        seconds = sum(n * unit for n, unit in zip(parts, (3600, 60, 1), strict=False))
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MOST:
        raise ValueError(f"got {shown(value)}; must be {_DURATION_RULE}, at most {MOST} seconds")
    return float(seconds)


_Seconds: TypeAlias = Annotated[float, BeforeValidator(_seconds)]


def _bytes(value: Any, rule: str, least: int = 0) -> int:
    amount = value
    if isinstance(value, str):
        found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?) ?([KMGT]?i?B)", value, re.IGNORECASE)
        units = {unit.lower(): size for unit, size in _BYTES.items()}
        size = units.get(found[2].lower()) if found else None
        amount = None if found is None or size is None else round(float(found[1]) * size)
    number = isinstance(amount, int | float) and not isinstance(amount, bool)
    if not number or not least <= amount <= _MOST_BYTES or amount != int(amount):
        raise ValueError(f"got {shown(value)}; must be {rule}, at most 512TiB")
    return int(amount)


class LimitSettings(Section):
    """When a sweep ends before its last trial, in seconds: ``wall_time`` since its command, and
    ``training_time`` of all its trainings together. And when a training fails: ``each_time`` in
    seconds, and ``each_memory`` in bytes, beyond what a worker's process holds without one.
    """

    wall_time: _Seconds | None = ruled(None, _DURATION_RULE)
    training_time: _Seconds | None = ruled(None, _DURATION_RULE)
    each_time: _Seconds | None = ruled(None, _DURATION_RULE)
    each_memory: int | None = ruled(None, _LEAST_RULE)

    @field_validator("each_memory", mode="before")
    @classmethod
    def _check_memory(cls, value: Any) -> int | None:
        return None if value is None else _bytes(value, _LEAST_RULE, _LEAST_BYTES)


class ResourceSettings(Section):
    """What a training takes of a machine: ``cpus``, as many threads too, ``gpus`` or a part of
    one, on which it runs then, ``memory`` in bytes, and ``custom``, by the names that a Ray cluster
    gives to what else its nodes have.
    """

    cpus: int = whole(1, 1, 1024)
    gpus: float = ruled(0.0, _GPUS_RULE)
    memory: int = ruled(0, _MEMORY_RULE)
    custom: dict[str, float] = ruled({}, _CUSTOM_RULE)

    @field_validator("gpus", mode="before")
    @classmethod
    def _check_gpus(cls, value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and (0 <= value <= 1 or (value <= 1024 and value == int(value))):
            return float(value)
        raise ValueError(f"got {shown(value)}; must be {_GPUS_RULE}")

    @field_validator("memory", mode="before")
    @classmethod
    def _check_memory(cls, value: Any) -> int:
        return _bytes(value, _MEMORY_RULE)

    @field_validator("custom", mode="before")
    @classmethod
    def _check_custom(cls, value: Any) -> dict[str, float]:
        if not isinstance(value, Mapping):
            raise ValueError(f"got {shown(value)}; must be {_CUSTOM_RULE}")
        for name, amount in value.items():
            if name in _OTHER_KEYS:
                key = f"resources.{_OTHER_KEYS[name]}"
                raise ValueError(f"got {shown(name)}, which has a key of its own: {key}")
            named = isinstance(name, str) and re.fullmatch(r"[\w.:/-]{1,128}", name, re.ASCII)
            number = isinstance(amount, int | float) and not isinstance(amount, bool)
            if not named or name.startswith("node:") or not number or not 1e-4 <= amount <= MOST:
                raise ValueError(
                    f"got {shown(name)}: {shown(amount)}; must be {_CUSTOM_RULE}, such as ssd: 1 "
                    "or accelerator_type:A100: 0.001"
                )
        return {name: float(amount) for name, amount in value.items()}

    def demand(self) -> dict[str, float]:
        """What a training takes, by Ray's names: CPU, GPU, memory in bytes, and the custom ones."""
        demand = {"CPU": float(self.cpus), "GPU": self.gpus, "memory": float(self.memory)}
        return {name: amount for name, amount in (demand | self.custom).items() if amount}


class RankingSettings(Section):
    """How models are compared: the common α, the floor of learning, the kinds of each component."""

    alpha: float | Literal["std", "entropy", "cross_validated"] = ruled(
        0.5, f"a number from 0 to 1 or one of {', '.join(ALPHA_SCHEMES)}"
    )
    floor: float = ruled(0.5, "a number from 0 to 1", ge=0, le=1)
    stability: str = named("steadiness", STABILITIES)
    explainability: str = named("gini", CONCENTRATIONS)
    change_rate: str = named("rms", tuple(CHANGE_RATES))

    _check_stability = field_validator("stability")(one_of(STABILITIES))
    _check_explainability = field_validator("explainability")(one_of(CONCENTRATIONS))
    _check_change_rate = field_validator("change_rate")(one_of(tuple(CHANGE_RATES)))

    @field_validator("alpha", mode="before")
    @classmethod
    def _check_alpha(cls, value: object) -> object:
        if isinstance(value, str):
            return one_of(
                ALPHA_SCHEMES, f"a number from 0 to 1 or one of {', '.join(ALPHA_SCHEMES)}"
            )(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            rule = cls.model_fields["alpha"].json_schema_extra
            assert isinstance(rule, dict)
            raise ValueError(f"got {shown(value)}; must be {rule['rule']}")
        return float(value)


class TracerSettings(Section):
    """What is collected while a model trains, and how often."""

    importance: str = named("taylor", IMPORTANCES)
    every: int = whole(1, 1)
    histograms: int = whole(32, 1)

    _check_importance = field_validator("importance")(one_of(IMPORTANCES))
