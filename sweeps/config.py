"""The configuration of a sweep: read, checked, and every default filled in.

Every key, its rule and its default stand in docs/configuration.md.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BeforeValidator,
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
    forget_task,
    get_architecture,
    get_task,
    is_import_path,
    source_of,
    task_metric,
    task_name,
    task_spec,
)
from sweeps import yaml_text
from sweeps.config_messages import ConfigError, ProblemsError, one_of, problems_of, shown
from sweeps.config_plain import LARGEST_FILE, MOST_VALUES, plain_problems
from sweeps.config_sections import (
    MOST,
    Budget,
    LimitSettings,
    PrunerSettings,
    RankingSettings,
    ResourceSettings,
    SamplerSettings,
    Section,
    TracerSettings,
    named,
    ruled,
    whole,
)
from sweeps.config_selection import (
    JOURNAL,
    STORAGE_RULE,
    checked_storage,
    earlier_runs,
    first_points,
    sampler_problems,
)
from trace_core.stability import LEAST_USABLE

if TYPE_CHECKING:
    from sweeps.candidate import Candidate

OBJECTIVES = ("stability", "explainability", "metric", "traceability", "article_score")
LOGGERS = ("tensorboard", "mlflow", "wandb")
DTYPES = ("float32", "float64", "mixed_bfloat16")
_TASK_RULE = (
    "the name of a task or an import path, or a mapping such as "
    "text_classification: {file: FILE, text: COLUMN, label: COLUMN}"
)


AS_DATA = "as_data"
"""In the context of a validation: no code that a configuration names is imported."""


def _is_data(info: ValidationInfo) -> bool:
    return bool(info.context and info.context.get(AS_DATA))


def _parse_space(value: object, info: ValidationInfo) -> Space:
    if isinstance(value, Space):
        return value
    try:
        return Space.parse(value, as_data=_is_data(info))
    except SpaceError as error:
        raise ProblemsError(error.problems) from None


_ParsedSpace: TypeAlias = Annotated[Space, BeforeValidator(_parse_space)]
_NAME_RULE = "1 to 64 letters, digits, '-', '_' or '.', the first a letter or digit"


class SweepConfig(Section):
    """A sweep, resolved: every default is filled in, and every check passed.

    Frozen. ``objectives`` holds canonical names: the task's own metric is ``metric``. ``workers``
    None is one for every CPU, and on a cluster as many as have room.
    """

    name: str = ruled(..., _NAME_RULE, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z")
    task: str | dict[str, Any] = ruled(..., _TASK_RULE)
    budget: Budget = ruled(..., "a mapping with epochs and batch_size")
    replicates: int = whole(3, 1, 100)
    trials: int = whole(40, 1)
    space: _ParsedSpace = ruled(..., "a mapping with architecture")
    sampler: SamplerSettings = ruled(SamplerSettings(), "a mapping with name, seed and population")
    first: tuple[dict[str, Any], ...] = ruled((), "a list of mappings of parameters to values")
    warm_start: tuple[str, ...] = ruled((), "a list of run directories")
    storage: str = ruled(JOURNAL, STORAGE_RULE)
    pruner: PrunerSettings = ruled(
        PrunerSettings(), "a mapping with name, grace, reduction and startup"
    )
    limits: LimitSettings = ruled(LimitSettings(), "a mapping with wall_time and training_time")
    objectives: tuple[str, ...] = ruled(
        ("stability", "explainability", "metric"), f"a list of {', '.join(OBJECTIVES)}"
    )
    ranking: RankingSettings = ruled(
        RankingSettings(), "a mapping with alpha, floor, stability, explainability, change_rate"
    )
    tracer: TracerSettings = ruled(
        TracerSettings(), "a mapping with importance, every and histograms"
    )
    workers: int | None = whole(None, 1)
    loggers: tuple[str, ...] = ruled((), f"a list of {', '.join(LOGGERS)}")
    resources: ResourceSettings = ruled(
        ResourceSettings(), "a mapping with cpus, gpus, memory and custom"
    )
    dtype: str = named("float32", DTYPES)
    replicates_together: bool = ruled(True, "true or false")

    _check_dtype = field_validator("dtype")(one_of(DTYPES))
    _check_storage = field_validator("storage", mode="before")(checked_storage)
    _check_warm_start = field_validator("warm_start", mode="before")(earlier_runs)

    @field_validator("first", mode="before")
    @classmethod
    def _check_first(cls, value: object, info: ValidationInfo) -> tuple[dict[str, Any], ...]:
        try:
            return first_points(info.data.get("space"), value)
        except SpaceError as error:
            raise ProblemsError(error.problems) from None

    @field_validator("task", mode="before")
    @classmethod
    def _check_task(cls, value: object, info: ValidationInfo) -> str | dict[str, Any]:
        if not isinstance(value, str | Mapping):
            raise ValueError(f"got {shown(value)}; must be {_TASK_RULE}")
        try:
            spec = task_spec(value)
            if isinstance(spec, str) and not _is_data(info):
                get_task(spec)
        except SpaceError as error:
            raise ProblemsError(error.problems) from None
        return spec

    @field_validator("objectives", mode="before")
    @classmethod
    def _check_objectives(cls, value: object, info: ValidationInfo) -> tuple[str, ...]:
        got = f"got {shown(value)}"
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"{got}; must be a list of at least one of {', '.join(OBJECTIVES)}")
        # Without a valid task, whose metric has a name of its own, no objective can be refused.
        task = info.data.get("task")
        if is_import_path(task) and _is_data(info):
            task = None
        metric = task_metric(task).name if task is not None else None
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
    def _check_together(self, info: ValidationInfo) -> Self:
        if self.sampler.name == "grid" and "trials" not in self.model_fields_set:
            with contextlib.suppress(SpaceError):
                object.__setattr__(self, "trials", min(Grid(self.space).size, MOST))
        # The files of a task that is told by a mapping are read when they are needed.
        ready = isinstance(self.task, str) and not _is_data(info)
        told = [*_fit_problems(self), *_size_problems(self)] if ready else []
        problems = [
            *told,
            *_budget_problems(self),
            *_pruner_problems(self),
            *sampler_problems(self),
        ]
        if problems:
            raise ProblemsError(problems)
        return self

    @property
    def metric_name(self) -> str:
        """The task's metric; ``metric`` where the task is code, and the configuration was read as
        data.
        """
        return "metric" if self._is_unread else task_metric(self.task).name

    @property
    def metric_direction(self) -> Literal["maximize", "minimize"]:
        """Which way the task's metric is better; ``maximize`` where that can't be told."""
        return "maximize" if self._is_unread else task_metric(self.task).direction

    @property
    def _is_unread(self) -> bool:
        return self.space.as_data and is_import_path(self.task)

    @property
    def task_name(self) -> str:
        """What the task is called."""
        return task_name(self.task)

    def task_object(self) -> Task:
        """The task itself."""
        return get_task(self.task)

    def most_rounds(self) -> int:
        """The most epochs that a training lasts, or the evaluations of a budget in steps."""
        return self.budget.evaluations or _ends(self, "epochs")[2]

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
        *,
        as_data: bool = False,
    ) -> Self:
        """A configuration from plain data. ``source`` names it in messages. Raises ConfigError.

        ``overrides`` replace single keys, named by their path: ``{"trials": 10,
        "sampler.seed": 1}``. If ``as_data``, no module that it names is imported and no file looked
        at: for what was resolved and may come from others, to tell what was trained.
        """
        if not isinstance(data, Mapping):
            raise ConfigError(source, [f"got {shown(data)}; must be a mapping of keys to values"])
        given = _overridden(data, overrides, source) if overrides else dict(data)
        if problems := plain_problems(given):
            raise ConfigError(source, problems)
        try:
            return cls.model_validate(given, context={AS_DATA: as_data})
        except ValidationError as error:
            raise ConfigError(source, problems_of(error, cls)) from None

    def resolved(self) -> dict[str, Any]:
        """The configuration as plain data, every default filled in; loads back to an equal one."""
        plain: dict[str, Any] = self.model_dump(exclude={"space"})
        budget = plain["budget"]
        plain["budget"] = {name: value for name, value in budget.items() if value is not None}
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
        space = Space({candidate.architecture: settings}, dimensions, self.space.as_data)
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


def require_ready(config: SweepConfig, source: str) -> None:
    """Raise ConfigError for all that is wrong with the files that a sweep is about (its data, its
    checkpoints) and can be known before anything is trained. Reads them; may take seconds.
    ``source`` is where the configuration is from, for messages.
    """
    problems: list[str] = []
    if not isinstance(config.task, str):
        forget_task(config.task)
    try:
        task = config.task_object()
        task.data()
    except SpaceError as error:
        raise ConfigError(source, error.problems) from None
    if not isinstance(config.task, str):
        problems += [*_fit_problems(config), *_size_problems(config)]
    for name, given in config.space.architectures.items():
        origin = source_of(name)
        if origin is not None and not problems:
            problems += origin.problems(task, given, f"space.architecture.{name}")
    if not problems:
        problems += _data_problems(config)
    if problems:
        raise ConfigError(source, problems)


def _data_problems(config: SweepConfig) -> list[str]:
    """What is wrong with the data as the models read it, which is prepared for this."""
    from sweeps.data import prepare_all

    try:
        prepared = prepare_all(config)
    except SpaceError as error:
        return list(error.problems)
    if config.task_object().kind != "language" or not prepared:
        return []
    return _steps_problems(config, min(len(each.splits.train) for each in prepared.values()))


def _fit_problems(config: SweepConfig) -> list[str]:
    shape = config.task_object().shape
    reasons = {name: get_architecture(name).fits(shape) for name in config.space.architectures}
    return [
        f"space.architecture.{name}: does not fit task {config.task_name}: {name} {reason}"
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
    # How many sequences texts make, a tokenizer says.
    return [] if config.task_object().kind == "language" else _steps_problems(config, examples)


def _steps_problems(config: SweepConfig, examples: int) -> list[str]:
    batch_key, _, batch = _ends(config, "batch_size")
    if batch > examples:
        return [
            f"{batch_key}: got {batch}; must be at most {examples}, "
            f"the size of the training part of {config.task_name}"
        ]
    if config.budget.steps:
        return []
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


def _budget_problems(config: SweepConfig) -> list[str]:
    steps = config.budget.steps
    if not steps:
        return []
    if "epochs" in config.space.dimensions:
        return [
            "space.epochs: stands beside budget.steps; must be left out, or the budget in epochs"
        ]
    observations = -(-steps // config.tracer.every)
    if observations >= LEAST_USABLE:
        return []
    return [
        f"budget.steps: got {steps}; observed every {config.tracer.every} they give {observations} "
        f"observations; steadiness needs at least {LEAST_USABLE}"
    ]


def _pruner_problems(config: SweepConfig) -> list[str]:
    if config.pruner.name == "none" or config.pruner.grace < config.most_rounds():
        return []
    key = "budget.evaluations" if config.budget.steps else _ends(config, "epochs")[0]
    return [
        f"pruner.grace: got {config.pruner.grace}; must be less than {key} "
        f"({config.most_rounds()}): a training is judged before its last epoch"
    ]


def load_config(
    path: str | Path, overrides: Mapping[str, Any] | None = None, *, as_data: bool = False
) -> SweepConfig:
    """The configuration in a YAML file; ``overrides`` and ``as_data`` as in
    `SweepConfig.from_dict`.

    Raises ConfigError, one message for all problems, for whatever the file may hold.
    """
    source = str(path)
    data = _read(Path(path), source)
    if not isinstance(data, dict):
        what = "is empty" if data is None else f"holds {shown(data)}"
        raise ConfigError(source, [f"{what}; must be a mapping of keys to values"])
    return SweepConfig.from_dict(data, source, overrides, as_data=as_data)


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
        with path.open("rb") as file:
            # Of a pipe or a device there may be no end.
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ConfigError(source, [f"is too large; must be at most {LARGEST_FILE:,} bytes"])
        if content.count(b",") + content.count(b"\n") > MOST_VALUES:
            raise ConfigError(source, [f"is too large; must be at most {MOST_VALUES:,} values"])
        return yaml_text.read(content.decode("utf-8-sig"))
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
