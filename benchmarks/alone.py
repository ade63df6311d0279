"""The parts of a sweep each by itself, as floors of what grows in one: a Ray at rest, the study and
the scores in a process that only reads them, and one actor's process that trains again and again.

``python -m benchmarks.alone NAME ...`` is how each is measured in a process of its own.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import fresh
from benchmarks.processes import processes
from benchmarks.soaking import Soak, settings
from benchmarks.timing import markdown

RESTING_SECONDS = 150.0
"""How long a Ray at rest is looked at, after as long as `WARMING_SECONDS`."""
WARMING_SECONDS = 30.0
PLANTED_BYTES = 100_000
"""What a planted leak keeps of each training or trial, beside a descriptor."""

_REST = """
import sys, time
from sweeps.config_sections import ResourceSettings
from sweeps.execution.session import connected
with connected(None, 2, ResourceSettings()):
    from sweeps.execution import run
    print("ready", flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Floors:
    """KiB a minute by role, and threads and descriptors a minute, of a Ray at rest; KiB a trial of
    the study and the scores; per cent by which an actor's memory grows, and its table.
    """

    by_role: dict[str, float]
    per_minute: dict[str, float]
    study: float
    actor: dict[str, float]
    actor_table: str


def floors(found: Soak, folder: Path, trials: int, trainings: int) -> Floors:
    """All of them; ``found`` is the sweep whose study and scores are read."""
    by_role, per_minute = resting(RESTING_SECONDS)
    (folder / "study.journal").write_bytes(found.journal)
    (folder / "scores.npz").write_bytes(found.scores)
    held = fresh.run("benchmarks.alone", "study", str(folder))
    looks = fresh.run("benchmarks.alone", "actor", str(trainings))
    first, last = looks[len(looks) // 6], looks[-1]
    rows = [["trainings", "resident", "anonymous", "threads", "descriptors", "objects"]]
    for each in looks:
        sizes = [f"{each[kind] / 1024:.1f} MiB" for kind in ("rss", "anonymous")]
        counts = [f"{each[name]:,}" for name in ("threads", "descriptors", "objects")]
        rows.append([f"{each['trainings']:,}", *sizes, *counts])
    change = {kind: 100 * (last[kind] / first[kind] - 1) for kind in ("rss", "anonymous")}
    return Floors(by_role, per_minute, held / 1024 / trials, change, markdown(rows))


def resting(seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    """KiB a minute by which the processes of a Ray of ours grow that has nothing to do; and the
    threads and descriptors.
    """
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        subprocess.Popen(
            [sys.executable, "-c", _REST],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TMPDIR": folder},
            start_new_session=True,
        ) as ray,
    ):
        assert ray.stdout is not None
        assert ray.stdin is not None
        assert ray.stdout.readline()
        try:
            time.sleep(min(WARMING_SECONDS, seconds))
            before, begun = processes(ray.pid), time.monotonic()
            time.sleep(seconds)
            after, minutes = processes(ray.pid), (time.monotonic() - begun) / 60
        finally:
            ray.stdin.close()
    grown: Counter[str] = Counter()
    counts: Counter[str] = Counter(threads=0, descriptors=0)
    for each, sign in [(each, -1) for each in before] + [(each, 1) for each in after]:
        grown[each.role] += sign * each.anonymous
        counts["threads"] += sign * each.threads
        counts["descriptors"] += sign * each.descriptors
    return (
        {role: grown[role] / minutes for role in grown},
        {name: count / minutes for name, count in counts.items()},
    )


# ---- in a process of its own


def own() -> dict[str, int]:
    """Memory (KiB), threads, descriptors and live objects of this process."""
    gc.collect()
    (found,) = (each for each in processes(os.getpid()) if each.pid == os.getpid())
    figures = ("rss", "anonymous", "threads", "descriptors")
    objects = len(gc.get_objects()) + gc.get_freeze_count()
    return {name: getattr(found, name) for name in figures} | {"objects": objects}


def plant(kept: list[Any]) -> None:
    """Leak a little, so that one sees that it is found."""
    kept.append((bytearray(os.urandom(PLANTED_BYTES)), os.open(os.devnull, os.O_RDONLY)))


def study(folder: Path) -> int:
    """Bytes that reading a study and its scores takes, and nothing else."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from sweeps.config_sections import RankingSettings
    from sweeps.kept_scores import KeptScores
    from sweeps.run_directory import RunDirectory

    before = own()["anonymous"]
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    (study,) = storage.get_all_studies()
    count = len(storage.get_all_trials(study._study_id, deepcopy=False))
    scores = KeptScores(RunDirectory(folder), RankingSettings())
    assert count
    assert scores
    return 1024 * (own()["anonymous"] - before)


def _tiny(trials: int, replicates: int) -> dict[str, Any]:
    """A sweep of trainings that take next to no time."""
    given = settings(trials, "random", replicates)
    given["space"]["architecture"] = {"mlp": {"hidden": {"int": [2, 8]}, "depth": 1}}
    return given | {"task": "wine", "budget": {"epochs": 4, "batch_size": 64}}


def actor(trainings: int, planted: int | None = None, looks: int = 24) -> list[dict[str, int]]:
    """One actor's process after trainings, one after another, in groups of two replicates: those of
    the soak, or tiny ones where it leaks from the ``planted``-th on.
    """
    import torch

    from benchmarks.engines import trainings_of
    from sweeps.candidate import Training
    from sweeps.execution.actor import TuneTraining

    torch.set_num_threads(1)
    kept: list[Any] = []
    found = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "traces").mkdir()
        worker = None
        trials = trainings // 2
        every = trainings_of(settings(trials, "random", 2) if planted is None else _tiny(trials, 2))
        for number, text in enumerate(every, 1):
            candidate = Training.from_json(text).candidate
            both = [Training(candidate, seed) for seed in (0, 1)]
            config = {
                "run": folder,
                "import_path": [],
                "place": None,
                "limits": {"time": None, "memory": None},
                "trainings": [training.to_json() for training in both],
                "training_ids": [training.training_id for training in both],
                "trial": number,
                "reports": (),
            }
            if worker is None:
                worker = TuneTraining(config)
            else:
                worker.reset_config(config)
            while not worker.step()["ended"]:
                pass
            if planted is not None and 2 * number >= planted:
                plant(kept)
            for file in Path(folder, "traces").iterdir():
                file.unlink()
            if number % max(1, len(every) // looks) == 0:
                found.append({"trainings": 2 * number, **own()})
    return found


def driver(trials: int, planted: int | None = None, looks: int = 10) -> list[dict[str, int]]:
    """A driver's process after trials of a tiny sweep; from the ``planted``-th on it leaks."""
    from sweeps.config import SweepConfig
    from sweeps.sweep import create, drive

    kept: list[Any] = []
    found: list[dict[str, int]] = []

    def look(progress: Any) -> None:
        done = progress.done
        if planted is not None and done >= planted and len(kept) <= done - planted:
            plant(kept)
        if done * looks // trials > len(found):
            found.append({"trials": done, **own()})

    config = SweepConfig.from_dict(_tiny(trials, 1))
    with tempfile.TemporaryDirectory() as folder:
        run = create(config, Path(folder) / "run", [])
        drive(run, config, workers=2, import_path=[], on_progress=look)
    return found


WAYS: dict[str, Callable[..., Any]] = {
    "study": lambda folder: study(Path(folder)),
    "actor": lambda *numbers: actor(*map(int, numbers)),
    "driver": lambda *numbers: driver(*map(int, numbers)),
}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        answer = WAYS[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(answer))
