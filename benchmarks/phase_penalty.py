"""The penalty of a change point: calibrated on some trainings, judged on others.

    python -m benchmarks.phase_penalty

A penalty is the least whole number at which the plain ones of the calibrating trainings have at
most two thirds of a false alarm each, which leaves room below one. Those that judge have other
seeds, and in five of seven pairs another architecture or task. Trainings that diverge are drawn
anew. A planted change is found if a change point lies within 5% of the run's length of it; every
other change point is a false alarm. Takes 30 minutes of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import ruptures

from benchmarks.planted_runs import FAINT, SCHEDULES, STEPS, Run, draw, plants_for, train
from trace_core.change_points import PENALTIES, block_costs, split
from trace_core.phases import log_rate, phases
from trace_core.statistics import FloatArray, IntArray
from trace_core.trace import Trace

CALIBRATING = (
    ("mlp", "digits"),
    ("gru", "digits"),
    ("mlp", "breast_cancer"),
    ("mlp", "diabetes"),
    ("transformer", "wine"),
)
JUDGING = (
    ("cnn", "digits"),
    ("transformer", "digits"),
    ("mlp", "wine"),
    ("transformer", "breast_cancer"),
    ("transformer", "diabetes"),
    ("gru", "digits"),
    ("mlp", "digits"),
)
RUNS = 140
FALSE_ALARMS = 2 / 3
CANDIDATES = range(4, 21)
NEAR = 0.05


@dataclass(frozen=True)
class Seen:
    """The series of one trace, (2, O), at these steps of a run, and the phases found in it."""

    run: Run
    steps: IntArray
    series: FloatArray
    phases: tuple[tuple[int, bool], ...]
    """Start of each phase but the first, and whether it is tagged as the schedule's."""

    @classmethod
    def of(cls, run: Run, trace: Trace) -> Seen:
        """What is kept of a trace."""
        series = np.stack([log_rate(trace), trace.explainability("gini")])
        found = tuple((phase.start, phase.schedule) for phase in phases(trace)[1:])
        return cls(run, trace.steps, series, found)


@dataclass(frozen=True)
class Job:
    """What to draw a run of."""

    architecture: str
    task: str
    kind: str
    """plain, planted, faint (planted at a quarter of the strength) or step (a tenfold fall of the
    learning rate).
    """
    steps: Sequence[int]
    seed: int

    def carry_out(self) -> tuple[Seen, list[Seen]]:
        """The model's series and its layers'."""
        generator = np.random.default_rng(self.seed)
        plants = {"planted": plants_for(self.task), "faint": FAINT}.get(self.kind, ())
        schedules = ("step",) if self.kind == "step" else SCHEDULES
        while True:
            run = draw(generator, self.architecture, self.task, plants, schedules, self.steps)
            run = replace(run, strength=0.25 if self.kind == "faint" else 1.0)
            trace = train(run)
            if np.isfinite(trace.change_rate("rms")).all():
                layers = trace.by_layer().values()
                return Seen.of(run, trace), [Seen.of(run, layer) for layer in layers]


@dataclass(frozen=True)
class Set:
    """Runs of some kind: of each of the pairs in turn."""

    pairs: tuple[tuple[str, str], ...]
    kind: str
    seed: int
    count: int = RUNS
    steps: Sequence[int] = STEPS

    def jobs(self) -> list[Job]:
        """Their jobs."""
        return [
            Job(*self.pairs[i % len(self.pairs)], self.kind, self.steps, 100_000 * self.seed + i)
            for i in range(self.count)
        ]


SETS = {
    "calibrating": Set(CALIBRATING, "plain", 11),
    "calibrating, planted": Set(CALIBRATING, "planted", 12),
    "plain": Set(JUDGING, "plain", 13),
    "planted": Set(JUDGING, "planted", 14),
    "faint": Set(JUDGING, "faint", 15, 42),
    "step": Set(JUDGING, "step", 16, 42),
    "short, plain": Set(JUDGING, "plain", 17, 42, (50, 100, 200)),
    "short, planted": Set(JUDGING, "planted", 18, 42, (50, 100, 200)),
    "long, plain": Set((("mlp", "wine"),), "plain", 19, 6, (20_000,)),
}


def found_at(seen: Seen) -> list[int]:
    """Steps of the change points."""
    size, telling, costs = block_costs(seen.series)
    if not telling:
        return []
    return seen.steps[size * split(costs, PENALTIES[telling - 1])].tolist()


