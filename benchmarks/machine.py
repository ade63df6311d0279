"""The machine that a figure was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from trace_core import kernel

THREADS = torch.get_num_threads()
"""What PyTorch uses unless told otherwise."""


def facts() -> str:
    """One line for the head of a report."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {_last_cache()} of last-level cache, "
        f"{memory:.0f} GiB; Python {platform.python_version()}, PyTorch {torch.__version__} with "
        f"{THREADS} threads unless a table says otherwise; the tracer's pass: "
        f"{kernel.describe()}; load average when it began: {load():.1f}"
    )


def load() -> float:
    """Processes that want a core, the mean of a minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _last_cache() -> str:
    folder = Path("/sys/devices/system/cpu/cpu0/cache")
    sizes = [line for index in sorted(folder.glob("index*")) for line in _lines(index / "size")]
    return sizes[-1] if sizes else "an unknown size"


def _lines(file: str | Path) -> list[str]:
    try:
        return Path(file).read_text().splitlines()
    except OSError:
        return []
