"""The replicates of a model trained as one, against one of them alone, all with the tracer."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import duration, markdown, spread, take_turns
from search_spaces import get_architecture
from sweeps.candidate import Candidate, Training
from sweeps.course import Course
from sweeps.stacking import ApartError, require_stackable
from sweeps.together import StackedRun
from sweeps.training import Clockwork, TrainingRun

CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mlp", {"hidden": 64, "depth": 1}),
    ("mlp", {"hidden": 64, "depth": 3}),
    ("mlp", {"hidden": 256, "depth": 2}),
    ("cnn", {"channels": 16, "depth": 2}),
    ("transformer", {"width": 32, "depth": 2}),
)
REPLICATES = (1, 3, 8)
EPOCHS = 100_000
"""More than are ever taken."""
STEPS_A_HISTOGRAM = 8


def table(
    cases: Sequence[tuple[str, dict[str, Any]]] = CASES,
    *,
    blocks: int = 9,
    block_seconds: float = 0.1,
) -> str:
    """The table, as Markdown. A step has its share of the evaluations."""
    rows = [["training", "alone", *(f"{count} as one" for count in REPLICATES), "trained as one"]]
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*performance drop.*")
            for case in cases:
                with tempfile.TemporaryDirectory() as folder:
                    rows.append(
                        _row(Path(folder), *case, blocks=blocks, block_seconds=block_seconds)
                    )
    finally:
        torch.set_num_threads(threads)
    return markdown(rows)


def _row(
    folder: Path, architecture: str, settings: dict[str, Any], *, blocks: int, block_seconds: float
) -> list[str]:
    made = [Training(_candidate(architecture, settings), seed) for seed in range(max(REPLICATES))]
    alone = TrainingRun(made[0], folder / "alone")
    steps = {"alone": _step(alone)} | {
        str(count): _step(StackedRun(made[:count], folder / str(count))) for count in REPLICATES
    }
    epoch = alone.course.batches
    found = take_turns(
        steps,
        blocks=blocks,
        block_seconds=block_seconds,
        limit=120,
        periods=dict.fromkeys(steps, epoch),
    )
    name = ", ".join([architecture, *(f"{key} {value}" for key, value in settings.items())])
    seconds = sorted(found["alone"])[len(found["alone"]) // 2]
    ratios = [spread(found[str(count)], found["alone"]) for count in REPLICATES]
    return [name, duration(seconds), *ratios, _way(alone.course)]


def _step(run: Clockwork) -> Callable[[], object]:
    return lambda: run.advance(0.0)


def _way(course: Course) -> str:
    try:
        require_stackable(course, range(max(REPLICATES)))
    except ApartError as error:
        return f"no: {error}"
    return "yes"


def _candidate(architecture: str, settings: dict[str, Any]) -> Candidate:
    defaults = {
        name: setting.default for name, setting in get_architecture(architecture).settings.items()
    }
    steps = EPOCHS * -(-1078 // 64)
    return Candidate(
        task="digits",
        architecture=architecture,
        settings=defaults | settings,
        init="default",
        optimizer="sgd",
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="constant",
        epochs=EPOCHS,
        batch_size=64,
        dtype="float32",
        importance="taylor",
        every=1,
        histograms=steps // STEPS_A_HISTOGRAM,
    )
