"""The configuration of a sweep: read, checked, and every default filled in.

Every key, its rule and its default stand in docs/configuration.md.
"""

from __future__ import annotations

import contextlib
import copy
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from search_spaces import (
    Choice,
    Dimension,
    Grid,
    Space,
    SpaceError,
    Task,
    get_architecture,
    get_task,
)
from sweeps import yaml_text
from sweeps.config_messages import ConfigError, ProblemsError, one_of, problems_of, shown
from sweeps.config_selection import (
    JOURNAL,
    SAMPLERS,
    STORAGE_RULE,
    checked_storage,
    earlier_runs,
    first_points,
    sampler_problems,
)
from trace_core.change_rate import CHANGE_RATES
from trace_core.concentration import EXPLAINABILITIES
from trace_core.stability import LEAST_USABLE, STABILITIES

if TYPE_CHECKING:
    from sweeps.candidate import Candidate

IMPORTANCES = (
    *("taylor", "gradient", "magnitude", "uniform", "synaptic_intelligence"),
    *("fisher", "mas", "ablation", "permutation"),
)
# The article's 1/N tells the number of parameters and nothing else, so nothing is ranked by it.
CONCENTRATIONS = tuple(kind for kind in EXPLAINABILITIES if kind != "article")
PRUNERS = ("none", "asha", "hyperband", "median")
ALPHA_SCHEMES = ("std", "entropy", "cross_validated")
OBJECTIVES = ("stability", "explainability", "metric", "traceability", "article_score")
LOGGERS = ("tensorboard", "mlflow", "wandb")


MOST = 2**31 - 1
"""No count in a configuration goes beyond it."""


def _whole(default: Any, low: int, high: int = MOST) -> Any:
    words = f"an integer of at least {low}" if high == MOST else f"an integer from {low} to {high}"
    return Field(default, ge=low, le=high, json_schema_extra={"rule": words})


def _named(default: Any, choices: tuple[str, ...]) -> Any:
    return Field(default, json_schema_extra={"rule": f"one of {', '.join(choices)}"})


def _ruled(default: Any, rule: str, **limits: Any) -> Any:
    return Field(default, json_schema_extra={"rule": rule}, **limits)


class _Section(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )


class Budget(_Section):
    """How long each training lasts: passes over the training part, and examples a step."""

    epochs: int = _whole(..., 1)
    batch_size: int = _whole(..., 1)


class SamplerSettings(_Section):
    """What chooses the models to try, its seed, and how many nsga2 breeds from."""

    name: str = _named("tpe", SAMPLERS)
    seed: int = _whole(0, 0, 2**32 - 1)
    population: int = _whole(20, 2, 10_000)

    _check_name = field_validator("name")(one_of(SAMPLERS))


class PrunerSettings(_Section):
    """Which trainings are stopped early, by the validation metric of a model's first replicate.

    ``grace`` epochs are trained of each. ``asha`` and ``hyperband`` judge after ``grace`` epochs
    and after each ``reduction`` times as many, of which the best 1/``reduction`` go on; ``median``
    after every epoch, once ``startup`` others have come as far.
    """

    name: str = _named("none", PRUNERS)
    grace: int = _whole(1, 1)
    reduction: int = _whole(4, 2, 100)
    startup: int = _whole(5, 1)

    _check_name = field_validator("name")(one_of(PRUNERS))

    def reports(self, epochs: int) -> tuple[int, ...]:
        """The epochs after which a training of so many epochs is judged."""
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
_OTHER_KEYS = {"CPU": "cpus", "GPU": "gpus", "memory": "memory"}
_DURATION_RULE = "seconds above 0, or a time such as 90s, 10m, 1h30m"


def _seconds(value: object) -> object:
    seconds = value
    if isinstance(value, str):
        found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", value)
        parts = [int(part or 0) for part in found.groups()] if found else []
        seconds = sum(n * unit for n, unit in zip(parts, (3600, 60, 1), strict=False))
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise ValueError(f"got {shown(value)}; must be {_DURATION_RULE}")
    return float(seconds)


_Seconds: TypeAlias = Annotated[float, BeforeValidator(_seconds)]


class LimitSettings(_Section):
    """When a sweep ends before its last trial, in seconds: ``wall_time`` since its command, and
    ``training_time`` of all its trainings together.
    """

    wall_time: _Seconds | None = _ruled(None, _DURATION_RULE)
    training_time: _Seconds | None = _ruled(None, _DURATION_RULE)


