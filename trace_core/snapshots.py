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

_NEVER = (-1, 0)


class Snapshots:
    """Copies of followed tensors by position."""

    def __init__(self, followed: Followed) -> None:
        self._followed = followed
        self.before: dict[int, Tensor] = {}
        self._seen: dict[int, tuple[int, int]] = {}

    def take(self, positions: Sequence[int], step: int) -> None:
        """Bring the copies up to date, of the tensors that a step may move.

        Raises TraceError if a tensor is not of the shape, dtype and device that it was.
        """
        tensors, seen = self._followed.tensors, self._seen
        stale = [
            position
            for position in positions
            if (tensor := tensors[position])._version != seen.get(position, _NEVER)[0]
            or tensor.data_ptr() != seen[position][1]
        ]
        # One that is frozen stays stale, and isn't copied until it may move.
        stale = [position for position in stale if self._followed.may_move(position)]
        if stale:
            self._renew(stale, step)

    @torch.no_grad()
    def _renew(self, stale: Sequence[int], step: int) -> None:
        for position in stale:
            self._followed.require_unchanged(position, step)
        local = [self._followed.local(position) for position in stale]
        for position, tensor in zip(stale, local, strict=True):
            if position not in self.before:
                self.before[position] = torch.empty_like(tensor, requires_grad=False)
        torch._foreach_copy_([self.before[position] for position in stale], local)
        # The step about to be taken may write without being counted, as fused optimisers do.
        self.forget(stale)

    def note(self, positions: Sequence[int]) -> None:
        """Take down that the copies of these tensors are what the tensors are now."""
        if not self._followed.sharded:
            tensors, seen = self._followed.tensors, self._seen
            for position in positions:
                tensor = tensors[position]
                seen[position] = tensor._version, tensor.data_ptr()

    def forget(self, positions: Sequence[int]) -> None:
        """Take down that the copies of these tensors are to be made anew."""
        for position in positions:
            self._seen.pop(position, None)

    def clear(self) -> None:
        """Let go of the copies."""
        self.before.clear()
        self._seen.clear()
