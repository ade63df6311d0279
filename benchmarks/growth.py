"""What grows with a sweep: the driver's memory with its trials, the run directory with its
trainings.

Memory is that of a process of its own that drives a real sweep from its first trial to its last.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import fresh
from benchmarks.timing import markdown

TRIALS = (1_000, 10_000)
"""The number of trials from which the memory's growth is counted, and to which."""

MEMORY_AIM, MLP_AIM, TRANSFORMER_AIM = 15, 150, 1000
"""KB a trial, and KB a training."""

MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "digits MLP 128 × 1": ({"mlp": {"hidden": 128, "depth": 1}}, MLP_AIM),
    "digits transformer 64 × 2": ({"transformer": {"width": 64, "depth": 2}}, TRANSFORMER_AIM),
}
"""The largest of their kind in the default sweep."""


def table(trials: tuple[int, int] = TRIALS, trainings: int = 4) -> str:
    """Both tables, as Markdown."""
    memory = [["trials", "driver's memory, from", "to", "growth a trial", "aim"]]
    for way, label in (("trained", "all trained"), ("replayed", "all but 20 replayed")):
        first, last = fresh.run("benchmarks.growth", way, *map(str, trials))
        each = (last - first) / (trials[1] - trials[0])
        memory.append(
            [
                f"{trials[0]:,} to {trials[1]:,}, {label}",
                f"{first / 2**20:.0f} MiB",
                f"{last / 2**20:.0f} MiB",
                f"{each / 1000:.1f} KB",
                f"≤ {MEMORY_AIM} KB",
            ]
        )
    disk = [["model, trained as the default sweep does", "run directory a training", "aim"]]
    for name, (architecture, aim) in MODELS.items():
        size = _run_directory(architecture, trainings) / trainings
        disk.append([name, f"{size / 1000:.1f} KB", f"≤ {aim} KB"])
    return f"{markdown(memory)}\n\n{markdown(disk)}"


def _settings(way: str, trials: int) -> dict[str, Any]:
    """A sweep of the smallest trainings, or one of twenty such models and α."""
    space: dict[str, Any] = (
        {
            "architecture": {"mlp": {"hidden": 4, "depth": 1}},
            "learning_rate": {"float": [0.01, 0.1]},
        }
        if way == "trained"
        else {
            "architecture": {"mlp": {"hidden": [2, 3, 4, 5], "depth": 1}},
            "init": ["default", "xavier_uniform", "kaiming_normal", "orthogonal", "small"],
            "alpha": {"float": [0.0, 1.0]},
        }
    )
    return {
        "name": "growth",
        "task": "wine",
        "budget": {"epochs": 4, "batch_size": 64},
        "replicates": 1,
        "trials": trials,
        "space": space,
        "sampler": {"name": "random"},
    }


def _memory(way: str, trials: tuple[int, int]) -> list[int]:
    """Bytes that this process holds at both numbers of trials."""
    from sweeps.conductor import Progress
    from sweeps.config import SweepConfig
    from sweeps.sweep import create, drive

    found: list[int] = []
    config = SweepConfig.from_dict(_settings(way, trials[1]))

    def look(progress: Progress) -> None:
        if len(found) < len(trials) and progress.done >= trials[len(found)]:
            found.append(_resident())

    with tempfile.TemporaryDirectory() as folder:
        run = create(config, Path(folder) / "run", [])
        drive(run, config, workers=2, import_path=[], on_progress=look)
    return found


def _run_directory(architecture: dict[str, Any], trainings: int) -> int:
    """Bytes of a run directory with so many trainings, all different."""
    from sweeps.config import SweepConfig, load_config
    from sweeps.sweep import create, drive

    given = load_config(Path(__file__).parent.parent / "examples" / "digits.yaml").resolved()
    given["space"] = {
        "architecture": architecture,
        "learning_rate": given["space"]["learning_rate"],
        "momentum": given["space"]["momentum"],
    }
    given |= {"replicates": 1, "trials": trainings, "sampler": {"name": "random"}}
    config = SweepConfig.from_dict(given)
    with tempfile.TemporaryDirectory() as folder:
        run = create(config, Path(folder) / "run", [])
        drive(run, config, workers=2, import_path=[])
        return sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps(_memory(sys.argv[1], (int(sys.argv[2]), int(sys.argv[3])))))