class ResourceSettings(_Section):
    """What a training takes of a machine: ``cpus``, as many threads too, ``gpus`` or a part of
    one, on which it runs then, ``memory`` in bytes, and ``custom``, by the names that a Ray cluster
    gives to what else its nodes have.
    """

    cpus: int = _whole(1, 1, 1024)
    gpus: float = _ruled(0.0, _GPUS_RULE)
    memory: int = _ruled(0, _MEMORY_RULE)
    custom: dict[str, float] = _ruled({}, _CUSTOM_RULE)

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
        amount = value
        if isinstance(value, str):
            found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?i?B)", value, re.IGNORECASE)
            units = {unit.lower(): size for unit, size in _BYTES.items()}
            size = units.get(found[2].lower()) if found else None
            amount = None if found is None or size is None else round(float(found[1]) * size)
        number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not number or not 0 <= amount <= _MOST_BYTES or amount != int(amount):
            raise ValueError(f"got {shown(value)}; must be {_MEMORY_RULE}, at most 512TiB")
        return int(amount)

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


class RankingSettings(_Section):
    """How models are compared: the common α, the floor of learning, the kinds of each component."""

    alpha: float | Literal["std", "entropy", "cross_validated"] = _ruled(
        0.5, f"a number from 0 to 1 or one of {', '.join(ALPHA_SCHEMES)}"
    )
    floor: float = _ruled(0.5, "a number from 0 to 1", ge=0, le=1)
    stability: str = _named("steadiness", STABILITIES)
    explainability: str = _named("gini", CONCENTRATIONS)
    change_rate: str = _named("rms", tuple(CHANGE_RATES))

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


class TracerSettings(_Section):
    """What is collected while a model trains, and how often."""

    importance: str = _named("taylor", IMPORTANCES)
    every: int = _whole(1, 1)
    histograms: int = _whole(32, 1)

    _check_importance = field_validator("importance")(one_of(IMPORTANCES))


def _parse_space(value: object) -> Space:
    if isinstance(value, Space):
        return value
    try:
        return Space.parse(value)
    except SpaceError as error:
        raise ProblemsError(error.problems) from None


_ParsedSpace: TypeAlias = Annotated[Space, BeforeValidator(_parse_space)]
_NAME_RULE = "1 to 64 letters, digits, '-', '_' or '.', the first a letter or digit"


