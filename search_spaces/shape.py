"""What an architecture must know of a task: the shape of an input, and what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from search_spaces.errors import SpaceError, shown

Kind = Literal["classification", "regression", "language"]


@dataclass(frozen=True)
class TaskShape:
    """The shape of one example, without the batch, and of one output.

    ``input_shape``: (features,) for tables, (steps, features) for sequences, (channels, height,
    width) for images, and () for texts, which have none before a tokenizer has read them.
    ``outputs``: classes of a classification, numbers of a regression; 0 for language, whose outputs
    are the tokens of the model's own vocabulary. Raises SpaceError.
    """

    input_shape: tuple[int, ...]
    outputs: int
    kind: Kind

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        if len(self.input_shape) > 3 or min(self.input_shape, default=1) < 1:
            raise SpaceError(
                f"input_shape: got {shown(self.input_shape)}; must be (features,), "
                "(steps, features) or (channels, height, width), each at least 1, or () for texts"
            )
        fewest = {"classification": 2, "regression": 1, "language": 0}.get(self.kind)
        if fewest is None:
            raise SpaceError(
                f"kind: got {shown(self.kind)}; must be classification, regression or language"
            )
        if self.outputs < fewest:
            raise SpaceError(
                f"outputs: got {shown(self.outputs)}; must be at least {fewest} for {self.kind}"
            )

    @property
    def layout(self) -> Literal["text", "table", "sequence", "image"]:
        """What an example is, by the number of its dimensions."""
        if not self.input_shape:
            return "text"
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
