"""What the parameters were before the step: one copy of them, renewed only where they changed.

PyTorch counts the writes to a tensor; where the count and the address are those of the last look,
the copy is still right, and between two observed steps in a row nothing has to be read. A write
through ``tensor.data`` is not counted: the next step's change then includes it.
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
        self._seen: dict[int, tuple[int, int]] = {}

    @torch.no_grad()
    def take(self, positions: Sequence[int], step: int) -> None:
        """Bring the copies up to date, of the tensors that a step may move.

        Raises TraceError if a tensor is not of the shape, dtype and device that it was.
        """
        tensors, sharded = self._followed.tensors, self._followed.sharded
        stale = []
        for position in positions:
            tensor = tensors[position]
            if not tensor.requires_grad and tensor.grad is None:
                continue
            if sharded or self._seen.get(position) != (tensor._version, tensor.data_ptr()):
                stale.append(position)
        if not stale:
            return
        for position in stale:
            self._followed.require_unchanged(position, step)
        local = [self._followed.local(position) for position in stale]
        for position, tensor in zip(stale, local, strict=True):
            if position not in self.before:
                self.before[position] = torch.empty_like(tensor, requires_grad=False)
        torch._foreach_copy_([self.before[position] for position in stale], local)
        self.note(stale)

    def note(self, positions: Sequence[int]) -> None:
        """Take down that the copies of these tensors are what the tensors are now."""
        if self._followed.sharded:
            return
        for position in positions:
            tensor = self._followed.tensors[position]
            self._seen[position] = tensor._version, tensor.data_ptr()

    def clear(self) -> None:
        """Let go of the copies."""
        self.before.clear()
        self._seen.clear()
