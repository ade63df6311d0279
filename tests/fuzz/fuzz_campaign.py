"""Fuzzing at length: ``python tests/fuzz/fuzz_campaign.py --examples 12500 --seed S`` tries so many
cases of all kinds together, prints a table by kind, and ends with 1 if any failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests/fuzz", "tests/search_spaces/pretrained", "tests/sweeps", "")
sys.path[:0] = [str(ROOT / folder) for folder in FOLDERS]

import kinds  # noqa: E402
import sandbox  # noqa: E402
from fuzzing import Kind, Tally, try_kind  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--examples", type=int, default=12_500, help="cases of all kinds; 4 of 5 configurations"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", metavar="KIND", help=", ".join(kinds.NAMES))
    parser.add_argument("--failures", type=Path, help="write each failure's case there")
    given = parser.parse_args(arguments)
    chosen = [kind for kind in kinds.KINDS if not given.only or kind.name in given.only]
    whole = sum(kind.share for kind in chosen)
    done: list[tuple[Kind, Tally]] = []
    try:
        for kind in chosen:
            count = max(1, round(given.examples * kind.share / whole))
            print(f"{kind.name}: {count} cases", file=sys.stderr, flush=True)
            done.append((kind, try_kind(kind, count, given.seed, at_once=False)))
            print(row(kind.name, done[-1][1]), file=sys.stderr, flush=True)
    finally:
        kinds.end()
        sandbox.clear()
        print(table(done), flush=True)
    failures = [f"{kind.name}: {one}" for kind, tally in done for one in tally.failures]
    if given.failures is not None:
        given.failures.write_text("\n=====\n".join(failures), errors="replace")
    elif failures:
        print(f"\nThe first failure:\n{failures[0]}", file=sys.stderr)
    return 1 if failures else 0


def table(done: list[tuple[Kind, Tally]]) -> str:
    lines = ["| kind | cases | refused | accepted | failures | slowest | all |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for kind, tally in done:
        lines.append(row(kind.name, tally))
    total = Tally()
    for _, tally in done:
        total.refused += tally.refused
        total.accepted += tally.accepted
        total.failures += tally.failures
        total.slowest = max(total.slowest, tally.slowest)
        total.seconds += tally.seconds
    return "\n".join([*lines, row("together", total)])


def row(name: str, tally: Tally) -> str:
    return (
        f"| {name} | {tally.cases:,} | {tally.refused:,} | {tally.accepted:,} | "
        f"{len(tally.failures)} | {tally.slowest:.2f} s | {tally.seconds:.0f} s |"
    )


if __name__ == "__main__":
    sys.exit(main())
