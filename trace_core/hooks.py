"""Hooks around the steps of an optimiser, whatever its step is made of."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch._C._dynamo.eval_frame import set_eval_frame
from torch.optim import Optimizer

Hook = Callable[[Optimizer, Any, Any], None]


class StepHooks:
    """Calls ``before`` and ``after`` around each step of an optimiser, once for a step that is made
    of the base class's. Of a step that raises, ``after`` isn't called.

    The two are plain functions. ``torch.compile`` leaves them alone, but not what they call: that
    has to be `uncompiled`.
    """

    def __init__(self, optimizer: Optimizer, before: Hook, after: Hook) -> None:
        # Every optimiser has imported it, which takes a second, when it was made.
        from torch._dynamo.decorators import skip

        if _nests(type(optimizer)):
            before, after = _of_outermost(skip(before), skip(after))
        self._handles = (
            optimizer.register_step_pre_hook(skip(before)),
            optimizer.register_step_post_hook(skip(after)),
        )

    def remove(self) -> None:
        """Take the hooks off; not while PyTorch calls those of a step. Twice is harmless."""
        for handle in self._handles:
            handle.remove()


def uncompiled(call: Callable[[int], None]) -> Callable[[int], None]:
    """Return a function that ``torch.compile`` leaves alone, and all that it calls.

    As `torch.compiler.disable` does, but for what that asks of the compiler beside: 0.8 µs a call.
    """
    from torch._dynamo.decorators import skip

    def alone(index: int) -> None:
        compiler = set_eval_frame(None)
        try:
            call(index)
        finally:
            set_eval_frame(compiler)

    return skip(alone)


def _nests(kind: type[Optimizer]) -> bool:
    """Whether the step of a class may call that of a base class. PyTorch wraps each in a function
    that calls the hooks, also around a step that is inherited.
    """
    steps = {
        inspect.unwrap(vars(each)["step"])
        for each in kind.__mro__
        if "step" in vars(each) and each is not Optimizer
    }
    return len(steps) > 1


def _of_outermost(before: Hook, after: Hook) -> tuple[Hook, Hook]:
    """Return hooks that call these for the outermost of nested steps alone.

    A frame stands for the call. One that raised has left none.
    """
    outermost: FrameType | None = None

    def first(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal outermost
        caller = sys._getframe(1)
        inner: FrameType | None = caller
        while outermost is not None and inner is not None:
            if inner is outermost:
                return
            inner = inner.f_back
        outermost = caller
        before(optimizer, args, kwargs)

    def last(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal outermost
        if sys._getframe(1) is outermost:
            outermost = None
            after(optimizer, args, kwargs)

    return first, last
