"""The conditional space of models: which parameters there are, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.architectures import get_architecture
from search_spaces.common import COMMON, OPTIONAL
from search_spaces.dimensions import Choice, Dimension, parse_dimension
from search_spaces.errors import SpaceError, did_you_mean, shown, unknown
from search_spaces.setting import check_settings

_MANY = 100
"""Problems with architectures after which no more are looked for: each takes its time."""

Suggest = Callable[[str, Dimension], Any]


@dataclass(frozen=True)
class Row:
    """One parameter of a space for people: its name, what it may be, and when it exists."""

    name: str
    values: str
    when: str


@dataclass(frozen=True)
class Space:
    """What may vary between the models of a sweep.

    ``architectures``: for each one, the dimensions of its settings, which exist only under it.
    ``dimensions``: those that every model has (`init`, `alpha`, `learning_rate`, ...). Settings
    that are not given take their defaults, as a `Choice` of one; `batch_size` and `epochs` are
    there only if given. ``as_data``: no module that an architecture names is imported, and no
    checkpoint looked for; the settings of such an architecture are taken as they are, all of them
    given. Raises SpaceError listing every problem, each with its key path.
    """

    architectures: dict[str, dict[str, Dimension]]
    dimensions: dict[str, Dimension] = field(default_factory=dict)
    as_data: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        problems: list[str] = []
        if not self.architectures:
            problems.append("space.architecture: got {}; must name at least one architecture")
        architectures: dict[str, dict[str, Dimension]] = {}
        for name, given in self.architectures.items():
            try:
                architectures[name] = _check_architecture(name, given, as_data=self.as_data)
            except SpaceError as error:
                problems += error.problems
            if len(problems) > _MANY:
                break
        dimensions: dict[str, Dimension] = {}
        try:
            dimensions = _check_common(self.dimensions)
        except SpaceError as error:
            problems += error.problems
        if problems:
            raise SpaceError(*problems)
        object.__setattr__(self, "architectures", architectures)
        object.__setattr__(self, "dimensions", dimensions)

    @classmethod
    def parse(cls, value: object, *, as_data: bool = False) -> Space:
        """A space from what stands under ``space:`` in a configuration. Raises SpaceError."""
        if not isinstance(value, Mapping):
            raise SpaceError(f"space: got {shown(value)}; must be a mapping with `architecture`")
        if "architecture" not in value:
            valid = ("architecture", *COMMON)
            near = [did_you_mean(key, valid) for key in value if key not in valid]
            hint = next((text for text in near if "architecture" in text), "")
            raise SpaceError(
                f"space.architecture: missing; must name at least one architecture{hint}"
            )
        problems: list[str] = []
        architectures: dict[str, dict[str, Dimension]] = {}
        for name, settings in _named_architectures(value["architecture"]).items():
            architectures[name] = _parse_all(settings, f"space.architecture.{name}", problems)
        common = {key: given for key, given in value.items() if key != "architecture"}
        dimensions = _parse_all(common, "space", problems)
        if problems:
            raise SpaceError(*problems)
        return cls(architectures, dimensions, as_data)

    def draw(self, suggest: Suggest) -> dict[str, Any]:
        """One model's parameters, asked for one at a time.

        ``suggest(name, dimension)`` answers with a value of the dimension; a `Choice` of one is
        asked for too. The order is fixed: `architecture`, its settings (`mlp.hidden`, ...), then
        the common ones, `alpha` last. Only what the model has is asked for: the settings of the
        architecture drawn, and `momentum` only under `sgd`.
        """
        drawn: dict[str, Any] = {}

        def ask(name: str, dimension: Dimension) -> Any:
            drawn[name] = suggest(name, dimension)
            return drawn[name]

        architecture = ask("architecture", Choice(tuple(self.architectures)))
        for setting, dimension in self.architectures[architecture].items():
            ask(f"{architecture}.{setting}", dimension)
        for name, dimension in self.dimensions.items():
            if name != "momentum" or drawn["optimizer"] == "sgd":
                ask(name, dimension)
        return drawn

    def size(self) -> int | None:
        """How many different models there are, alpha left out; None if one is continuous."""
        optimizers, momentum = self.dimensions["optimizer"], self.dimensions["momentum"]
        # Momentum tells models apart only where sgd uses it.
        steppers = _product([optimizers])
        if optimizers.contains("sgd") and steppers is not None:
            momenta = momentum.size()
            steppers = None if momenta is None else steppers - 1 + momenta
        common = _product(
            dimension
            for name, dimension in self.dimensions.items()
            if name not in ("alpha", "optimizer", "momentum")
        )
        models = [_product(settings.values()) for settings in self.architectures.values()]
        if steppers is None or common is None or None in models:
            return None
        return sum(size for size in models if size is not None) * steppers * common

    def parameters(self) -> dict[str, Dimension]:
        """Every parameter by its full name, whatever it depends on, in the order of a draw."""
        named: dict[str, Dimension] = {"architecture": Choice(tuple(self.architectures))}
        for architecture, settings in self.architectures.items():
            named |= {f"{architecture}.{name}": one for name, one in settings.items()}
        return named | self.dimensions

    def branches(self) -> Iterator[dict[str, Dimension]]:
        """The space as spaces without conditions: one for each architecture and optimiser, in which
        these two are a `Choice` of one.
        """
        for architecture, settings in self.architectures.items():
            for optimizer in range(self.dimensions["optimizer"].size() or 0):
                named: dict[str, Dimension] = {"architecture": Choice((architecture,))}
                named |= {f"{architecture}.{name}": one for name, one in settings.items()}
                named |= self.dimensions
                named["optimizer"] = Choice((self.dimensions["optimizer"].at(optimizer),))
                if not named["optimizer"].contains("sgd"):
                    del named["momentum"]
                yield named

    def describe(self) -> list[Row]:
        """The parameters in the order of a draw, for people."""
        rows = [Row("architecture", str(Choice(tuple(self.architectures))), "always")]
        for architecture, dimensions in self.architectures.items():
            rows += [
                Row(f"{architecture}.{setting}", str(dimension), f"architecture is {architecture}")
                for setting, dimension in dimensions.items()
            ]
        for name, dimension in self.dimensions.items():
            when = "optimizer is sgd" if name == "momentum" else "always"
            rows.append(Row(name, str(dimension), when))
        return rows

    def to_yaml(self) -> dict[str, Any]:
        """The plain mapping that `Space.parse` reads back to an equal space."""
        architectures = {
            name: {setting: dimension.to_yaml() for setting, dimension in dimensions.items()}
            for name, dimensions in self.architectures.items()
        }
        common = {name: dimension.to_yaml() for name, dimension in self.dimensions.items()}
        return {"architecture": architectures, **common}


def _product(dimensions: Iterable[Dimension]) -> int | None:
    total = 1
    for dimension in dimensions:
        size = dimension.size()
        if size is None:
            return None
        total *= size
    return total


def _named_architectures(value: object) -> dict[str, Mapping[Any, Any]]:
    """Architectures and their settings from the three forms: a mapping, a list, one name."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        twice = [name for name, count in Counter(value).items() if count > 1]
        if twice:
            raise SpaceError(
                f"space.architecture: got {shown(list(value))}; {twice[0]} stands there twice"
            )
        value = dict.fromkeys(value)
    if not isinstance(value, Mapping):
        raise SpaceError(
            f"space.architecture: got {shown(value)}; must be a name, a list of names, "
            "or a mapping of names to settings"
        )
    named: dict[str, Mapping[Any, Any]] = {}
    for name, settings in value.items():
        if settings is not None and not isinstance(settings, Mapping):
            raise SpaceError(
                f"space.architecture.{name}: got {shown(settings)}; must be a mapping of settings"
            )
        named[name] = settings or {}
    return named


