"""A measurement in an interpreter of its own, which nothing has warmed up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def run(module: str, *arguments: str, **variables: str) -> Any:
    """Return what ``python -m module arguments`` prints, read as JSON, with these variables added
    to its environment.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)


def peak() -> int:
    """The most bytes that this process has held. Linux's count for it alone: the one of
    ``getrusage`` begins with that of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status tells no peak")


def forget_peak() -> None:
    """Count `peak` from what this process holds now."""
    Path("/proc/self/clear_refs").write_text("5")