def textbook(seen: Seen) -> list[int]:
    """Change points of the standardised series by squared error and the BIC's penalty."""
    known = seen.series[:, np.isfinite(seen.series).all(axis=0)]
    known = (known - known.mean(axis=1, keepdims=True)) / known.std(axis=1, keepdims=True)
    search = ruptures.Pelt("l2", min_size=max(2, known.shape[1] // 20), jump=1).fit(known.T)
    noise = sum(np.mean(np.diff(x) ** 2) / 2 for x in known)
    return search.predict(2 * np.log(known.shape[1]) * noise)[:-1]


def without_gini(seen: Seen) -> Seen:
    """The same, had no histogram been taken."""
    return replace(seen, series=seen.series[:1])


def calibration(seen: list[Seen]) -> str:
    """False alarms a plain run at each penalty, with one series and with two."""
    rows = ["| penalty | log(r/η) alone | with Gini |", "|---|---|---|"]
    costs = [[block_costs(s.series[:n])[2] for s in seen] for n in (1, 2)]
    alarms = [
        [float(np.mean([len(split(c, p)) for c in of_series])) for p in CANDIDATES]
        for of_series in costs
    ]
    for penalty, one, two in zip(CANDIDATES, *alarms, strict=True):
        rows.append(f"| {penalty} | {one:.2f} | {two:.2f} |")
    chosen = [
        next(p for p, a in zip(CANDIDATES, of_series, strict=True) if a <= FALSE_ALARMS)
        for of_series in alarms
    ]
    return "\n".join([*rows, "", f"chosen: {chosen[0]} and {chosen[1]}; in use: {PENALTIES}"])


HEAD = "| runs | number | found | false alarms a run | runs without |\n|---|---|---|---|---|"


def judged(name: str, seen: list[Seen], find: Callable[[Seen], list[int]] = found_at) -> str:
    """A row: how many planted changes were found, and how many change points were none."""
    hits, alarms = [], []
    for s in seen:
        near = [abs(at - s.run.at) <= NEAR * s.run.steps for at in find(s)]
        hits.append(bool(s.run.plant) and any(near))
        alarms.append(len(near) - hits[-1])
    none = np.mean(np.array(alarms) == 0)
    share = f"{sum(hits)} ({np.mean(hits):.0%})" if seen[0].run.plant else ""
    return f"| {name} | {len(seen)} | {share} | {np.mean(alarms):.2f} | {none:.0%} |"


def by(seen: list[Seen], of: Callable[[Run], str]) -> Iterable[tuple[str, list[Seen]]]:
    """Runs that are alike in something."""
    for value in sorted({of(s.run) for s in seen}):
        yield value, [s for s in seen if of(s.run) == value]


def histograms(run: Run) -> str:
    """How many a run has."""
    taken = -(-run.steps // (run.every * run.histogram_every))
    return "to 32" if taken <= 32 else "to 100" if taken <= 100 else "at every observation"


SPLITS: dict[str, Callable[[Run], str]] = {
    "": lambda run: f"{run.architecture}, {run.task}",
    "optimiser ": lambda run: run.optimiser,
    "schedule ": lambda run: run.schedule,
    "steps ": lambda run: f"{run.steps:4d}",
    "histograms ": histograms,
}


def split_up(name: str, seen: list[Seen]) -> list[str]:
    """A row for all, and rows by what the runs have."""
    rows = [judged(name, seen)]
    rows += [judged(f"{name}, {k}{v}", s) for k, of in SPLITS.items() for v, s in by(seen, of)]
    return [*rows, judged(f"{name}, log(r/η) alone", [without_gini(s) for s in seen])]


def steps_told(seen: list[Seen]) -> str:
    """How the changes of runs with a fall of the learning rate are tagged."""
    near = [
        (abs(at - s.run.at) <= NEAR * s.run.steps, schedule)
        for s in seen
        for at, schedule in s.phases
    ]
    beside = [tagged for close, tagged in near if close]
    apart = [tagged for close, tagged in near if not close]
    return (
        f"{len(seen)} runs whose learning rate falls tenfold: {len(beside)} changes within 5% of "
        f"it, {sum(beside)} tagged; {len(apart)} elsewhere, {sum(apart)} tagged"
    )


def table() -> str:
    """All tables, as Markdown."""
    models: dict[str, list[Seen]] = {}
    layers: dict[str, list[Seen]] = {}
    with ProcessPoolExecutor() as pool:
        for name, runs in SETS.items():
            done = list(pool.map(Job.carry_out, runs.jobs()))
            models[name] = [model for model, _ in done]
            layers[name] = [layer for _, of_model in done for layer in of_model]
    rows = [
        HEAD,
        judged("calibrating", models["calibrating"]),
        judged("calibrating, planted", models["calibrating, planted"]),
        *split_up("plain", models["plain"]),
        judged("plain, textbook (squared error, BIC)", models["plain"], textbook),
        *split_up("planted", models["planted"]),
        *[judged(f"planted, {v}", s) for v, s in by(models["planted"], lambda run: run.plant)],
        judged("layers of plain", layers["plain"]),
        judged("layers of planted", layers["planted"]),
        *[judged(f"faint, {v}", s) for v, s in by(models["faint"], lambda run: run.plant)],
        *[
            judged(f"{name}, {v} steps", s)
            for name in ("short, plain", "short, planted", "long, plain")
            for v, s in by(models[name], SPLITS["steps "])
        ],
    ]
    return "\n\n".join(
        [calibration(models["calibrating"]), "\n".join(rows), steps_told(models["step"])]
    )


if __name__ == "__main__":
    print(table())
