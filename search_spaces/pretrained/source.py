"""What checkpoints add to an architecture: their content, their data, what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING

from search_spaces.dimensions import Choice, Dimension, Scalar
from search_spaces.errors import SpaceError, shown
from search_spaces.plugins import code_hash
from search_spaces.pretrained.checkpoint import SCRATCH, Checkpoint, find
from search_spaces.pretrained.settings import SETTINGS, canonical

if TYPE_CHECKING:
    from search_spaces.tasks.task import Splits, Task

_PLACE = "pretrained.checkpoint"


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
        told["checkpoint"] = find(str(settings["checkpoint"]), _PLACE).content()
        if settings["builder"]:
            told["builder"] = _with_code(str(settings["builder"]))
        return told

    def preparation(self, settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """What the prepared data depends on: the tokenizer and the length, or what pixels are."""
        checkpoint = find(str(settings["checkpoint"]), _PLACE)
        if checkpoint.reads == "text":
            return {
                "tokenizer": checkpoint.tokenizer_content(),
                "max_length": settings["max_length"],
            }
        from search_spaces.pretrained.pixels import read_pixels

        told: dict[str, Scalar] = {"pixels": str(read_pixels(checkpoint, settings, _PLACE))}
        if settings["builder"]:
            told["builder"] = _with_code(str(settings["builder"]))
        return told

    def prepare(self, task: Task, settings: Mapping[str, Scalar]) -> Splits:
        """The task's texts as tokens, or its images at the checkpoint's size; a builder's model
        without convolutions reads the task's data as it is. Raises SpaceError.
        """
        checkpoint = find(str(settings["checkpoint"]), _PLACE)
        if checkpoint.reads == "text":
            from search_spaces.pretrained import tokens

            length = settings["max_length"]
            assert isinstance(length, int)
            return tokens.prepare(task, checkpoint, length, _PLACE)
        from search_spaces.pretrained import pixels

        if checkpoint.form == "state" and not _takes_images(task, str(settings["builder"])):
            return task.data()
        return pixels.prepare(task, pixels.read_pixels(checkpoint, settings, _PLACE))

    def problems(self, task: Task, given: Mapping[str, Dimension], where: str) -> list[str]:
        """Each combination of a checkpoint with what it depends on, checked once."""
        found: list[str] = []
        for settings in _combinations(given):
            try:
                checked = canonical_at(settings, where)
                _check(task, checked, given, where)
            except SpaceError as error:
                found += [problem for problem in error.problems if problem not in found]
        return found


def canonical_at(settings: Mapping[str, Scalar], where: str) -> dict[str, Scalar]:
    """The canonical settings, with ``where`` in messages. Raises SpaceError."""
    find(str(settings["checkpoint"]), f"{where}.checkpoint")
    return canonical(settings)


def _check(
    task: Task, settings: dict[str, Scalar], given: Mapping[str, Dimension], where: str
) -> None:
    from search_spaces.pretrained import building, pixels

    checkpoint = find(str(settings["checkpoint"]), f"{where}.checkpoint")
    building.check(task.shape, settings, where)
    if checkpoint.reads == "text":
        _check_tokenizer(checkpoint, where)
    elif task.shape.layout == "image" and checkpoint.form != "state":
        read = pixels.read_pixels(checkpoint, settings, where)
        reason = pixels.channels_problem(read, task.shape)
        if reason is not None:
            raise SpaceError(
                f"{where}.checkpoint: got {shown(settings['checkpoint'])}, which {reason}"
            )


def _check_tokenizer(checkpoint: Checkpoint, where: str) -> None:
    from search_spaces.pretrained import tokens

    place = f"{where}.checkpoint"
    tokenizer = tokens.read_tokenizer(checkpoint, place)
    embeddings = checkpoint.config["vocab_size"]
    reason = tokens.vocabulary_problem(tokenizer, embeddings, checkpoint.folder)
    if reason is not None:
        raise SpaceError(f"{place}: {reason}")


def _combinations(given: Mapping[str, Dimension]) -> Iterator[dict[str, Scalar]]:
    """The settings that a check depends on, in every combination; the others at their greatest."""
    varied = ("checkpoint", "builder", "head", "image_size", "tune")
    sides = [_values(given[name]) for name in varied]
    rest = {name: _greatest(given[name]) for name in SETTINGS if name not in varied}
    if "lora" in _values(given["tune"]):
        rest["lora_rank"] = _least(given["lora_rank"])
    for values in product(*sides):
        yield {**rest, **dict(zip(varied, values, strict=True))}


def _values(dimension: Dimension) -> list[Scalar]:
    if isinstance(dimension, Choice):
        return list(dimension.values)
    return [dimension.low, dimension.high]


def _greatest(dimension: Dimension) -> Scalar:
    return max(_values(dimension), key=_order)


def _least(dimension: Dimension) -> Scalar:
    return min(_values(dimension), key=_order)


def _order(value: Scalar) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _with_code(builder: str) -> str:
    return f"{builder} {code_hash(builder)}"


def _takes_images(task: Task, builder: str) -> bool:
    if task.shape.layout != "image":
        return False
    import torch

    from search_spaces.pretrained.building import reads_images
    from search_spaces.pretrained.state_models import create

    with torch.random.fork_rng(devices=[]):
        return reads_images(create(builder, "pretrained"))
