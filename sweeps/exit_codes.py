"""The exit codes of every command of ``tracerank``, and of the process that drives a job."""

from __future__ import annotations

DONE, FAILED, USAGE, STOPPED, NOT_FOUND, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
