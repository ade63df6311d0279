"""Images at the size, with the channels, that a checkpoint reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from search_spaces.dimensions import Scalar
from search_spaces.errors import SpaceError, shown
from search_spaces.pretrained.checkpoint import Checkpoint, read_json
from search_spaces.shape import TaskShape
from search_spaces.tasks.task import Array, Part, Splits

if TYPE_CHECKING:
    from search_spaces.tasks.task import Task

_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_AT_ONCE = 256


@dataclass(frozen=True)
class Pixels:
    """What a model reads: ``channels``, ``size`` a side, and what standardises each channel.

    ``size`` 0 is the task's own.
    """

    channels: int
    size: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def side(self, shape: TaskShape) -> int:
        """Pixels a side for a task of images; those of the longer one where the task tells."""
        return self.size or max(shape.input_shape[1:])


def read_pixels(
    checkpoint: Checkpoint, settings: Mapping[str, Scalar], where: str
) -> Pixels | None:
    """What the checkpoint's model reads; None for one of the user's without convolutions, which
    reads a task's data as it is. ``where`` is the architecture's key path for messages.

    Raises SpaceError where it reads no square images.
    """
    place = f"{where}.checkpoint"
    asked = settings["image_size"]
    assert isinstance(asked, int)
    if checkpoint.form == "timm":
        from search_spaces.pretrained.timm_models import pixels

        (channels, height, width), mean, deviation = pixels(checkpoint.timm, place)
        size = asked or _square([height, width], place)
    elif checkpoint.form == "folder":
        channels = int(checkpoint.config.get("num_channels") or 3)
        size, mean, deviation = _of_folder(checkpoint, asked, place)
    else:
        from search_spaces.pretrained.state_models import image_channels

        found = image_channels(checkpoint.builder_of(settings), where)
        if found is None:
            return None
        channels, size, (mean, deviation) = found, asked, _IMAGENET
    if len(mean) != channels:
        mean, deviation = [float(np.mean(mean))] * channels, [float(np.mean(deviation))] * channels
    return Pixels(channels, size, tuple(mean), tuple(deviation))


def _of_folder(
    checkpoint: Checkpoint, asked: int, where: str
) -> tuple[int, list[float], list[float]]:
    path = checkpoint.folder / "preprocessor_config.json"
    told: dict[str, Any] = read_json(path, where) if path.is_file() else {}
    mean = told.get("image_mean") or _IMAGENET[0]
    deviation = told.get("image_std") or _IMAGENET[1]
    for values in (mean, deviation):
        good = isinstance(values, list) and all(isinstance(one, int | float) for one in values)
        if not good or (not all(values) and values is deviation):
            raise SpaceError(
                f"{where}: {path}: got image_mean {shown(mean)} and image_std {shown(deviation)}; "
                "must be numbers, the deviations above 0"
            )
    if told.get("do_normalize") is False:
        mean, deviation = [0.0] * len(mean), [1.0] * len(mean)
    own = checkpoint.config.get("image_size") or told.get("crop_size") or told.get("size")
    return asked or (_square(own, where) if own else 0), list(mean), list(deviation)


def _square(size: Any, where: str) -> int:
    """One side, of the forms in which a size is written down."""
    if isinstance(size, Mapping):
        size = [size["shortest_edge"]] if "shortest_edge" in size else list(size.values())
    sides = set(size) if isinstance(size, list | tuple) else {size}
    side = next(iter(sides)) if len(sides) == 1 else None
    if not isinstance(side, int):
        raise SpaceError(
            f"{where}: the checkpoint's images are {shown(size)}; must be square, or image_size "
            "be given"
        )
    return side


def channels_problem(pixels: Pixels, shape: TaskShape) -> str | None:
    """Why the task's images don't have the channels that the model reads."""
    channels = shape.input_shape[0]
    if channels in (1, pixels.channels):
        return None
    return f"reads images of {pixels.channels} channels, and the task's have {channels}"


def prepare(task: Task, pixels: Pixels) -> Splits:
    """The task's images as uint8 (n, channels, size, size).

    Those in floating point are spread over 0 to 255 by the least and the greatest number of the
    training part.
    """
    splits = task.data()
    side = pixels.side(task.shape)
    train = splits.train.inputs
    low, high = (
        (0.0, 255.0) if train.dtype == np.uint8 else (float(train.min()), float(train.max()))
    )

    def made(part: Part) -> Part:
        return Part(_resized(part.inputs, low, high, pixels.channels, side), part.targets)

    standard = (np.array(pixels.mean, np.float32), np.array(pixels.deviation, np.float32))
    return Splits(
        made(splits.train),
        made(splits.validation),
        made(splits.test),
        target_scale=splits.target_scale,
        pixels=standard,
    )


def _resized(images: Array, low: float, high: float, channels: int, side: int) -> Array:
    import torch
    from torch.nn.functional import interpolate

    made = np.empty((len(images), channels, side, side), dtype=np.uint8)
    scale = 255.0 / (high - low) if high > low else 0.0
    for start in range(0, len(images), _AT_ONCE):
        some = torch.from_numpy(images[start : start + _AT_ONCE].astype(np.float32))
        some = ((some - low) * scale).clamp_(0, 255)
        if some.shape[2:] != (side, side):
            some = interpolate(some, (side, side), mode="bilinear", antialias=True)
        # One channel is repeated by the assignment.
        made[start : start + _AT_ONCE] = some.round_().clamp_(0, 255).to(torch.uint8).numpy()
    return made
