"""The data that a candidate's trainings read: the task's own, or as its checkpoint reads it.

What takes long to prepare (texts that a tokenizer reads, pictures of many files) is prepared once:
whoever runs the trainings of a sweep prepares it beforehand, and `share`s it with every process
that trains, whose arrays then are views of memory that all of them have in common.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces import Choice, Scalar, Splits, Task, adopt_task, get_task, source_of
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
    this depends is a range, it is left to those who draw from it.
    """
    found: dict[str, Prepared] = {}
    for architecture, settings in _preparations(config):
        key = _key(config.task, architecture, settings)
        if key is not None and key not in found:
            each = _prepared(config.task, architecture, settings)
            found[key] = Prepared(each.task.without_data(), each.splits, each.baseline)
    return found


def _preparations(config: SweepConfig) -> Iterator[tuple[str, dict[str, Scalar]]]:
    """Each architecture with each way to set what its data may depend on."""
    for architecture, dimensions in config.space.architectures.items():
        source = source_of(architecture)
        if source is None:
            yield architecture, {}
            continue
        first = {name: _one_of(dimension) for name, dimension in dimensions.items()}
        wanted = source.preparation(source.canonical(first))
        chosen = {name: dimensions[name] for name in wanted if name in dimensions}
        lists = {name: one.values for name, one in chosen.items() if isinstance(one, Choice)}
        if len(lists) == len(chosen):
            for values in itertools.product(*lists.values()):
                yield architecture, source.canonical(first | dict(zip(lists, values, strict=True)))


def _one_of(dimension: Any) -> Scalar:
    return dimension.values[0] if isinstance(dimension, Choice) else dimension.low


def _key(task: TaskSpec, architecture: str, settings: Mapping[str, Scalar]) -> str | None:
    """By what data is known; None where it is the task's own and no file's."""
    source = source_of(architecture)
    if source is None and not get_task(task).content:
        return None
    how = {} if source is None else source.preparation(settings)
    told = {"task": task, "by": architecture if how else "", "settings": how}
    # A candidate that was sent as JSON has its keys in another order.
    return json.dumps(told, sort_keys=True)


def _prepared(spec: TaskSpec, architecture: str, settings: Mapping[str, Scalar]) -> Prepared:
    key = _key(spec, architecture, settings)
    if key is not None and key in _shared:
        return _shared[key]
    task, source = get_task(spec), source_of(architecture)
    splits = task.data() if source is None else source.prepare(task, settings)
    return Prepared(task, splits, float(task.baseline()))
