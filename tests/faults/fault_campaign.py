"""A campaign of violent runs: ``python tests/faults/fault_campaign.py --runs 200 --seed 1``.

Prints a line for each run, and at the end a table by kind, which goes to ``--out`` as well: to a
page of the documentation between its marks. Exits with 1 if any run failed.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

# The database's server is the one of the storages' tests.
sys.path.append(str(Path(__file__).resolve().parents[1] / "sweeps"))

from violence import KINDS
from violent_run import SORTS, Result, Runs

MARKS = "<!-- violence: written by make faults -->", "<!-- end of violence -->"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="violent runs that must have hit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="", help="names, separated by commas (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, action="append", default=[], help="FILE.md or .json")
    parser.add_argument("--brief", action="store_true", help="seconds where it may be a minute")
    parser.add_argument("--keep", action="store_true", help="keep the folders of runs that failed")
    parser.add_argument("--list", action="store_true", help="show the kinds, and run nothing")
    given = parser.parse_args(arguments)
    names = given.kinds.split(",") if given.kinds else list(KINDS)
    unknown = sorted(set(names) - KINDS.keys())
    if unknown:
        parser.error(f"unknown kinds {unknown}; valid: {', '.join(KINDS)}")
    if given.list:
        for name in names:
            print(f"{name:28} {KINDS[name].about}")
        return 0
    # Runs end what they began, and put back what they changed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="tf"))
    print(f"{given.runs} runs in {folder}", flush=True)
    runs = Runs(folder, brief=given.brief, keep=given.keep)
    results = list(_all(runs, names, given.runs, given.seed, given.jobs))
    print(table(results))
    for file in given.out:
        if file.suffix == ".json":
            text = json.dumps([result.to_json() for result in results], indent=1) + "\n"
        else:
            text = _within(file, table(results))
        file.write_text(text)
    failed = any(result.failures for result in results)
    if not (given.keep and failed):
        runs.close()
    return int(failed)


def _all(runs: Runs, names: list[str], wanted: int, seed: int, jobs: int) -> Iterator[Result]:
    """Runs of all kinds in turn, until so many have hit; kinds that aren't available are left out
    after the first, and one that misses is made again with another seed, three times at most.
    """
    seeds = count(seed * 100_000)
    left = list(names)
    hits = 0

    def one(name: str) -> list[Result]:
        made: list[Result] = []
        while len(made) < 3 and (not made or made[-1].outcome == "missed"):
            made.append(runs.make(name, next(seeds)))
            print(made[-1].line(), flush=True)
        return made

    with ThreadPoolExecutor(jobs) as pool:
        each = map if jobs == 1 else pool.map
        while hits < wanted and left:
            for made in each(one, left[: wanted - hits]):
                yield from made
                hits += made[-1].outcome in ("well", "failed")
                if made[-1].outcome == "unavailable":
                    left.remove(made[-1].kind)


def _within(page: Path, text: str) -> str:
    """The page with the text between its marks, or the text alone where it has none."""
    before = page.read_text() if page.exists() else ""
    start, end = MARKS
    if start not in before or end not in before:
        return text
    head, _, rest = before.partition(start)
    return f"{head}{start}\n\n{text}\n{end}{rest.partition(end)[2]}"


def table(results: list[Result]) -> str:
    """The results by kind, in Markdown."""
    head = ["kind", "what it does", "runs", *SORTS, "resumes", "median s", "most s"]
    lines = [" | ".join(["", *head, ""]).strip(), "|" + "---|" * len(head)]
    hit = [result for result in results if result.outcome in ("well", "failed")]
    for name in [*dict.fromkeys(result.kind for result in results), ""]:
        own = [result for result in hit if name in ("", result.kind)]
        if not own:
            missing = [result for result in results if result.kind == name]
            lines.append(f"| {name} | {missing[0].outcome}: {missing[0].note} |" + " |" * 8)
            continue
        times = [result.recovered for result in own if result.recovered is not None]
        cells = [
            name or "all",
            KINDS[name].about if name else "",
            len(own),
            *(sum(result.count(sort) for result in own) for sort in SORTS),
            sum(result.resumes for result in own),
            f"{statistics.median(times):.1f}" if times else "",
            f"{max(times):.1f}" if times else "",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    missed = sum(result.outcome == "missed" for result in results)
    return "\n".join(lines) + f"\n\n{missed} more came too late to do anything.\n"


if __name__ == "__main__":
    sys.exit(main())
