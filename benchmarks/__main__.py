"""Run the benchmarks, print their tables, and keep them: ``python -m benchmarks [name ...]``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    checkpoints,
    cluster,
    engines,
    growth,
    machine,
    memory,
    overhead,
    pass_cost,
    polling,
    replays,
    report,
    start,
    together,
)

RESULTS = Path(__file__).with_name("results")
BENCHMARKS: dict[str, tuple[str, Callable[[], str]]] = {
    "overhead": ("A training step, as a multiple of the plain step", overhead.table),
    "pass_cost": ("One pass over N parameters against the memory's floor", pass_cost.table),
    "memory": ("Memory beside the training's own", memory.table),
    "start": ("Before the first traced step", start.table),
    "checkpoints": ("A series of saved checkpoints", checkpoints.table),
    "engines": ("A sweep beside its trainings, and beside other engines", engines.table),
    "replays": ("Trials that cost no training, against Optuna alone", replays.table),
    "growth": ("What grows with a sweep", growth.table),
    "together": ("Replicates as one, as a multiple of one alone", together.table),
    "report": ("The report of 10,000 models × 100 observations", report.table),
    "cluster": ("A sweep in a cluster, beside the same on one machine", cluster.table),
    "polling": ("A running sweep that many people watch", polling.table),
}
FILES = {
    "checkpoints.md": ("What scoring saved checkpoints takes", ("checkpoints",)),
    "tracer.md": ("What the tracer costs", ("overhead", "pass_cost", "memory", "start")),
    "sweep.md": (
        "What a sweep costs beside its trainings",
        ("engines", "replays", "growth", "together"),
    ),
    "report.md": ("What a very large sweep's report takes", ("report",)),
    "cluster.md": ("What a sweep costs as a job in a cluster", ("cluster",)),
    "review.md": ("What the review server takes", ("polling",)),
}


def main(names: list[str], results: Path) -> None:
    """Run the named benchmarks, and write each file of results all of whose parts were run."""
    facts = machine.facts()
    print(facts, flush=True)
    sections: dict[str, str] = {}
    for name in names:
        title, table = BENCHMARKS[name]
        sections[name] = f"## {title}\n\n{table()}\n"
        print(f"\n{sections[name]}", end="", flush=True)
    for file, (title, parts) in FILES.items():
        if all(part in sections for part in parts):
            head = (
                f"# {title}\n\nWritten by `make bench`; `benchmarks/README.md` says how to read it."
            )
            body = "\n".join(sections[part] for part in parts)
            results.mkdir(exist_ok=True)
            (results / file).write_text(f"{head}\n\n{facts}.\n\n{body}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    chosen = parser.parse_args().names or list(BENCHMARKS)
    for unknown in set(chosen) - set(BENCHMARKS):
        parser.error(f"no benchmark {unknown!r}; there are {', '.join(BENCHMARKS)}")
    main(chosen, RESULTS)
