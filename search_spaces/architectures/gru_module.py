"""The module of the `gru` architecture, apart from its settings because it needs torch."""

from __future__ import annotations

from torch import Tensor, nn

from search_spaces.architectures.tokens import rows
from search_spaces.shape import TaskShape


class RowGRU(nn.Module):
    """GRU over the rows of an image or the steps of a sequence.

    (batch, *input_shape) -> (batch, outputs).
    """

    def __init__(self, shape: TaskShape, hidden: int, layers: int) -> None:
        super().__init__()
        _, features = shape.steps
        self.gru = nn.GRU(features, hidden, num_layers=layers, batch_first=True)
        self.head = nn.Linear(hidden, shape.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs from the top layer's state after the last step."""
        states, _ = self.gru(rows(inputs))
        output: Tensor = self.head(states[:, -1])
        return output
