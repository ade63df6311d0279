"""A worker's process between trainings: what one may have changed is put back for the next.

A process that trains many models must give each what a fresh process would have given it, to the
bit. Most of what a training can change is known and put back: PyTorch's modes and hooks, the
environment, limits, signal handlers, the user's own modules. What can't be undone (a thread that
still runs, memory that is not given back) is found instead, and the process is not used again.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.abc
import importlib.machinery
import os
import random
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import torch

GROWTH_BYTES = 512 * 2**20
"""How much more memory than after its first training a process may hold and still be used."""

_LIMITS = (
    "RLIMIT_AS",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_NOFILE",
    "RLIMIT_STACK",
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)
_Mode = tuple[Callable[[], Any], Callable[[Any], object]]
_MODES: tuple[_Mode, ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.is_warn_always_enabled, torch.set_warn_always),
    (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    *(
        (partial(torch.is_autocast_enabled, device), partial(torch.set_autocast_enabled, device))
        for device in ("cpu", "cuda")
    ),
    *(
        (partial(getattr, torch.backends.cudnn, name), partial(setattr, torch.backends.cudnn, name))
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    ),
)
_HOOKED = ("torch.nn.modules.module", "torch.optim.optimizer")


class Process:
    """The state of this process when it was made, to which `restore` brings it back.

    ``folders`` are where the user's modules are: they are executed again for every training, from
    the code that was read first, so that what they keep in globals doesn't reach the next.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._modules = _UserModules(folders)
        self._undo = [
            *_interpreter(),
            *_limits_and_signals(),
            *_torch_modes(),
            *_torch_hooks(),
            self._modules.forget,
        ]
        self._threads = set(threading.enumerate())
        self._children = _children()
        self._memory: int | None = None

    def restore(self) -> str:
        """Put everything back; returns why the process must not be used again, or nothing."""
        for undo in self._undo:
            try:
                undo()
            except Exception as error:
                return f"what the training changed can't be put back: {error}"
        gc.collect()
        # What is alive now stays: looking through it each time takes as long as short trainings do.
        gc.freeze()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            reason = _clear_cuda()
            if reason:
                return reason
        threads = [thread for thread in threading.enumerate() if thread not in self._threads]
        if threads:
            return f"the training left a thread running: {threads[0].name}"
        if _children() - self._children:
            return "the training left a process running"
        memory = _resident()
        if self._memory is None or memory < self._memory:
            self._memory = memory
        if memory - self._memory > GROWTH_BYTES:
            return f"the training left {(memory - self._memory) >> 20} MiB of memory in use"
        return ""


class _UserModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The user's modules: forgotten after each training, and then imported from the code that was
    read first, whatever the file has become.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = [Path(folder).resolve() for folder in folders]
        self._there = set(sys.modules)
        self._read: dict[str, tuple[CodeType, importlib.machinery.ModuleSpec]] = {}
        sys.meta_path.insert(0, self)

    def forget(self) -> None:
        for name in [name for name in sys.modules if name not in self._there]:
            module = sys.modules[name]
            if name not in self._read:
                spec = getattr(module, "__spec__", None)
                if spec is None or not self._is_users(spec):
                    self._there.add(name)
                    continue
                code = spec.loader.get_code(name)
                self._read[name] = code, spec
            del sys.modules[name]

    def _is_users(self, spec: importlib.machinery.ModuleSpec) -> bool:
        if not isinstance(spec.loader, importlib.abc.InspectLoader) or not spec.origin:
            return False
        file = Path(spec.origin)
        return (
            file.suffix == ".py"
            and "site-packages" not in file.parts
            and any(file.resolve().is_relative_to(folder) for folder in self._folders)
        )

    def find_spec(
        self, fullname: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._read:
            return None
        first = self._read[fullname][1]
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=first.origin)
        spec.submodule_search_locations = first.submodule_search_locations
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        exec(self._read[module.__name__][0], vars(module))  # noqa: S102  (an import executes code)


def _interpreter() -> list[Callable[[], None]]:
    environment, folder, path = dict(os.environ), Path.cwd(), list(sys.path)
    recursion, collects = sys.getrecursionlimit(), gc.isenabled()
    errors, filters = np.geterr(), list(warnings.filters)
    streams = sys.stdout, sys.stderr, sys.stdin

    def undo() -> None:
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        os.chdir(folder)
        sys.path[:] = path
        sys.setrecursionlimit(recursion)
        sys.settrace(None)
        sys.setprofile(None)
        (gc.enable if collects else gc.disable)()
        np.seterr(**errors)
        if warnings.filters != filters:
            warnings.resetwarnings()
            warnings.filters[:] = filters  # type: ignore[index]
        sys.stdout, sys.stderr, sys.stdin = streams
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002  (a user's builder may draw from it)

    return [undo]


def _limits_and_signals() -> list[Callable[[], None]]:
    limits = {
        kind: resource.getrlimit(kind)
        for name in _LIMITS
        if (kind := getattr(resource, name, None)) is not None
    }
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}

    def undo_limits() -> None:
        for kind, limit in limits.items():
            if resource.getrlimit(kind) != limit:
                resource.setrlimit(kind, limit)

    def undo_signals() -> None:
        if threading.current_thread() is threading.main_thread():
            signal.alarm(0)
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)

    return [undo_limits, undo_signals]


def _torch_modes() -> list[Callable[[], None]]:
    kept = [(get(), set_) for get, set_ in _MODES]

    def undo() -> None:
        torch.set_default_device(None)
        torch.set_flush_denormal(False)
        for value, set_ in kept:
            set_(value)
        torch.manual_seed(0)

    return [undo]


def _torch_hooks() -> list[Callable[[], None]]:
    """Hooks on every module, and on every optimizer."""
    hooks = [
        value
        for module in _HOOKED
        for name, value in vars(sys.modules[module]).items()
        if name.startswith("_global_") and isinstance(value, dict)
    ]
    kept = [(hook, dict(hook)) for hook in hooks]

    def undo() -> None:
        for hook, before in kept:
            if dict(hook) != before:
                hook.clear()
                hook.update(before)

    return [undo]


def _clear_cuda() -> str:
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError as error:
        return f"the training broke CUDA: {error}"
    left = torch.cuda.memory_allocated()
    return f"the training left {left} bytes of GPU memory in use" if left else ""


def _children() -> set[int]:
    """Processes started from here, where the system tells (Linux)."""
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(map(int, file.read_text().split()))
        except OSError:  # its thread has just ended
            continue
    return found


def _resident() -> int:
    """Bytes of memory that this process holds, 0 where the system doesn't tell; what was freed is
    given back first.
    """
    with contextlib.suppress(AttributeError):  # another library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0
