"""The ledger: the study's trials as a table, one row per trial, kept as ``trials.parquet``.

Derived from the study and from nothing else, so that it can be written again at any time.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from sweeps.run_directory import RunDirectory
from trace_core.durable import write_atomically

if TYPE_CHECKING:
    from sweeps.selection import StudyTrial

STATES = ("COMPLETE", "PRUNED", "FAILED", "INTERRUPTED")


def ledger_table(trials: Sequence[StudyTrial], objectives: Sequence[str]) -> pd.DataFrame:
    """One row per trial, in the order of its number (the index).

    ``parameters`` is JSON; ``trainings`` and ``ray`` list the ids of the trial's trainings and of
    the Ray trials made for them, separated by commas (no Ray id: replayed); one column per
    objective.
    """
    rows = []
    for trial in trials:
        details = trial.details
        values: Sequence[float | None] = trial.values or [None] * len(objectives)
        rows.append(
            {
                "trial": trial.number,
                "state": trial.state,
                "reason": details.get("reason", ""),
                "model_id": details.get("model", ""),
                "alpha": details.get("alpha"),
                "parameters": json.dumps(trial.parameters, sort_keys=True),
                "replayed": bool(details.get("replayed", False)),
                "trainings": ",".join(details.get("trainings", [])),
                "ray": ",".join(details.get("ray", [])),
                "seconds": float(details.get("seconds", 0.0)),
                "metric": details.get("metric"),
                "constraint": trial.constraint,
                "started": trial.started,
                "ended": trial.ended,
                **{f"value_{name}": value for name, value in zip(objectives, values, strict=True)},
            }
        )
    types = {"alpha": "float64", "metric": "float64", "constraint": "float64"} | {
        f"value_{name}": "float64" for name in objectives
    }
    columns = list(rows[0]) if rows else ["trial", "state"]
    table = pd.DataFrame(rows, columns=columns).set_index("trial")
    return table.astype({name: kind for name, kind in types.items() if name in table})


def read_ledger(run: RunDirectory) -> pd.DataFrame:
    """The table as it was written. Raises FileNotFoundError if there is none, and one of `DAMAGE`
    if it is damaged.
    """
    data = io.BytesIO(run.ledger.read_bytes())
    table = pd.read_parquet(data, engine="pyarrow", page_checksum_verification=True)
    if table.index.name != "trial" or "state" not in table:
        raise ValueError("it is no table of trials")
    return table


def counts(table: pd.DataFrame) -> dict[str, int]:
    """How many trials are in each state, and how many of the ended ones were trained or
    replayed.
    """
    replayed = int(table["replayed"].sum()) if len(table) else 0
    states = {state: int((table["state"] == state).sum()) for state in STATES}
    trained = len(table) - states["INTERRUPTED"] - replayed
    return states | {"trained": trained, "replayed": replayed}


def write_ledger(run: RunDirectory, table: pd.DataFrame) -> None:
    """Write ``trials.parquet``, durably, with checksums."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, write_page_checksum=True)
    write_atomically(run.ledger, buffer.getvalue())
