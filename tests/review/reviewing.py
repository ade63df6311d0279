"""A review server as a process of its own, and a folder of real runs for it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inprocess import prepared, work_off

from sweeps.results import report_run
from sweeps.run_directory import RunDirectory

HOSTILE = "a \"b\" <b>c<&amp; 'd' {{e}} ünïcode %2e"


def finished(path: Path, **changes: Any) -> RunDirectory:
    """A run directory with six trials of a tiny sweep, ended and reported."""
    run, config = prepared(path, **changes)
    work_off(run, config)
    report_run(run)
    return run


@contextlib.contextmanager
def server(folder: Path, *options: str) -> Iterator[str]:
    """The address of a review server over a folder, as ``tracerank review`` serves it."""
    code = "from sweeps.cli import main; main()"
    command = [sys.executable, "-c", code, "review", str(folder), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address, "the server ended before it answered"
            yield address.rstrip("/")
        finally:
            process.terminate()
            code = process.wait(20)
    assert code == 3
