"""The sweeps that violence is done to: small, real, with trainings of some tenths of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

EARLIER = Path(__file__).with_name("earlier_version.tar.xz")
"""A run directory as the commit c44658b wrote it: `earlier`, stopped by SIGTERM after 4 of its 8
trials, with nine trainings that have ended and the checkpoint of a tenth. The folders of modules in
its ``environment.json`` were replaced.
"""


def plain(**changes: Any) -> dict[str, Any]:
    """MLPs on wine, two replicates, fourteen trials, of which the sampler models the last four."""
    return {
        "name": "faults",
        "task": "wine",
        "budget": {"epochs": 80, "batch_size": 16},
        "replicates": 2,
        "trials": 14,
        "space": {
            "architecture": {"mlp": {"hidden": [4, 8, 16, 32], "depth": [1, 2]}},
            "init": ["default", "orthogonal"],
            "alpha": {"float": [0.0, 1.0]},
            "learning_rate": {"float": [0.03, 0.5], "log": True},
        },
        "sampler": {"name": "tpe", "seed": 5},
    } | changes


def together() -> dict[str, Any]:
    """Three replicates, which take their steps as one, for some seconds: long enough for their
    checkpoints.
    """
    budget = {"epochs": 400, "batch_size": 16}
    return plain(replicates=3, trials=5, budget=budget)


def pruned() -> dict[str, Any]:
    """Some of the trials are stopped early, by what the others came to."""
    pruner = {"name": "median", "grace": 10, "startup": 2}
    return plain(pruner=pruner, trials=12)


def replayed() -> dict[str, Any]:
    """Few models, which come again and again: most trials are answered without a training."""
    space = plain()["space"] | {"learning_rate": [0.1, 0.3]}
    space["architecture"] = {"mlp": {"hidden": [4, 8], "depth": 1}}
    return plain(space=space, trials=30, sampler={"name": "random", "seed": 3})


def breaking(**changes: Any) -> dict[str, Any]:
    """A user's models, of which every third does some harm where `breaking_models.HOW` says so.

    The points are fixed: those that are left don't follow from what became of the broken ones.
    """
    name = "breaking_models:build"
    space = {
        "architecture": {name: {"width": [4, 6, 8, 10, 12, 14, 16, 18, 20], "bad": [False, True]}},
        "init": "default",
        "alpha": {"float": [0.0, 1.0]},
        "learning_rate": {"float": [0.05, 0.3]},
    }
    first = [
        {"architecture": name, f"{name}.width": 4 + 2 * number, f"{name}.bad": number % 3 == 1}
        for number in range(9)
    ]
    sampler = {"name": "random", "seed": 1}
    budget = {"epochs": 40, "batch_size": 16}
    return plain(space=space, first=first, trials=9, sampler=sampler, budget=budget) | changes


def breaking_together(**changes: Any) -> dict[str, Any]:
    """The same with three replicates, which are trained as one where they may be."""
    return breaking(replicates=3, trials=6, first=breaking()["first"][:6], **changes)


def earlier() -> dict[str, Any]:
    """What `EARLIER` is the half of. In float64: its figures were computed elsewhere, and differ in
    their last digits.
    """
    space = {
        "architecture": {"mlp": {"hidden": [4, 8, 12], "depth": 1}},
        "init": ["default", "orthogonal"],
        "alpha": {"float": [0.0, 1.0]},
        "learning_rate": {"float": [0.05, 0.5], "log": True},
    }
    return plain(
        name="earlier",
        budget={"epochs": 150, "batch_size": 32},
        trials=8,
        space=space,
        sampler={"name": "tpe", "seed": 11},
        tracer={"every": 5, "histograms": 8},
        dtype="float64",
        workers=1,
    )


SWEEPS: dict[str, Any] = {
    each.__name__: each
    for each in (plain, together, pruned, replayed, breaking, breaking_together, earlier)
}
