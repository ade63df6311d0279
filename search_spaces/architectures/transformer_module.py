"""The modules of the `transformer` architecture, apart from its settings as they need torch."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from search_spaces.architectures.tokens import FeatureTokens, RowTokens
from search_spaces.shape import TaskShape


class Attention(nn.Module):
    """Self-attention, (batch, tokens, width) -> the same.

    Each head has width // heads channels, so that any width goes with any number of heads. Query,
    key and value are maps of their own, so that each shows as a layer of the trace.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * (width // heads)
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(width, inner)
        self.value = nn.Linear(width, inner)
        self.out = nn.Linear(inner, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """What each token takes from all of them."""
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(query, key, value)
        output: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return output


class Block(nn.Module):
    """Pre-norm attention and feed-forward (4 × width, GELU), each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, width) -> the same."""
        tokens = tokens + self.attention(self.norm1(tokens))
        output: Tensor = tokens + self.feedforward(self.norm2(tokens))
        return output


class Transformer(nn.Module):
    """Encoder with mean pooling, (batch, *input_shape) -> (batch, outputs). No dropout."""

    def __init__(self, shape: TaskShape, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens: nn.Module
        if shape.layout == "table":
            self.tokens = FeatureTokens(shape.features, width)
        else:
            self.tokens = RowTokens(*shape.steps, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, shape.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs from the mean over the last block's tokens."""
        tokens = self.norm(self.blocks(self.tokens(inputs)))
        output: Tensor = self.head(tokens.mean(dim=1))
        return output
