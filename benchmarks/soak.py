"""What grows in a sweep of thousands of trials: ``make soak`` (up to half an hour), by this module.

Everything is read from outside, from what the system tells of the processes, while a real sweep
goes on that somebody watches in the review server. Beside each figure stands a floor: the same
process without a sweep, or what has to be held.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from scipy.stats import theilslopes

from benchmarks import alone, machine, soak_chart
from benchmarks.soaking import Look, Soak, settings, soak
from benchmarks.timing import duration, markdown

RESULTS = Path(__file__).with_name("results")
TRIALS, ACTOR_TRAININGS = 3_000, 4_000
WORKER_AIM, DRIVER_AIM = 5.0, 15.0
"""Per cent between both ends, and KB a trial."""
FLAT = 1.0
"""Threads or descriptors that may come or go in 1,000 trials."""
SETTLED = 1 / 6
"""The share of the trials after which growth is looked at: 500 of 3,000."""
ENDS = 1 / 15
"""The share of the trials of which a level is the median: 200 of 3,000."""
KINDS = (("rss", "resident"), ("anonymous", "anonymous"))
"""Of memory, as `Process` and as the tables name them."""
ROWS = 150
"""Of the series that is kept."""


@dataclass(frozen=True)
class Level:
    """A figure after the settled trials and at the end, and its robust slope per trial between."""

    first: float
    last: float
    slope: float

    @property
    def change(self) -> float:
        """Per cent."""
        return 100 * (self.last / self.first - 1) if self.first else 0.0


def level(looks: Sequence[Look], trials: int, figure: Callable[[Look], float]) -> Level:
    """The figure's level after `SETTLED` of ``trials``, and how it goes on from there."""
    settled = [look for look in looks if look.trials >= SETTLED * trials]
    at = [look.trials for look in settled]
    found = [figure(look) for look in settled]
    ends = ENDS * trials
    first = [value for value, trial in zip(found, at, strict=True) if trial <= at[0] + ends]
    last = [value for value, trial in zip(found, at, strict=True) if trial >= at[-1] - ends]
    slope = theilslopes(found, at).slope if len(set(at)) > 1 else 0.0
    return Level(median(first), median(last), float(slope))


def roles(looks: Iterable[Look]) -> list[str]:
    """All roles there are, in the order of their first process."""
    return list(dict.fromkeys(each.role for look in looks for each in look.processes))


def of_role(role: str, figure: str) -> Callable[[Look], float]:
    """The sum of a figure over the processes of a role; of workers the mean of each."""

    def found(look: Look) -> float:
        values = [getattr(each, figure) for each in look.processes if each.role == role]
        return float(np.mean(values) if role == "worker" and values else sum(values))

    return found


def of_all(figure: str) -> Callable[[Look], float]:
    """The sum of a figure over the sweep's own processes."""
    return lambda look: sum(getattr(each, figure) for each in look.processes if _own(each.role))


def _own(role: str) -> bool:
    return role != "review"


def aims(found: Soak, trials: int, floors: alone.Floors) -> str:
    """What was to be reached, and what was."""
    looks = found.looks

    def between(figure: Callable[[Look], float]) -> Level:
        return level(looks, trials, figure)

    rows = [["figure", f"after trial {SETTLED * trials:,.0f}", f"after trial {trials:,}"]]
    rows[0] += ["change", "aim", "floor"]
    for kind, name in KINDS:
        worker = between(of_role("worker", kind))
        cells = [f"a worker's memory, {name}", _mib(worker.first), _mib(worker.last)]
        floor = f"{floors.actor[kind]:+.1f}% in an actor alone"
        rows.append([*cells, f"{worker.change:+.1f}%", f"within {WORKER_AIM:.0f}%", floor])
    for kind, name in KINDS:
        driver = between(of_role("driver", kind))
        cells = [f"the driver's memory, {name}", _mib(driver.first), _mib(driver.last)]
        change = f"{_kb(driver.slope):.1f} KB a trial"
        floor = f"{_kb(floors.study):.1f} KB: the study and the scores"
        rows.append([*cells, change, f"within {DRIVER_AIM:.0f} KB", floor])
    for kind in ("threads", "descriptors"):
        every = between(of_all(kind))
        cells = [f"{kind}, all processes", f"{every.first:.0f}", f"{every.last:.0f}"]
        change = f"{1000 * every.slope:+.1f} in 1,000 trials"
        floor = f"{floors.per_minute[kind]:+.1f} a minute in a Ray at rest"
        rows.append([*cells, change, "flat", floor])
    store = between(lambda look: look.store)
    cells = ["/dev/shm, the sweep's object store", _size(store.first), _size(store.last)]
    rows.append([*cells, f"{store.slope:+.1f} bytes a trial", "flat", "0"])
    return markdown(rows)


def by_role(found: Soak, trials: int, floors: alone.Floors) -> str:
    """The same of every kind of process."""
    rows = [["process", "how many", "resident", "anonymous", "grows by", "in a Ray at rest"]]
    rows[0] += ["threads", "descriptors"]
    minutes = (found.looks[-1].seconds - found.looks[0].seconds) / 60
    for role in roles(found.looks):
        every = {
            kind: level(found.looks, trials, of_role(role, kind))
            for kind in ("rss", "anonymous", "threads", "descriptors")
        }
        if not every["rss"].last:
            continue
        pids = {each.pid for look in found.looks for each in look.processes if each.role == role}
        idle = floors.by_role.get(role)
        rows.append(
            [
                *(role, str(len(pids))),
                *(f"{_mib(every[kind].first)} → {_mib(every[kind].last)}" for kind, _ in KINDS),
                f"{_kb(every['anonymous'].slope):+.1f} KB a trial",
                "" if idle is None else f"{_kb(idle * minutes / trials):+.1f} KB in a trial's time",
                *(
                    f"{every[kind].first:.0f} → {every[kind].last:.0f}"
                    for kind in ("threads", "descriptors")
                ),
            ]
        )
    return markdown(rows)


