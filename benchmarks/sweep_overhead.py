"""A sweep against its floor: the trainings it made, had they filled its workers without a gap.

The floor counts the seconds inside the trainings, tracer included; what is above it is Ray, Optuna,
scoring and writing. Start-up (Ray, and torch in every actor) is told apart, since a longer sweep
pays it once as well.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from sweeps.config import SweepConfig
from sweeps.ledger import ledger_table
from sweeps.selection import read_trials
from sweeps.sweep import create, drive

TRIALS = 100
WORKERS = 2


def table() -> str:
    """The table, as Markdown."""
    rows = [
        "| sweep | trials | total | start-up | per trial | ideal per trial | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for sampler in ("random", "tpe"):
        rows.append(_row(sampler))
    return "\n".join(rows)


def _row(sampler: str) -> str:
    config = SweepConfig.from_dict(
        {
            "name": "overhead",
            "task": "digits",
            "budget": {"epochs": 10, "batch_size": 64},
            "replicates": 1,
            "trials": TRIALS,
            "space": {
                "architecture": {"mlp": {"hidden": {"int": [16, 64]}, "depth": 1}},
                "learning_rate": {"float": [0.01, 0.3]},
            },
            "sampler": {"name": sampler},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        run = create(config, Path(folder) / "run", [])
        started = time.time()
        drive(run, config, workers=WORKERS, import_path=[])
        total = time.time() - started
        ledger = ledger_table(read_trials(run), config.objective_names())
    first_end = ledger["ended"].min().timestamp()
    start_up = first_end - ledger["seconds"].iloc[0] - started
    each = (total - start_up) / TRIALS
    ideal = ledger["seconds"].sum() / WORKERS / TRIALS
    return (
        f"| mlp on digits, {sampler} | {TRIALS} | {total:.1f} s | {start_up:.1f} s | "
        f"{each * 1e3:.0f} ms | {ideal * 1e3:.0f} ms | {each / ideal:.2f} |"
    )