class SweepConfig(_Section):
    """A sweep, resolved: every default is filled in, and every check passed.

    Frozen. ``objectives`` holds canonical names: the task's own metric is ``metric``. ``workers``
    None is one for every CPU, and on a cluster as many as have room.
    """

    name: str = _ruled(..., _NAME_RULE, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z")
    task: str = _ruled(..., "the name of a task or an import path")
    budget: Budget = _ruled(..., "a mapping with epochs and batch_size")
    replicates: int = _whole(3, 1, 100)
    trials: int = _whole(40, 1)
    space: _ParsedSpace = _ruled(..., "a mapping with architecture")
    sampler: SamplerSettings = _ruled(SamplerSettings(), "a mapping with name, seed and population")
    first: tuple[dict[str, Any], ...] = _ruled((), "a list of mappings of parameters to values")
    warm_start: tuple[str, ...] = _ruled((), "a list of run directories")
    storage: str = _ruled(JOURNAL, STORAGE_RULE)
    pruner: PrunerSettings = _ruled(
        PrunerSettings(), "a mapping with name, grace, reduction and startup"
    )
    limits: LimitSettings = _ruled(LimitSettings(), "a mapping with wall_time and training_time")
    objectives: tuple[str, ...] = _ruled(
        ("stability", "explainability", "metric"), f"a list of {', '.join(OBJECTIVES)}"
    )
    ranking: RankingSettings = _ruled(
        RankingSettings(), "a mapping with alpha, floor, stability, explainability, change_rate"
    )
    tracer: TracerSettings = _ruled(
        TracerSettings(), "a mapping with importance, every and histograms"
    )
    workers: int | None = _whole(None, 1)
    loggers: tuple[str, ...] = _ruled((), f"a list of {', '.join(LOGGERS)}")
    resources: ResourceSettings = _ruled(
        ResourceSettings(), "a mapping with cpus, gpus, memory and custom"
    )
    dtype: str = _named("float32", ("float32", "float64"))
    replicates_together: bool = _ruled(True, "true or false")

    _check_dtype = field_validator("dtype")(one_of(("float32", "float64")))
    _check_storage = field_validator("storage", mode="before")(checked_storage)
    _check_warm_start = field_validator("warm_start", mode="before")(earlier_runs)

    @field_validator("first", mode="before")
    @classmethod
    def _check_first(cls, value: object, info: ValidationInfo) -> tuple[dict[str, Any], ...]:
        try:
            return first_points(info.data.get("space"), value)
        except SpaceError as error:
            raise ProblemsError(error.problems) from None

    @field_validator("task")
    @classmethod
    def _check_task(cls, value: str) -> str:
        try:
            get_task(value)
        except SpaceError as error:
            raise ProblemsError(error.problems) from None
        return value

    @field_validator("objectives", mode="before")
    @classmethod
    def _check_objectives(cls, value: object, info: ValidationInfo) -> tuple[str, ...]:
        got = f"got {shown(value)}"
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"{got}; must be a list of at least one of {', '.join(OBJECTIVES)}")
        # Without a valid task, whose metric has a name of its own, no objective can be refused.
        task = info.data.get("task")
        metric = get_task(task).metric.name if task is not None else None
        names = ["metric" if name == metric else name for name in value]
        check = one_of([*OBJECTIVES, *([metric] if metric else [])])
        for given, name in zip(value, names, strict=True):
            if metric is not None:
                check(given)
            if names.count(name) > 1:
                raise ValueError(f"{got}; {name} stands there twice")
        for beside in ("stability", "explainability"):
            if "traceability" in names and beside in names:
                raise ValueError(
                    f"{got}; traceability stands in place of stability and explainability, "
                    f"not beside {beside}"
                )
        return tuple(names)

    @field_validator("loggers", mode="before")
    @classmethod
    def _check_loggers(cls, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"got {shown(value)}; must be a list of {', '.join(LOGGERS)}")
        names = tuple(map(one_of(LOGGERS), value))
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"got {shown(value)}; {name} stands there twice")
        return names

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.sampler.name == "grid" and "trials" not in self.model_fields_set:
            with contextlib.suppress(SpaceError):
                object.__setattr__(self, "trials", min(Grid(self.space).size, MOST))
        problems = [
            *_fit_problems(self),
            *_size_problems(self),
            *_pruner_problems(self),
            *sampler_problems(self),
        ]
        if problems:
            raise ProblemsError(problems)
        return self

    @property
    def metric_name(self) -> str:
        """The task's metric."""
        return self.task_object().metric.name

    @property
    def metric_direction(self) -> Literal["maximize", "minimize"]:
        """Which way the task's metric is better."""
        return self.task_object().metric.direction

    def task_object(self) -> Task:
        """The task itself."""
        return get_task(self.task)

    def most_epochs(self) -> int:
        """The most epochs that a training lasts."""
        return _ends(self, "epochs")[2]

    def objective_names(self) -> list[str]:
        """The objectives by their canonical names."""
        return list(self.objectives)

    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """Which way each objective is better, in their order."""
        return [
            self.metric_direction if name == "metric" else "maximize" for name in self.objectives
        ]

    @classmethod
    def from_dict(
        cls,
        data: object,
        source: str = "configuration",
        overrides: Mapping[str, Any] | None = None,
    ) -> Self:
        """A configuration from plain data. ``source`` names it in messages. Raises ConfigError.

        ``overrides`` replace single keys, named by their path: ``{"trials": 10,
        "sampler.seed": 1}``.
        """
        if not isinstance(data, Mapping):
            raise ConfigError(source, [f"got {shown(data)}; must be a mapping of keys to values"])
        try:
            return cls.model_validate(
                _overridden(data, overrides, source) if overrides else dict(data)
            )
        except ValidationError as error:
            raise ConfigError(source, problems_of(error, cls)) from None

    def resolved(self) -> dict[str, Any]:
        """The configuration as plain data, every default filled in; loads back to an equal one."""
        plain: dict[str, Any] = self.model_dump(exclude={"space"})
        plain |= {
            name: list(plain[name]) for name in ("objectives", "first", "warm_start", "loggers")
        }
        return {
            key: self.space.to_yaml() if key == "space" else plain[key]
            for key in type(self).model_fields
        }

    def dump(self) -> str:
        """`resolved` as YAML."""
        return yaml_text.write(self.resolved())

    def winner(self, candidate: Candidate) -> SweepConfig:
        """The configuration that trains one model of this sweep again, and nothing else.

        Its α is the ranking's where that is a number, else 0.5.
        """
        alpha = self.ranking.alpha if isinstance(self.ranking.alpha, float) else 0.5
        common = {
            name: getattr(candidate, name) for name in self.space.dimensions if name != "alpha"
        }
        dimensions: dict[str, Dimension] = {
            name: Choice((value,)) for name, value in {**common, "alpha": alpha}.items()
        }
        settings: dict[str, Dimension] = {
            name: Choice((value,)) for name, value in candidate.settings.items()
        }
        space = Space({candidate.architecture: settings}, dimensions)
        once: dict[str, Any] = {
            "space": space,
            "trials": 1,
            "first": (),
            "warm_start": (),
            "storage": JOURNAL,
        }
        once |= {"sampler": SamplerSettings(seed=self.sampler.seed)}
        # What stops trainings early was judged by the whole sweep.
        once |= {"pruner": PrunerSettings(), "limits": LimitSettings()}
        return self.model_copy(update=once)


