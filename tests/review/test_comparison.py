"""Two sweeps side by side: what keeps their figures from being of a kind."""

from __future__ import annotations

from pathlib import Path

from reviewing import finished

from sweeps.results import rank_run
from sweeps.review.comparison import compare


def test_budgets_in_steps_are_told_apart(tmp_path: Path) -> None:
    short, same, long = (
        rank_run(
            finished(
                tmp_path / name,
                budget={"steps": steps, "evaluations": 2, "batch_size": 32},
                trials=2,
                replicates=1,
            )
        )
        for name, steps in (("short", 12), ("same", 12), ("long", 24))
    )
    assert compare(short, same).obstacles == []
    (obstacle,) = compare(short, long).obstacles
    assert obstacle.startswith("Budgets or batch sizes differ")
