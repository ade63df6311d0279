"""What an architecture must know of a task: the shape of an input, and what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from search_spaces.errors import SpaceError, shown

Kind = Literal["classification", "regression"]


@dataclass(frozen=True)
class TaskShape:
    """The shape of one example, without the batch, and of one output.

    ``input_shape``: (features,) for tables, (steps, features) for sequences, (channels, height,
    width) for images. ``outputs``: classes of a classification, numbers of a regression. Raises
    SpaceError.
    """

    input_shape: tuple[int, ...]
    outputs: int
    kind: Kind

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        if not 1 <= len(self.input_shape) <= 3 or min(self.input_shape) < 1:
            raise SpaceError(
                f"input_shape: got {shown(self.input_shape)}; must be (features,), "
                "(steps, features) or (channels, height, width), each at least 1"
            )
        if self.kind not in ("classification", "regression"):
            raise SpaceError(f"kind: got {shown(self.kind)}; must be classification or regression")
        fewest = 2 if self.kind == "classification" else 1
        if self.outputs < fewest:
            raise SpaceError(
                f"outputs: got {shown(self.outputs)}; must be at least {fewest} for {self.kind}"
            )

    @property
    def layout(self) -> Literal["table", "sequence", "image"]:
        """What an example is, by the number of its dimensions."""
        if len(self.input_shape) == 1:
            return "table"
        return "sequence" if len(self.input_shape) == 2 else "image"

    @property
    def features(self) -> int:
        """Numbers in one example."""
        return math.prod(self.input_shape)

    @property
    def steps(self) -> tuple[int, int]:
        """Steps and the numbers in each, read as a sequence: the rows of an image, or of a series.

        A row of an image holds that row of every channel. A table is one step.
        """
        if self.layout == "image":
            channels, height, width = self.input_shape
            return height, channels * width
        if self.layout == "sequence":
            return self.input_shape[0], self.input_shape[1]
        return 1, self.input_shape[0]
