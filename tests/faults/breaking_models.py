"""A model of a user's own that does harm in its training, in those trials that are to be broken.

What it does is said by the environment and not by a setting, so that a model is the same one, by
its id, in a sweep in which it behaves (`HOW` not set).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from search_spaces import TaskShape

HOW = "TRACERANK_FAULTS_HOW"
"""The variable that holds a key of `HARM`, or nothing."""
STEP = 9
"""The step of a training at which harm is done."""

_KEPT: list[object] = []


class Breaking(nn.Module):
    """Two layers, and some harm at a step."""

    def __init__(self, shape: TaskShape, width: int, bad: bool) -> None:
        super().__init__()
        self.first = nn.Linear(shape.features, width)
        self.second = nn.Linear(width, shape.outputs)
        how = os.environ.get(HOW, "")
        self._harm = HARM[how] if bad and how else None
        self._steps = 0

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.second(torch.tanh(self.first(inputs.flatten(1))))
        if self._harm is not None and self.training and torch.is_grad_enabled():
            self._steps += 1
            if self._steps >= STEP:
                output = self._harm(output, self._steps)
        return output


def build(shape: TaskShape, width: int = 8, bad: bool = False) -> nn.Module:
    return Breaking(shape, width, bad)


Harm = Callable[[Tensor, int], Tensor]
HARM: dict[str, Harm] = {}


def harm(function: Harm) -> Harm:
    HARM[function.__name__] = function
    return function


@harm
def raises(output: Tensor, step: int) -> Tensor:
    raise ValueError(f"broken at step {step}")


@harm
def segfaults(output: Tensor, step: int) -> Tensor:
    ctypes.string_at(0)
    return output


@harm
def aborts(output: Tensor, step: int) -> Tensor:
    os.abort()


@harm
def leaks(output: Tensor, step: int) -> Tensor:
    _KEPT.append(torch.ones(16 * 2**20))  # 64 MiB a step
    # Not so fast that the machine is full before anybody could look.
    time.sleep(0.02)
    return output


@harm
def sleeps(output: Tensor, step: int) -> Tensor:
    time.sleep(10_000)
    return output


@harm
def hangs(output: Tensor, step: int) -> Tensor:
    """Holds the interpreter's lock, so that no other thread of the process does anything."""
    ctypes.PyDLL(None).sleep(10_000)
    return output


@harm
def forks_and_goes_on(output: Tensor, step: int) -> Tensor:
    """Both processes come back from here."""
    if step == STEP:
        os.fork()
    return output


@harm
def forks_and_leaves(output: Tensor, step: int) -> Tensor:
    """The child leaves as a program does, through all that is above it."""
    if step == STEP:
        child = os.fork()
        if child == 0:
            sys.exit(0)
        os.waitpid(child, 0)
    return output


@harm
def forks_and_raises(output: Tensor, step: int) -> Tensor:
    if step == STEP and os.fork() == 0:
        raise ValueError("broken in a child")
    return output


@harm
def exits(output: Tensor, step: int) -> Tensor:
    sys.exit(3)


@harm
def exits_at_once(output: Tensor, step: int) -> Tensor:
    os._exit(7)


@harm
def interrupts(output: Tensor, step: int) -> Tensor:
    raise KeyboardInterrupt


@harm
def diverges(output: Tensor, step: int) -> Tensor:
    return output * float("nan")


@harm
def prints(output: Tensor, step: int) -> Tensor:
    """Some 100 MB in a training, by Python and past it."""
    text = "x" * 2**10 + "\n"
    if step < STEP + 20:
        print(text * 2**11)
        print(text * 2**10, file=sys.stderr)
        for descriptor in (1, 2):
            os.write(descriptor, text.encode() * 2**10)
    return output


@harm
def leaves_threads(output: Tensor, step: int) -> Tensor:
    if step < STEP + 5:
        threading.Thread(target=time.sleep, args=(10_000,), name="left").start()
    return output


@harm
def leaves_children(output: Tensor, step: int) -> Tensor:
    if step < STEP + 5:
        _KEPT.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10_000)"]))
    return output


@harm
def closes_descriptors(output: Tensor, step: int) -> Tensor:
    if step == STEP:
        for descriptor in (0, 1, 2):
            os.close(descriptor)
    return output


@harm
def deletes_its_folder(output: Tensor, step: int) -> Tensor:
    if step == STEP:
        folder = tempfile.mkdtemp()
        os.chdir(folder)
        shutil.rmtree(folder)
    return output
