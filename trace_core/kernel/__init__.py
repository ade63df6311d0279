"""The compiled form of the pass over the parameters, and whether it is in use.

``kernel.c`` is compiled when the package is installed (`build.py`), into a library without
dependencies that picks the widest instruction set of the processor when it runs. Where it is
missing, on other devices than the CPU, and with ``TRACERANK_KERNEL=torch`` in the environment, the
pass is made of PyTorch's operations instead (`trace_core.collect`), with the same results to
rounding.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

VERSION = 2
"""Of the structures that the library is called with."""
VARIABLE = "TRACERANK_KERNEL"
_LEVELS = {"AVX2": 1, "AVX512": 2}


@lru_cache
def library() -> ctypes.CDLL | None:
    """Return the compiled library, None where there is none that fits."""
    if os.environ.get(VARIABLE) == "torch":
        return None
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"compiled{suffix}")
        if path.exists():
            try:
                found = ctypes.CDLL(str(path))
                found.tracerank_version.restype = ctypes.c_int64
                if found.tracerank_version() != VERSION:
                    return None
            except (OSError, AttributeError):
                return None
            found.tracerank_observe.restype = found.tracerank_finish.restype = ctypes.c_int64
            return found
    return None


def level() -> int:
    """The instruction set that the library shall use: 0 baseline, 1 AVX2, 2 AVX-512."""
    return _LEVELS.get(torch.backends.cpu.get_cpu_capability(), 0)


@lru_cache
def openmp() -> ctypes.CDLL | None:
    """Return the OpenMP library that PyTorch runs on, None if it isn't GNU's.

    Its threads spin for a while after each operation, in the way of any others: on two cores a pass
    right after a step took twice as long with threads of its own.
    """
    try:
        loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    except OSError:
        return None
    ours = [path for path in loaded if Path(path).parent == Path(torch.__file__).with_name("lib")]
    for path in ours:
        if Path(path).name.startswith("libgomp"):
            return ctypes.CDLL(path)
    return None


def describe() -> str:
    """Which pass CPU tensors get: ``compiled (AVX512)`` or ``torch``."""
    if library() is None:
        return "torch"
    return f"compiled ({torch.backends.cpu.get_cpu_capability()})"
