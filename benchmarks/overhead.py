"""A training step with the tracer against the plain step, the article's way, and its peers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch

from benchmarks import peers
from benchmarks.machine import THREADS
from benchmarks.timing import Step, duration, markdown, spread, take_turns
from benchmarks.trainings import CASES, Case, Training
from trace_core import Tracer


@contextmanager
def _plain(training: Training) -> Iterator[Step]:
    yield training.step


def _traced(**settings: Any) -> Callable[[Training], AbstractContextManager[Step]]:
    @contextmanager
    def way(training: Training) -> Iterator[Step]:
        with Tracer(training.model, training.optimizer, importance="taylor", **settings):
            yield training.step

    return way


PLAIN = "plain step"
WAYS: dict[str, Callable[[Training], AbstractContextManager[Step]]] = {
    PLAIN: _plain,
    "tracer": _traced(),
    "tracer, histogram_every=1": _traced(histogram_every=1),
    "tracer, histogram_every=10": _traced(histogram_every=10),
    "tracer, every=10": _traced(every=10),
    "the article's way": peers.article,
    "Cockpit, UpdateSize": peers.cockpit_update_size,
    "Cockpit, economy": peers.cockpit_economy,
    "wandb.watch": peers.wandb_watch,
}
LIMIT = 30.0
"""Seconds that the blocks of one training may take."""
PERIODS = {"tracer, histogram_every=10": 10, "tracer, every=10": 10}


def table(cases: Sequence[Case] = CASES) -> str:
    """The table, as Markdown."""
    rows = [["training", "parameters", "threads", *WAYS]]
    rows += [_row(case) for case in cases]
    return markdown(rows) + f"\n\nCompared to: {peers.versions()}."


def _row(case: Case) -> list[str]:
    before, threads = torch.get_num_threads(), case.threads or THREADS
    torch.set_num_threads(threads)
    steps: dict[str, Step] = {}
    cells: dict[str, str] = {}
    with ExitStack() as stack:
        for name, way in WAYS.items():
            torch.manual_seed(0)
            training = case.make()
            try:
                steps[name] = stack.enter_context(way(training))
            except peers.UnavailableError as reason:
                cells[name] = str(reason)
        found = take_turns(
            steps,
            blocks=case.blocks,
            block_seconds=case.block_seconds,
            limit=LIMIT,
            periods=PERIODS,
        )
    torch.set_num_threads(before)
    plain = found.pop(PLAIN)
    cells |= {name: spread(seconds, plain) for name, seconds in found.items()}
    cells[PLAIN] = duration(statistics.median(plain))
    size = sum(parameter.numel() for parameter in training.model.parameters())
    return [case.name, f"{size:,}", str(threads), *(cells[name] for name in WAYS)]
