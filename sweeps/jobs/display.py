"""What people see of a job: progress while it is waited for or fetched, its state in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.jobs.errors import size
from sweeps.jobs.job import Job
from sweeps.plain_text import plain
from sweeps.terminal import PLAIN_SECONDS, duration

SHORTEST = 0.1
"""Seconds between two pictures on a terminal."""

Show = Callable[[str, float, float], None]
"""Shows words, and of how much so much is done."""


@contextmanager
def showing(console: Console, *, at_once: bool = True) -> Iterator[Show]:
    """A live line with a bar on a terminal; elsewhere the words where they are others than those of
    PLAIN_SECONDS ago, the first of them only then too unless ``at_once``.
    """
    last, said = 0.0 if at_once else time.monotonic(), ""

    def line(words: str, done: float, of: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SHORTEST and done < of:
            return
        last = now
        grid = Table.grid(padding=(0, 1))
        grid.add_row(ProgressBar(total=max(of, 1), completed=done, width=24), Text(words))
        live.update(grid, refresh=True)

    def words_alone(words: str, done: float, of: float) -> None:
        nonlocal last, said
        now = time.monotonic()
        if words != said and (not last or now - last >= PLAIN_SECONDS):
            last, said = now, words
            console.print(words, highlight=False, markup=False, soft_wrap=True)

    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield line
    else:
        yield words_alone


def show_job(show: Show, job: Job, progress: Mapping[str, Any] | None) -> None:
    """One line for a job that is waited for."""
    done, target = _counts(progress)
    show(f"{job.id} {job.state} · {progress_words(progress)}".rstrip(" ·"), done, target)


def show_bytes(show: Show, done: int, of: int) -> None:
    """One line for what is being copied."""
    show(f"{size(done)} of {size(of)}", done, of)


def _counts(progress: Mapping[str, Any] | None) -> tuple[int, int]:
    told = progress or {}
    done, target = told.get("done"), told.get("target")
    if isinstance(done, int) and isinstance(target, int):
        return done, target
    return 0, 0


def progress_words(progress: Mapping[str, Any] | None) -> str:
    """How far a driver says it is; nothing if it said nothing that can be read."""
    if not progress:
        return ""
    done, target = _counts(progress)
    parts = [f"{done}/{target} trials" if target else plain(progress.get("state", ""))]
    for name in ("running", "replayed", "pruned", "failed"):
        count = progress.get(name)
        if isinstance(count, int) and count > 0:
            parts.append(f"{count} {name}")
    best = progress.get("best")
    if isinstance(best, list) and len(best) == 2 and isinstance(best[1], int | float):
        parts.append(f"best {best[1]:.4g}")
    return " · ".join(part for part in parts if part)


def describe(job: Job, progress: Mapping[str, Any] | None) -> list[str]:
    """The lines of a job's state."""
    lines = [f"{job.id}: {job.state}, attempt {job.attempt}: {job.message or 'no message'}"]
    words = progress_words(progress)
    if words:
        lines.append(f"  progress  {words}")
    lines.append(f"  sweep     {job.name}, {job.trials} trials")
    lines.append(f"  storage   {plain(job.storage)}")
    if job.started:
        took = (job.ended or time.time()) - job.started
        word = "took" if job.over else "so far"
        lines.append(f"  started   {moment(job.started)}, {word} {duration(max(took, 0))}")
    return lines


def moment(seconds: float | None) -> str:
    """A time in words, this machine's."""
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"
