"""What a person at a terminal sees: progress while a sweep runs, the top of the ranking at its end.

All of it goes to stderr; stdout is for programs.
"""

from __future__ import annotations

import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.live import read_live

if TYPE_CHECKING:
    from sweeps.conductor import Progress
    from sweeps.ranking import Ranking
    from sweeps.run_directory import RunDirectory

READING_SECONDS = 2.0
"""Time between two looks at how far the trainings under way have come."""

PLAIN_SECONDS = 10.0
"""Time between two lines of progress where there is no terminal to draw on."""

WIDE = 120
"""Columns of a terminal that has room for every component of the score and the settings."""


class Display:
    """A live line of progress on a terminal; a line every ten seconds elsewhere.

    Usable as a context manager; call ``update`` as often as you like. How far trainings under way
    have come is what their workers tell in ``run``.
    """

    def __init__(self, console: Console, metric: str, run: RunDirectory) -> None:
        self._console = console
        self._metric = metric
        self._run = run
        self._under_way = ""
        self._looked = 0.0
        self._first: tuple[int, float] | None = None
        self._last_line = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def update(self, progress: Progress) -> None:
        """Show the present counts."""
        now = time.monotonic()
        if self._console.is_terminal:
            if now - self._last_line >= 0.1 or progress.done == progress.target:
                self._last_line = now
                self._live.update(self._line(progress), refresh=True)
        elif now - self._last_line >= PLAIN_SECONDS:
            self._last_line = now
            self._console.print(self._words(progress), highlight=False)

    def _line(self, progress: Progress) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(total=max(progress.target, 1), completed=progress.done, width=24),
            Text(self._words(progress)),
        )
        return grid

    def _words(self, progress: Progress) -> str:
        parts = [f"{progress.done}/{progress.target} trials"]
        if progress.running:
            parts.append(f"{progress.running} running{self._how_far()}")
        if progress.replayed:
            parts.append(f"{progress.replayed} replayed")
        if progress.pruned:
            parts.append(f"{progress.pruned} pruned")
        if progress.failed:
            parts.append(f"{progress.failed} failed")
        if progress.best is not None:
            parts.append(f"best {self._metric} {progress.best[1]:.4g}")
        parts.append(progress.waiting or self._time_left(progress))
        return " · ".join(part for part in parts if part)

    def _how_far(self) -> str:
        now = time.monotonic()
        if now - self._looked >= READING_SECONDS:
            self._looked = now
            told = read_live(self._run)
            shares = [f"{live.step / max(1, live.total_steps):.0%}" for live in told]
            self._under_way = f" ({', '.join(shares)})" if shares else ""
        return self._under_way

    def _time_left(self, progress: Progress) -> str:
        """Told by the trials since the first that ended here: Ray's start is no measure."""
        if not progress.trained:
            return "" if self._under_way else "starting"
        now = time.monotonic()
        self._first = self._first or (progress.done, now)
        done, since = progress.done - self._first[0], now - self._first[1]
        if done < 2:
            return ""
        return f"about {duration(since / done * (progress.target - progress.done))} left"


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def show_ranking(console: Console, ranking: Ranking, top: int = 8) -> None:
    """Print the first rows of the ranking with their rank intervals, then the warnings.

    Of the settings only those that differ among the models shown are named.
    """
    data = replace(ranking, frame=ranking.frame.head(top)).to_json()
    models = data["models"]
    if models:
        wide = console.width >= WIDE
        names = ["traceability", "stability", "explainability"] if wide else ["traceability"]
        table = Table(box=None, pad_edge=False, show_edge=False)
        table.add_column("rank", no_wrap=True)
        table.add_column("model", no_wrap=True)
        # The one that may be long, as it names a checkpoint: it folds, and the others keep whole.
        table.add_column("", overflow="fold")
        table.add_column("init", no_wrap=True)
        for name in (*names, models[0]["metric_name"]):
            table.add_column(name, justify="right", no_wrap=True)
        if wide:
            table.add_column("settings", overflow="fold")
        for model in models:
            table.add_row(
                _rank(model),
                Text(model["model_id"]),
                Text(model["architecture"]),
                Text(model["init"]),
                *(f"{model[key]:.4f}" for key in (*names, "metric")),
                *([Text(_settings(model, models))] if wide else []),
            )
        ranked = len(ranking.frame)
        console.print(
            f"\nThe first {len(models)} of {ranked} ranked models, at α = {data['alpha']:.3g}:",
            highlight=False,
        )
        console.print(table)
    for warning in data["warnings"]:
        console.print(Text(f"note: {warning}"), highlight=False)


def _rank(model: dict[str, Any]) -> str:
    low, high = model["rank_low"], model["rank_high"]
    return f"{model['rank']}" if low == high else f"{model['rank']} ({low}–{high})"


def _settings(model: dict[str, Any], models: list[dict[str, Any]]) -> str:
    """The settings of a model in which it differs from another one shown."""
    others = [other["settings"] for other in models]
    return " ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in model["settings"].items()
        if any(key in other and other[key] != value for other in others)
    )
