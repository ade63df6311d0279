"""What checkpoints add to an architecture: their content, their data, what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.dimensions import Choice, Dimension, Scalar
from search_spaces.errors import SpaceError, shown
from search_spaces.files import PACKAGE
from search_spaces.plugins import code_hash
from search_spaces.pretrained.checkpoint import PLACE, SCRATCH, Checkpoint, find, is_path
from search_spaces.pretrained.settings import SETTINGS, canonical

if TYPE_CHECKING:
    from search_spaces.tasks.task import Splits, Task

VERSION = 2
"""Of how data is prepared."""


class Checkpoints:
    """The `Source` of the architecture `pretrained`."""

    def expanded(self, given: dict[str, Dimension], where: str) -> dict[str, Dimension]:
        """The settings with ``from_scratch: true`` written out: beside the checkpoints, a
        ``scratch:`` one of each different architecture that has none yet. Raises SpaceError.
        """
        kept = {name: one for name, one in given.items() if name != "from_scratch"}
        wanted = given.get("from_scratch", Choice((False,)))
        if wanted not in (Choice((True,)), Choice((False,))) or not isinstance(wanted.at(0), bool):
            raise SpaceError(
                f"{where}.from_scratch: got {shown(wanted.to_yaml())}; must be true or false"
            )
        checkpoints = given.get("checkpoint")
        if not wanted.at(0) or not isinstance(checkpoints, Choice):
            return kept
        names = [name for name in checkpoints.values if isinstance(name, str)]
        place = f"{where}.checkpoint"
        controls: dict[str, str] = {}
        for name in sorted(names, key=lambda name: not name.startswith(SCRATCH)):
            controls.setdefault(find(name, place).architecture(), name)
        added = [f"{SCRATCH}{name}" for name in controls.values() if not name.startswith(SCRATCH)]
        return {**kept, "checkpoint": Choice((*checkpoints.values, *added))}

    def canonical(self, settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The settings with those that change nothing about this model at one fixed value."""
        return canonical(settings)

    def identity(self, settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The settings with checkpoint and builder told by their content. Raises SpaceError."""
        told = dict(settings)
        checkpoint = find(str(settings["checkpoint"]))
        told["checkpoint"] = checkpoint.content()
        if checkpoint.form == "state":
            told["builder"] = _with_code(checkpoint.builder_of(settings))
        return told

    def contents(self, given: Mapping[str, Dimension]) -> dict[str, str]:
        """What tells each checkpoint's content, by its name. Raises SpaceError."""
        names = [str(name) for name in _values(given["checkpoint"])]
        return {name: find(name, PLACE).content() for name in names}

    def preparation(self, settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """What the prepared data depends on: the tokenizer and the length, or what pixels are."""
        checkpoint = find(str(settings["checkpoint"]))
        if checkpoint.reads == "text":
            return {
                "version": VERSION,
                "tokenizer": checkpoint.tokenizer_content(),
                # Tokens that a model has no embedding for are refused where data is prepared.
                "vocabulary": checkpoint.vocabulary,
                "max_length": settings["max_length"],
            }
        from search_spaces.pretrained.pixels import read_pixels

        read = read_pixels(checkpoint, settings, "pretrained")
        told: dict[str, Scalar] = {"version": VERSION, "pixels": str(read)}
        if checkpoint.form == "state":
            told["builder"] = _with_code(checkpoint.builder_of(settings))
        return told

    def prepare(self, task: Task, settings: Mapping[str, Scalar]) -> Splits:
        """The task's texts as tokens, or its images at the checkpoint's size; a builder's model
        without convolutions reads the task's data as it is. Raises SpaceError.
        """
        checkpoint = find(str(settings["checkpoint"]))
        if checkpoint.reads == "text":
            from search_spaces.pretrained import tokens

            length = settings["max_length"]
            assert isinstance(length, int)
            return tokens.prepare(task, checkpoint, length, PLACE)
        from search_spaces.pretrained import pixels

        if task.shape.layout != "image":
            return task.data()
        read = pixels.read_pixels(checkpoint, settings, "pretrained")
        return task.data() if read is None else pixels.prepare(task, read)

    def files(self, given: Mapping[str, Dimension], where: str) -> dict[str, list[Path]]:
        """The files of each checkpoint that is named by its path. Raises SpaceError."""
        found: dict[str, list[Path]] = {}
        for value in _values(given["checkpoint"]):
            name = str(value).removeprefix(SCRATCH)
            if os.path.isabs(name) or name.startswith(PACKAGE):
                found[name] = []
            elif is_path(name):
                files = find(str(value), f"{where}.checkpoint").files()
                found[name] = list(dict.fromkeys([*found.get(name, []), *files]))
        return found

    def problems(self, task: Task, given: Mapping[str, Dimension], where: str) -> list[str]:
        """Every checkpoint, with each builder, head and image size, at the greatest depth, length
        and least rank: all that `build` and `prepare` would refuse.
        """
        found: list[str] = []
        checked: list[dict[str, Scalar]] = []
        for settings in _combinations(given):
            try:
                find(str(settings["checkpoint"]), f"{where}.checkpoint")
                settings = canonical(settings)
                if settings not in checked:
                    checked.append(settings)
                    _check(task, settings, where)
            except SpaceError as error:
                found += [problem for problem in error.problems if problem not in found]
        return found


def _check(task: Task, settings: dict[str, Scalar], where: str) -> None:
    from search_spaces.pretrained import building, pixels

    checkpoint = find(str(settings["checkpoint"]), f"{where}.checkpoint")
    building.check(task.shape, settings, where)
    if checkpoint.reads == "text":
        _check_tokenizer(checkpoint, where)
    elif task.shape.layout == "image":
        read = pixels.read_pixels(checkpoint, settings, where)
        reason = None if read is None else pixels.channels_problem(read, task.shape)
        if reason is not None:
            raise SpaceError(
                f"{where}.checkpoint: got {shown(settings['checkpoint'])}, which {reason}"
            )


def _check_tokenizer(checkpoint: Checkpoint, where: str) -> None:
    from search_spaces.pretrained import tokens

    place = f"{where}.checkpoint"
    tokenizer = tokens.read_tokenizer(checkpoint, place)
    reason = tokens.vocabulary_problem(tokenizer, checkpoint)
    if reason is not None:
        raise SpaceError(f"{place}: {reason}")


def _combinations(given: Mapping[str, Dimension]) -> Iterator[dict[str, Scalar]]:
    """The settings to check: of the ways to tune the one that can go wrong in most ways."""
    varied = ("checkpoint", "builder", "head", "image_size")
    rest = {name: _ends(given[name])[-1] for name in SETTINGS if name not in varied}
    rest["tune"] = next(way for way in ("lora", "full", "head") if given["tune"].contains(way))
    rest["lora_rank"] = _ends(given["lora_rank"])[0]
    for values in product(*(_values(given[name]) for name in varied)):
        yield {**rest, **dict(zip(varied, values, strict=True))}


def _values(dimension: Dimension) -> list[Scalar]:
    if isinstance(dimension, Choice):
        return list(dimension.values)
    return [dimension.low, dimension.high]


def _ends(dimension: Dimension) -> tuple[Scalar, Scalar]:
    """The least and the greatest value; the first and the last of texts."""
    values = _values(dimension)
    numbers = sorted(value for value in values if isinstance(value, int | float))
    return (numbers[0], numbers[-1]) if numbers else (values[0], values[-1])


def _with_code(builder: str) -> str:
    # One that is missing is told as a problem, where the key path is known.
    return f"{builder} {code_hash(builder)}" if builder else ""
