"""Run the study, or what is left of it, and write its tables: ``python -m benchmarks.validity``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import pandas as pd

import sweeps
from benchmarks.validity import analysis, experiments
from benchmarks.validity.gather import candidates, gather
from benchmarks.validity.pools import Pool, pools

RESULTS = Path(__file__).parent.parent / "results" / "validity"
RUNS = Path("runs/validity")
ERROR = 0.05
"""By how much τ may differ on another machine: its arithmetic rounds otherwise, and a few models
change places.
"""

FOLLOWED = ("free", "held")
"""Kinds of pools whose second half is foretold from the first."""
FOLLOWED_SEEDS = 2
FAITHFUL_MODELS = 16


def train(runs: Path, chosen: list[Pool]) -> None:
    """Run every pool's sweep, or finish it."""
    progress = sys.stderr.isatty()
    for number, pool in enumerate(chosen, start=1):
        started = time.monotonic()
        path = runs / pool.name
        if (path / "sweep.yaml").exists():
            sweep = sweeps.load(path)
            trials = pool.configuration()["trials"]
            if not sweep.complete or sweep.config.trials < trials:
                sweeps.resume(path, trials=trials, progress=progress)
        else:
            sweeps.run(pool.configuration(), out=path, progress=progress)
        seconds = time.monotonic() - started
        print(f"{number} of {len(chosen)}: {pool.name} ({seconds:.0f} s)", flush=True)


def experiment(runs: Path, chosen: list[Pool]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train the free and the held pools again, and look at their parameters."""
    followed, zeroed = [], []
    for pool in chosen:
        if pool.kind in FOLLOWED and pool.importance == "taylor":
            models = dict(sorted(candidates(runs, pool).items()))
            rows = experiments.followed(models, FOLLOWED_SEEDS)
            followed.append(rows.assign(task=pool.task, kind=pool.kind))
            if pool.kind == "free":
                few = dict(list(models.items())[:FAITHFUL_MODELS])
                zeroed.append(experiments.faithful(few).assign(task=pool.task))
            print(f"parameters of {pool.name}", flush=True)
    return pd.concat(followed, ignore_index=True), pd.concat(zeroed, ignore_index=True)


def analyse(results: Path) -> None:
    """Write the findings from the measures that are stored."""
    measures = pd.read_parquet(results / "measures.parquet")
    followed = pd.read_parquet(results / "followed.parquet")
    zeroed = pd.read_parquet(results / "zeroed.parquet")
    tables = {
        "usefulness": analysis.usefulness(measures),
        "foretelling": analysis.foretelling(measures, followed),
        "faithfulness": analysis.faithfulness(zeroed),
        "choices": analysis.choices(measures),
        "schedules": analysis.schedules(measures),
    }
    for name, table in tables.items():
        table.to_csv(results / f"{name}.csv", index=False, float_format="%.4g")


def compare(found: Path, kept: Path) -> bool:
    """Say how far the τ found here are from those that are kept; whether all are within `ERROR`."""
    names = ["task", "kind", "importance", "share", "measure"]
    here, there = (pd.read_csv(folder / "usefulness.csv") for folder in (found, kept))
    pools = here[names[:3]].drop_duplicates()
    both = pd.merge(
        here, there.merge(pools), on=names, how="outer", suffixes=("", "_kept"), indicator=True
    )
    one_sided = (both["_merge"] != "both") | (both["tau"].isna() != both["tau_kept"].isna())
    differences = (both["tau"] - both["tau_kept"]).abs()
    if one_sided.any() or not differences.notna().any():
        print(f"{int(one_sided.sum())} of {len(both)} figures are only here or only in {kept}")
        return False
    worst = both.loc[differences.idxmax()]
    print(
        f"{int(differences.notna().sum())} figures compared with {kept}: τ differs by "
        f"{differences.max():.3f} at most ({worst['kind']}, {worst['measure']}, "
        f"{worst['share']:.0%} of the budget)"
    )
    return bool(differences.max() <= ERROR)


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validity", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two pools, in minutes")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the sweeps are kept")
    parser.add_argument("--results", type=Path, help="where the tables go")
    parser.add_argument("--analyse", action="store_true", help="from the measures stored alone")
    given = parser.parse_args()
    results = given.results or (given.runs / "quick" if given.quick else RESULTS)
    results.mkdir(parents=True, exist_ok=True)
    if not given.analyse:
        chosen = pools(quick=given.quick)
        train(given.runs, chosen)
        measures = gather(given.runs, chosen)
        # Half the size; what is told has three digits.
        numbers = measures.select_dtypes("float64").columns.drop("share")
        measures.astype(dict.fromkeys(numbers, "float32")).to_parquet(results / "measures.parquet")
        followed, zeroed = experiment(given.runs, chosen)
        followed.to_parquet(results / "followed.parquet")
        zeroed.to_parquet(results / "zeroed.parquet")
    analyse(results)
    if given.quick and not compare(results, RESULTS):
        sys.exit(f"the study isn't reproduced: more than {ERROR}")


if __name__ == "__main__":
    main()
