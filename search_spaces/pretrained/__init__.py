"""Models from checkpoints: fine-tuned, beside controls of the same architecture from scratch.

Reading this needs neither torch nor transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.architecture import Architecture
from search_spaces.dimensions import Scalar
from search_spaces.pretrained.settings import SETTINGS
from search_spaces.pretrained.source import Checkpoints
from search_spaces.shape import TaskShape

if TYPE_CHECKING:
    from torch import nn


def fits(shape: TaskShape) -> str | None:
    """Every task but language without texts: what a checkpoint can read is told by `problems`."""
    if shape.kind == "language" and shape.layout != "text":
        return f"needs texts for language, and the task has {shape.input_shape}"
    return None


def build(shape: TaskShape, **settings: Scalar) -> nn.Module:
    """The checkpoint's model with a new head for the task, ready to be fine-tuned."""
    from search_spaces.pretrained.building import build as built

    return built(shape, settings)


PRETRAINED = Architecture(
    name="pretrained",
    description="a pretrained model from a checkpoint, fine-tuned; or the same from scratch",
    settings=SETTINGS,
    fits=fits,
    builder=build,
    source=Checkpoints(),
)

__all__ = ["PRETRAINED"]
