"""A candidate and its trainings: all that determines one, and the id that follows from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache, cached_property
from typing import Any

from search_spaces import (
    Dimension,
    Scalar,
    SpaceError,
    code_hash,
    is_import_path,
    source_of,
    task_identity,
)
from sweeps.config import SweepConfig
from trace_core.statistics import STATISTICS_VERSION


@dataclass(frozen=True)
class Candidate:
    """A model: a training less its seed.

    ``task`` is named, or told by its kind and settings. ``settings`` are the architecture's,
    complete. ``momentum`` is 0 unless the optimiser is sgd. It is trained for so many ``epochs``,
    or where these are 0 for ``steps`` with ``evaluations`` evenly between them. ``importance``,
    ``every`` and ``histograms`` are the tracer's settings. It trains with so many ``threads`` on
    its ``device``, cpu or cuda, since figures differ by these in their last digits.
    α is no part of it.
    """

    task: str | dict[str, Any]
    architecture: str
    settings: dict[str, Scalar]
    init: str
    optimizer: str
    learning_rate: float
    momentum: float
    weight_decay: float
    schedule: str
    epochs: int
    batch_size: int
    dtype: str
    importance: str
    every: int
    histograms: int
    threads: int = 1
    device: str = "cpu"
    steps: int = 0
    evaluations: int = 0

    @classmethod
    def from_parameters(
        cls, config: SweepConfig, parameters: Mapping[str, Any]
    ) -> tuple[Candidate, float]:
        """The candidate that a trial's parameters stand for, and the trial's α.

        ``parameters`` are named as in `Space.draw`. Raises KeyError for one that is missing,
        SpaceError for one that the space doesn't have there, or a value outside it.
        """

        def given(name: str, dimension: Dimension) -> Any:
            value = parameters[name]
            if not dimension.contains(value):
                raise SpaceError(f"{name}: got {value!r}; the space has {dimension}")
            return value

        drawn = config.space.draw(given)
        extra = sorted(set(parameters) - set(drawn))
        if extra:
            raise SpaceError(
                f"{extra[0]}: the space has no such parameter for {drawn['architecture']}"
            )
        architecture = drawn["architecture"]
        settings = {
            setting: drawn[f"{architecture}.{setting}"]
            for setting in config.space.architectures[architecture]
        }
        source = source_of(architecture)
        if source is not None:
            settings = source.canonical(settings)
        candidate = cls(
            task=config.task,
            architecture=architecture,
            settings=settings,
            init=drawn["init"],
            optimizer=drawn["optimizer"],
            learning_rate=drawn["learning_rate"],
            momentum=drawn.get("momentum", 0.0),
            weight_decay=drawn["weight_decay"],
            schedule=drawn["schedule"],
            epochs=drawn.get("epochs", config.budget.epochs or 0),
            steps=config.budget.steps or 0,
            evaluations=config.budget.evaluations or 0,
            batch_size=drawn.get("batch_size", config.budget.batch_size),
            dtype=config.dtype,
            importance=config.tracer.importance,
            every=config.tracer.every,
            histograms=config.tracer.histograms,
            threads=config.resources.cpus,
            device="cuda" if config.resources.gpus else "cpu",
        )
        return candidate, drawn["alpha"]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """The candidate that `to_dict` gave. Raises SpaceError if a field is missing or unknown."""
        names, required = _field_names()
        if not required <= set(data) <= names:
            wrong = sorted(set(data) - names or required - set(data))
            raise SpaceError(f"candidate: missing or unknown fields {', '.join(wrong)}")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"settings": dict(self.settings)}

    def described(self) -> dict[str, Scalar]:
        """What sets this model apart besides architecture and initialisation, for people."""
        length = "steps" if self.steps else "epochs"
        common = ["optimizer", "learning_rate", "weight_decay", "schedule", length, "batch_size"]
        if self.optimizer == "sgd":
            common.insert(2, "momentum")
        told = {name: value for name, value in self.settings.items() if value != ""}
        return {**told, **{name: getattr(self, name) for name in common}}

    @property
    def family(self) -> str:
        """The architecture, and the checkpoint that the model begins from, if there is one."""
        checkpoint = self.settings.get("checkpoint")
        return f"{self.architecture} {checkpoint}" if checkpoint else self.architecture

    @property
    def rounds(self) -> int:
        """How many evaluations a training has after its first: one for each epoch, or as many as a
        budget in steps says.
        """
        return self.epochs or self.evaluations

    def identity(self) -> dict[str, Any]:
        """Everything that determines this model's trainings, except the seed, as plain data.

        Besides the fields: the version of the statistics, and the hash of the user's code where
        task or architecture are named by import path; files are told by their content. Momentum is
        in it only where sgd uses it, threads, device and steps where they are not the usual ones.
        """
        identity = self.to_dict()
        identity["task"] = task_identity(self.task)
        source = source_of(self.architecture)
        if source is not None:
            identity["settings"] = source.identity(self.settings)
        if self.optimizer != "sgd":
            del identity["momentum"]
        for name, usual in (("threads", 1), ("device", "cpu"), ("steps", 0), ("evaluations", 0)):
            if identity[name] == usual:
                del identity[name]
        named = sorted(str(path) for path in (self.task, self.architecture) if is_import_path(path))
        return {
            **identity,
            "statistics": STATISTICS_VERSION,
            "code": {path: code_hash(path) for path in named},
        }

    @cached_property
    def model_id(self) -> str:
        """12 hexadecimal digits: the hash of `identity`, taken at first use."""
        return _short_hash(self.identity())


@dataclass(frozen=True)
class Training:
    """One candidate, one seed."""

    candidate: Candidate
    seed: int

    @cached_property
    def training_id(self) -> str:
        """12 hexadecimal digits: the hash of the candidate's identity and the seed."""
        return _short_hash({**self.candidate.identity(), "seed": self.seed})

    def to_json(self) -> str:
        """The training as JSON, from which `from_json` makes an equal one."""
        return _canonical({"candidate": self.candidate.to_dict(), "seed": self.seed})

    @classmethod
    def from_json(cls, text: str) -> Training:
        """The training that `to_json` gave. Raises SpaceError if it isn't one."""
        try:
            data = json.loads(text)
            return cls(Candidate.from_dict(data["candidate"]), data["seed"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise SpaceError(f"training: not a training's JSON: {error}") from None


@cache
def _field_names() -> tuple[frozenset[str], frozenset[str]]:
    """The names of a candidate's fields, and of those without a default."""
    every = fields(Candidate)
    required = (field.name for field in every if field.default is MISSING)
    return frozenset(field.name for field in every), frozenset(required)


def _canonical(data: Mapping[str, Any]) -> str:
    """JSON that is the same text for equal data: keys sorted, no spaces, floats by their repr."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _short_hash(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(data).encode()).hexdigest()[:12]
