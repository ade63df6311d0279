"""From a configuration to a ranking: trials, their ledger, and the report.

In Python: `run`, `resume` and `load`, each of which gives a `Sweep` (docs/python.md). They are
loaded when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.api import SweepInterrupted, load, resume, run
    from sweeps.config import SweepConfig
    from sweeps.config_messages import ConfigError
    from sweeps.handle import Sweep
    from sweeps.run_directory import RunDirectoryError
    from sweeps.storing import UnwrittenError

_HOMES = {
    "ConfigError": "config_messages",
    "RunDirectoryError": "run_directory",
    "Sweep": "handle",
    "SweepConfig": "config",
    "SweepInterrupted": "api",
    "UnwrittenError": "storing",
    "load": "api",
    "resume": "api",
    "run": "api",
}

__all__ = [
    "ConfigError",
    "RunDirectoryError",
    "Sweep",
    "SweepConfig",
    "SweepInterrupted",
    "UnwrittenError",
    "load",
    "resume",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"sweeps.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
