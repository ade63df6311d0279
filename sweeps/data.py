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

from search_spaces import Choice, Scalar, Splits, get_task, source_of, task_identity
from sweeps.candidate import Candidate
from sweeps.config import SweepConfig


@dataclass(frozen=True, eq=False)
class Prepared:
    """Data as a model reads it, and the metric of the trivial predictor on its validation part."""

    splits: Splits
    baseline: float


_shared: dict[str, Prepared] = {}


def share(prepared: Mapping[str, Prepared]) -> None:
    """Have `prepared_for` answer from these, by their keys, from now on in this process."""
    _shared.update(prepared)


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
            found[key] = _prepared(config.task, architecture, settings)
    return found


def _preparations(config: SweepConfig) -> Iterator[tuple[str, dict[str, Scalar]]]:
    """Each architecture with each way to set what its data may depend on."""
    for architecture, dimensions in config.space.architectures.items():
        source = source_of(architecture)
        if source is None:
            yield architecture, {}
            continue
        fixed = {name: one.values for name, one in dimensions.items() if isinstance(one, Choice)}
        if len(fixed) < len(dimensions):
            continue
        for values in itertools.product(*fixed.values()):
            yield architecture, source.canonical(dict(zip(fixed, values, strict=True)))


def _key(
    task: str | Mapping[str, object], architecture: str, settings: Mapping[str, Scalar]
) -> str | None:
    """By what data is known; None where it is the task's own and no file's."""
    source = source_of(architecture)
    if source is None and not get_task(task).content:
        return None
    how = {} if source is None else source.preparation(settings)
    told = {"task": task_identity(task), "by": architecture if how else "", "settings": how}
    return json.dumps(told, sort_keys=True)


def _prepared(
    task_spec: str | Mapping[str, object], architecture: str, settings: Mapping[str, Scalar]
) -> Prepared:
    key = _key(task_spec, architecture, settings)
    if key is not None and key in _shared:
        return _shared[key]
    task, source = get_task(task_spec), source_of(architecture)
    splits = task.data() if source is None else source.prepare(task, settings)
    return Prepared(splits, float(task.baseline()))