def _parse_all(given: Mapping[Any, Any], where: str, problems: list[str]) -> dict[str, Dimension]:
    parsed: dict[str, Dimension] = {}
    for name, value in given.items():
        try:
            parsed[name] = parse_dimension(value, f"{where}.{name}")
        except SpaceError as error:
            problems += error.problems
    return parsed


def _check_architecture(
    name: str, given: dict[str, Dimension], *, as_data: bool
) -> dict[str, Dimension]:
    where = f"space.architecture.{name}"
    architecture = get_architecture(name, where, as_data=as_data)
    if architecture.source is not None and not as_data:
        given = architecture.source.expanded(given, where)
    problems: list[str] = []
    settings = architecture.settings
    try:
        settings = architecture.settings_for(given, where)
    except SpaceError as error:
        problems += error.problems
    try:
        checked = check_settings(settings, given, where)
    except SpaceError as error:
        problems += error.problems
    if problems:
        raise SpaceError(*problems)
    return checked


def _check_common(given: dict[str, Dimension]) -> dict[str, Dimension]:
    valid = ("architecture", *COMMON)
    problems = [
        unknown(f"space.{name}", "parameter", name, valid) for name in given if name not in COMMON
    ]
    if problems:
        raise SpaceError(*problems)
    settings = {n: s for n, s in COMMON.items() if n in given or n not in OPTIONAL}
    checked = check_settings(settings, given, "space")
    others = [value for value in ("adam", "adamw") if checked["optimizer"].contains(value)]
    if "learning_rate" not in given and others:
        raise SpaceError(
            f"space.learning_rate: missing; must be {COMMON['learning_rate'].rule()}: only sgd has "
            f"a default, and optimizer may be {others[0]}"
        )
    return checked
