"""The data that a candidate's trainings read: the task's own, or as its checkpoint reads it.

What takes long to prepare (texts that a tokenizer reads, pictures of many files) is prepared once
and kept on disk. Whoever runs the trainings of a sweep prepares it beforehand, and `share`s it with
every process that trains, whose arrays then are views of memory that all of them have in common.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_spaces import (
    Choice,
    Scalar,
    Splits,
    Task,
    adopt_task,
    get_task,
    source_of,
    task_identity,
)
from search_spaces.architecture import Source
from search_spaces.cache import cached

if TYPE_CHECKING:
    from sweeps.candidate import Candidate
    from sweeps.config import SweepConfig

TaskSpec = str | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A task, its data as a model reads it, and the metric of the trivial predictor on the
    validation part.
    """

    task: Task
    splits: Splits
    baseline: float


_shared: dict[str, Prepared] = {}


def share(prepared: Mapping[str, Prepared]) -> None:
    """Have `prepared_for` answer from these, by their keys, from now on in this process."""
    _shared.update(prepared)
    for key, each in prepared.items():
        spec = json.loads(key)["task"]
        if not isinstance(spec, str):
            adopt_task(spec, each.task)


def prepared_for(candidate: Candidate) -> Prepared:
    """The data of a candidate's trainings; prepared here unless it is shared.

    Raises SpaceError, or whatever a user's task raises.
    """
    return _prepared(candidate.task, candidate.architecture, candidate.settings)


def prepare_all(config: SweepConfig) -> dict[str, Prepared]:
    """What is worth sharing of the data of all candidates of a sweep, by its key.

    That is the data of tasks made of files, and what checkpoints read; where a setting on which
    this depends is a range, it is left to those who draw from it. Kept in this process until other
    data is prepared. Raises SpaceError.
    """
    found: dict[str, Prepared] = {}
    for architecture in config.space.architectures:
        for key, settings in _preparations(config, architecture).items():
            if key not in found:
                each = _prepared(config.task, architecture, settings)
                found[key] = Prepared(each.task.without_data(), each.splits, each.baseline)
    _shared.clear()
    _shared.update(found)
    return found


def _preparations(config: SweepConfig, architecture: str) -> dict[str, dict[str, Scalar]]:
    """The different ways to prepare data for an architecture's models: settings of each, by key."""
    dimensions, source = config.space.architectures[architecture], source_of(architecture)
    first = {
        name: one.values[0] if isinstance(one, Choice) else one.low
        for name, one in dimensions.items()
    }
    ways = [first]
    for name, dimension in dimensions.items() if source is not None else ():
        values = dimension.values if isinstance(dimension, Choice) else (dimension.high,)
        # Of settings that are prepared for alike one goes on: what follows is the same for both.
        each = {_key(config.task, architecture, way): way for way in ways}
        for way in ways:
            for value in values:
                other = way | {name: value}
                key = _key(config.task, architecture, other)
                if key not in each and not isinstance(dimension, Choice):
                    return {}
                each.setdefault(key, other)
        ways = list(each.values())
    keyed = {_key(config.task, architecture, way): way for way in ways}
    return {key: way for key, way in keyed.items() if key is not None}


def _key(task: TaskSpec, architecture: str, settings: Mapping[str, Scalar]) -> str | None:
    """By what data is known; None where it is the task's own and no file's."""
    source = source_of(architecture)
    content = get_task(task).content
    if source is None and not content:
        return None
    how = {} if source is None else source.preparation(source.canonical(settings))
    # A candidate that was sent as JSON has its keys in another order.
    told = {"task": task, "content": content, "by": architecture if how else "", "settings": how}
    return json.dumps(told, sort_keys=True)


def _prepared(spec: TaskSpec, architecture: str, settings: Mapping[str, Scalar]) -> Prepared:
    key = _key(spec, architecture, settings)
    if key is not None and key in _shared:
        return _shared[key]
    task, source = get_task(spec), source_of(architecture)
    splits = task.data() if source is None else _as_read(task, spec, source, settings)
    return Prepared(task, splits, float(task.baseline()))


def _as_read(task: Task, spec: TaskSpec, source: Source, settings: Mapping[str, Scalar]) -> Splits:
    """The data as a checkpoint reads it: kept on disk where the task is known by its files."""

    def prepare() -> Splits:
        return source.prepare(task, settings)

    if not task.content:
        return prepare()
    told = {"task": task_identity(spec), "content": task.content}
    return cached(json.dumps(told | {"as": source.preparation(settings)}, sort_keys=True), prepare)
