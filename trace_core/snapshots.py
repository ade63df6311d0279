"""What the parameters were before the step: one copy of them, renewed only where they changed.

After a step the compiled pass leaves in the copies what it read. PyTorch counts the writes to a
tensor; where count and address are those of that moment, the copy is still right before the next
step. A write through ``tensor.data`` between the two is not counted: the step's change then
includes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trace_core.followed import Followed


class Snapshots:
    """Copies of followed tensors by position."""

    def __init__(self, followed: Followed) -> None:
        self._followed = followed
        self.before: dict[int, Tensor] = {}

    @torch.no_grad()
    def take(self, positions: Sequence[int], step: int) -> list[int]:
        """Make the copies of these tensors anew, but for those that are frozen: they need none
        until they may move. Returns which were made.

        Raises TraceError if a tensor is not of the shape, dtype and device that it was.
        """
        moving = [position for position in positions if self._followed.may_move(position)]
        if not moving:
            return []
        for position in moving:
            self._followed.require_unchanged(position, step)
        local = [self._followed.local(position) for position in moving]
        for position, tensor in zip(moving, local, strict=True):
            if position not in self.before:
                self.before[position] = torch.empty_like(tensor, requires_grad=False)
        torch._foreach_copy_([self.before[position] for position in moving], local)
        return moving

    def clear(self) -> None:
        """Let go of the copies."""
        self.before.clear()