def _fit_problems(config: SweepConfig) -> list[str]:
    shape = config.task_object().shape
    reasons = {name: get_architecture(name).fits(shape) for name in config.space.architectures}
    return [
        f"space.architecture.{name}: does not fit task {config.task}: {name} {reason}"
        for name, reason in reasons.items()
        if reason is not None
    ]


def _ends(config: SweepConfig, name: Literal["epochs", "batch_size"]) -> tuple[str, int, int]:
    """The key that sets epochs or batch size, and the least and greatest value."""
    dimension = config.space.dimensions.get(name)
    if dimension is None:
        value = getattr(config.budget, name)
        return f"budget.{name}", value, value
    if isinstance(dimension, Choice):
        values = [int(value) for value in dimension.values if value is not None]
        return f"space.{name}", min(values), max(values)
    return f"space.{name}", int(dimension.low), int(dimension.high)


def _size_problems(config: SweepConfig) -> list[str]:
    try:
        examples = config.task_object().train_size
    except (Exception, SystemExit) as error:
        # Loading the user's data may raise anything.
        return [f"task: cannot load {config.task}: {type(error).__name__}: {error}"]
    batch_key, _, batch = _ends(config, "batch_size")
    if batch > examples:
        return [
            f"{batch_key}: got {batch}; must be at most {examples}, "
            f"the size of the training part of {config.task}"
        ]
    epochs_key, epochs, _ = _ends(config, "epochs")
    steps = epochs * math.ceil(examples / batch)
    observations = -(-steps // config.tracer.every)
    if observations >= LEAST_USABLE:
        return []
    return [
        f"{epochs_key}: got {epochs}; {epochs} epochs of {math.ceil(examples / batch)} steps "
        f"({batch_key} {batch}), observed every {config.tracer.every}, give {observations} "
        f"observations; steadiness needs at least {LEAST_USABLE}: more epochs, a smaller "
        "batch_size or a smaller tracer.every"
    ]


def _pruner_problems(config: SweepConfig) -> list[str]:
    key, _, epochs = _ends(config, "epochs")
    if config.pruner.name == "none" or config.pruner.grace < epochs:
        return []
    return [
        f"pruner.grace: got {config.pruner.grace}; must be less than {key} ({epochs}): "
        "a training is judged before its last epoch"
    ]


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> SweepConfig:
    """The configuration in a YAML file; ``overrides`` as in `SweepConfig.from_dict`.

    Raises ConfigError, one message for all problems, for whatever the file may hold.
    """
    source = str(path)
    data = _read(Path(path), source)
    if not isinstance(data, dict):
        what = "is empty" if data is None else f"holds {shown(data)}"
        raise ConfigError(source, [f"{what}; must be a mapping of keys to values"])
    return SweepConfig.from_dict(data, source, overrides)


def _overridden(
    data: Mapping[str, Any], overrides: Mapping[str, Any], source: str
) -> dict[str, Any]:
    changed = copy.deepcopy(dict(data))
    for key, value in overrides.items():
        section = changed
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(source, [f"{parent}: got {shown(section)}; must be a mapping"])
        section[last] = value
    return changed


def _read(path: Path, source: str) -> Any:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return yaml_text.read(text)
    except FileNotFoundError:
        raise ConfigError(source, ["there is no such file"]) from None
    except IsADirectoryError:
        raise ConfigError(source, ["is a folder; must be a YAML file"]) from None
    except OSError as error:
        raise ConfigError(source, [f"cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            source, [f"byte {error.start + 1} is not UTF-8; must be a YAML file in UTF-8"]
        ) from None
    except ValueError as error:
        raise ConfigError(source, [str(error)]) from None
