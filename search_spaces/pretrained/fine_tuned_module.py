"""The modules of `pretrained`: a backbone from a checkpoint and a head for the task."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from search_spaces.pretrained.blocks import Blocks


class FineTuned(nn.Module):
    """A backbone and the head that reads its features: (batch, ...) -> (batch, outputs).

    ``head`` is None where the backbone has its own. This class hands the inputs to the backbone as
    they are, which gives (batch, features).
    """

    def __init__(self, backbone: nn.Module, head: nn.Module | None, blocks: Blocks) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.blocks = blocks
        self.scratch = False
        self.example = torch.zeros(1, 2, dtype=torch.int64)
        """A batch of one that it reads."""
        self.layer_decay = 1.0

    def features(self, inputs: Tensor) -> Tensor:
        """What the head reads, (batch, features)."""
        found: Tensor = self.backbone(inputs)
        return found

    def forward(self, inputs: Tensor) -> Tensor:
        """The head's outputs."""
        found = self.features(inputs)
        return found if self.head is None else self.head(found)

    def fresh_parts(self) -> list[nn.Module]:
        """What doesn't come from a checkpoint: the head, or all that is not an adapter."""
        if not self.scratch:
            return [] if self.head is None else [self.head]
        if not any("lora_" in name for name, _ in self.named_modules()):
            return [self]
        # An adapter starts as one that changes nothing.
        return [
            module
            for name, module in self.named_modules()
            if "lora_" not in name and not list(module.children())
        ]

    def rate_scales(self) -> dict[str, float]:
        """``layer_decay`` to the power of how far below the head a trained parameter is: B + 1 for
        what precedes B blocks, B for the first of them, 1 for the last, 0 for what comes after.
        """
        if self.layer_decay == 1.0:
            return {}
        levels, top = self.blocks.levels(self.backbone), len(self.blocks) + 1
        return {
            f"backbone.{name}": self.layer_decay ** (top - levels[name])
            for name, parameter in self.backbone.named_parameters()
            if parameter.requires_grad and levels[name] < top
        }


class TextModel(FineTuned):
    """Reads token ids (batch, length) int64, -1 where there is none, padded on the right."""

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module | None,
        blocks: Blocks,
        *,
        pooling: Literal["mean", "first", "last"],
        padding: int,
    ) -> None:
        super().__init__(backbone, head, blocks)
        self.pooling = pooling
        self.padding = padding

    def features(self, inputs: Tensor) -> Tensor:
        """The states of the tokens, pooled."""
        ids, mask = cut(inputs, self.padding)
        states: Tensor = self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "first":
            return states[:, 0]
        lengths = mask.sum(1)
        if self.pooling == "last":
            return states[torch.arange(len(states), device=states.device), lengths - 1]
        weights = mask.unsqueeze(2).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)


class LanguageModel(FineTuned):
    """Reads token ids as `TextModel` does; gives logits (batch, length, vocabulary).

    Those of positions without a token are 0.
    """

    def __init__(self, backbone: nn.Module, blocks: Blocks, *, padding: int) -> None:
        super().__init__(backbone, None, blocks)
        self.padding = padding

    def features(self, inputs: Tensor) -> Tensor:
        """The logits of the token after each."""
        ids, mask = cut(inputs, self.padding)
        logits: Tensor = self.backbone(input_ids=ids, attention_mask=mask).logits
        return pad(logits, (0, 0, 0, inputs.shape[1] - ids.shape[1]))


class ImageModel(FineTuned):
    """Reads standardised pixels (batch, channels, size, size) by a model of transformers."""

    def __init__(
        self, backbone: nn.Module, head: nn.Module | None, blocks: Blocks, *, interpolate: bool
    ) -> None:
        super().__init__(backbone, head, blocks)
        self.options = {"interpolate_pos_encoding": True} if interpolate else {}
        names = (name.rpartition(".")[2] for name, _ in backbone.named_parameters())
        self.first = any(name in ("cls_token", "class_embedding") for name in names)

    def features(self, inputs: Tensor) -> Tensor:
        """The model's own pooled output, else the class token's state, else the mean state."""
        found = self.backbone(pixel_values=inputs, **self.options)
        pooled: Tensor | None = getattr(found, "pooler_output", None)
        if pooled is None:
            states: Tensor = found.last_hidden_state
            if states.dim() == 4:
                pooled = states.mean((2, 3))
            else:
                pooled = states[:, 0] if self.first else states.mean(1)
        return pooled.flatten(1)


def cut(inputs: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Token ids up to the batch's longest row, with the padding's id where there is none, and the
    mask, both (batch, longest) int64.
    """
    mask = inputs >= 0
    longest = max(int(mask.sum(1).max()), 1)
    mask = mask[:, :longest]
    ids = torch.where(mask, inputs[:, :longest], padding)
    return ids, mask.long()