def on_disk(found: Soak, trials: int) -> str:
    """What is written besides, and what a trial takes."""
    rows = [["folder", "at the end", "grows by", "files a trial"]]
    looks = [look for look in found.looks if look.disk]
    for name in looks[-1].disk:
        size = level(looks, trials, lambda look, name=name: look.disk[name][0])
        files = level(looks, trials, lambda look, name=name: look.disk[name][1])
        cells = [name, _size(looks[-1].disk[name][0]), f"{size.slope / 1000:.2f} KB a trial"]
        rows.append([*cells, f"{files.slope:.2f}"])
    return markdown(rows)


def pace(found: Soak, trials: int) -> str:
    """Whether trials take longer, the more there were."""
    rows = [["trials", "a trial takes of the sweep's time", "its trainings, median"]]
    fifth = trials // 5
    for start in range(0, trials - fifth + 1, fifth):
        # The first has Ray's start before it.
        own = [each for each in found.looks if max(1, start) <= each.trials <= start + fifth]
        times, counts = [each.seconds for each in own], [each.trials for each in own]
        inside = [each for trial, each in found.trainings if start <= trial < start + fifth]
        if len(set(counts)) > 1 and inside:
            took = (times[-1] - times[0]) / (counts[-1] - counts[0])
            rows.append([f"{start:,} to {start + fifth:,}", duration(took)])
            rows[-1].append(duration(median(inside)))
    return markdown(rows)


def series(found: Soak) -> str:
    """The looks as CSV, thinned: KiB, counts and bytes."""
    names = [role for role in roles(found.looks) if role != "worker"]
    workers = list(
        dict.fromkeys(
            each.pid for look in found.looks for each in look.processes if each.role == "worker"
        )
    )
    head = ["seconds", "trials", *(f"worker {n + 1}" for n in range(len(workers))), *names]
    lines = [",".join([*head, "threads", "descriptors", "object store"])]
    step = max(1, len(found.looks) // ROWS)
    for look in found.looks[::step]:
        own = {each.pid: each.rss for each in look.processes if each.role == "worker"}
        cells = [f"{look.seconds:.0f}", str(look.trials)]
        cells += [str(own.get(pid, "")) for pid in workers]
        cells += [f"{of_role(role, 'rss')(look):.0f}" for role in names]
        cells += [f"{of_all(kind)(look):.0f}" for kind in ("threads", "descriptors")]
        lines.append(",".join([*cells, str(look.store)]))
    return "\n".join(lines) + "\n"


def _kb(kibibytes: float) -> float:
    return kibibytes * 1.024


def _mib(kibibytes: float) -> str:
    return f"{kibibytes / 1024:.1f} MiB"


def _size(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} KB"


def written(found: Soak, floors: alone.Floors, given: argparse.Namespace, facts: str) -> str:
    """The file of results."""
    display = "drawn on a terminal" if given.terminal else "`--json`"
    return (
        "# What grows in a sweep of thousands of trials\n\n"
        "Written by `make soak`; `benchmarks/README.md` says how to read it.\n\n"
        f"{facts}, when it ended {machine.load():.1f}.\n\n"
        f"{given.trials:,} trials by the sampler {given.sampler}, {given.replicates} replicates, "
        f"2 workers, {display}, watched in the review server.\n\n"
        f"## Against the aims\n\n{aims(found, given.trials, floors)}\n\n"
        f"## By process\n\n{by_role(found, given.trials, floors)}\n\n"
        f"## On disk\n\n{on_disk(found, given.trials)}\n\n"
        f"## Pace\n\n{pace(found, given.trials)}\n\n"
        f"## One actor's process\n\n{floors.actor_table}\n"
    )


def main(given: argparse.Namespace) -> None:
    """Soak, and write what came of it."""
    load = machine.facts()
    config = settings(given.trials, given.sampler, given.replicates)
    with contextlib.ExitStack() as stack:
        # As they come, so that those of a sweep that breaks are there as well.
        looks = stack.enter_context(given.looks.open("w", buffering=1)) if given.looks else None
        found = soak(
            config,
            terminal=given.terminal,
            keep=lambda look: looks and looks.write(json.dumps(asdict(look)) + "\n"),
        )
    with tempfile.TemporaryDirectory() as folder:
        floors = alone.floors(found, Path(folder), given.trials, given.trainings)
    text = written(found, floors, given, load)
    given.results.mkdir(exist_ok=True)
    (given.results / "soak.md").write_text(text)
    (given.results / "soak.csv").write_text(series(found))
    (given.results / "soak.svg").write_text(soak_chart.chart(found))
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--sampler", default="random", choices=("random", "tpe"))
    parser.add_argument("--replicates", type=int, default=2)
    parser.add_argument("--trainings", type=int, default=ACTOR_TRAININGS, help="in one actor alone")
    parser.add_argument("--terminal", action="store_true", help="draw the progress on a terminal")
    parser.add_argument("--looks", type=Path, help="keep all looks in this file")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write to")
    main(parser.parse_args())
