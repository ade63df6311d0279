"""Which checkpoints a series has, in what order, and what is known of the steps between them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trace_core.checkpoints.opened import PICKLED, SAFE, STEMS, Checkpoint, CheckpointError
from trace_core.statistics import FloatArray

_STEP_NAMES = ("checkpoint|ckpt|global_?step|step|iter(?:ation)?", "epoch")
"""What stands before a step in a name; the first kind that is there counts."""
_STEPS = [
    re.compile(rf"(?:{names})[-_=]?(\d{{1,15}})(?![0-9A-Za-z])", re.IGNORECASE)
    for names in _STEP_NAMES
]
STATE = "trainer_state.json"
"""What the Trainer of transformers keeps beside a checkpoint."""


@dataclass(frozen=True)
class Series:
    """K checkpoints, in order."""

    checkpoints: Sequence[Checkpoint]
    steps: tuple[int, ...]
    """Rising: the optimiser steps (or epochs) before each, or 0, 1, 2 ... if not `steps_known`."""
    steps_known: bool
    reordered: bool
    """Whether they were given in another order than that of their steps."""
    learning_rates: FloatArray
    """(K − 1,) of each interval: see `trace_core.checkpoints`."""

    @property
    def labels(self) -> list[str]:
        """What to call each: its path, without what all of them begin with."""
        parts = [checkpoint.path.parts for checkpoint in self.checkpoints]
        depth = 0
        while all(len(each) > depth + 1 and each[depth] == parts[0][depth] for each in parts):
            depth += 1
        return ["/".join(each[depth:]) for each in parts]


def open_series(paths: Sequence[Path]) -> Series:
    """The checkpoints at these paths, or in the one folder that is given, by their steps if these
    are known of all.

    Raises FileNotFoundError, and CheckpointError if there are fewer than two, or one of them can't
    be read.
    """
    searched = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
    if searched is not None:
        paths = _inside(searched)
    if len(paths) < 2:
        raise CheckpointError(
            f"{', '.join(map(str, paths)) or 'nothing'}: a series needs two checkpoints or more, "
            "or a folder with several in it"
        )
    checkpoints = [Checkpoint(path) for path in paths]
    found = [_step_of(checkpoint) for checkpoint in checkpoints]
    steps = [step for step in found if step is not None]
    if len(set(steps)) < len(paths):
        if searched is not None:
            raise CheckpointError(
                f"{searched}: {_unclear(paths, found)}, so that the order of its checkpoints isn't "
                "known; name them one by one, in their order"
            )
        return Series(checkpoints, tuple(range(len(paths))), False, False, np.ones(len(paths) - 1))
    order = sorted(range(len(paths)), key=steps.__getitem__)
    steps, checkpoints = sorted(steps), [checkpoints[i] for i in order]
    reordered = searched is None and order != sorted(order)
    rates = _learning_rates(checkpoints[-1].path, steps)
    return Series(checkpoints, tuple(steps), True, reordered, rates)


def _unclear(paths: Sequence[Path], steps: Sequence[int | None]) -> str:
    """Why checkpoints can't be put into order."""
    for i, step in enumerate(steps):
        if step is None:
            return f"nothing tells the step of {paths[i].name!r}"
        if step in steps[:i]:
            return (
                f"{paths[steps.index(step)].name!r} and {paths[i].name!r} are both of step {step}"
            )
    raise AssertionError


def _inside(folder: Path) -> list[Path]:
    """The checkpoints in a folder: ``checkpoint-*`` folders and the like, else files."""
    entries = sorted(folder.iterdir())
    folders = [each for each in entries if each.is_dir() and step_in(each.name) is not None]
    if folders:
        return folders
    files = [each for each in entries if each.suffix in (*SAFE, *PICKLED) and each.is_file()]
    if any(each.stem in STEMS for each in files):
        raise CheckpointError(f"{folder}: is one checkpoint; a series needs two or more")
    if not files:
        raise CheckpointError(
            f"{folder}: holds no checkpoints; expected folders such as checkpoint-500, or files "
            f"that end in {', '.join((*SAFE, *PICKLED))}"
        )
    return files


def step_in(name: str) -> int | None:
    """The step that a name tells: ``checkpoint-500``, ``epoch=3-step=300`` (300), ``500``."""
    found = next(filter(None, (pattern.search(name) for pattern in _STEPS)), None)
    if found is None:
        found = re.fullmatch(r"(\d{1,15})", name)
    return int(found[1]) if found else None


def _step_of(checkpoint: Checkpoint) -> int | None:
    """From its content, from what the trainer kept beside it, or from its name."""
    folder = _folder_of(checkpoint.path)
    told = checkpoint.extra.get("global_step", _state(folder).get("global_step"))
    if isinstance(told, int) and not isinstance(told, bool) and told >= 0:
        return told
    return step_in(checkpoint.path.stem if folder is None else folder.name)


def _folder_of(path: Path) -> Path | None:
    """The folder that is a checkpoint, None where a file among others is one."""
    if path.is_dir():
        return path
    return path.parent if Path(path.name.removesuffix(".index.json")).stem in STEMS else None


def _state(folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return {}
    try:
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _learning_rates(last: Path, steps: Sequence[int]) -> FloatArray:
    """Of each interval, from the last checkpoint's log: the sum over its steps, between what was
    logged in a straight line. Its number of steps if there is no usable log.
    """
    spans = np.diff(np.array(steps, np.float64))
    try:
        logged = dict(
            sorted(
                (float(entry["step"]), float(entry["learning_rate"]))
                for entry in _state(_folder_of(last)).get("log_history", [])
                if "learning_rate" in entry and "step" in entry
            )
        )
    except (TypeError, ValueError, AttributeError):
        return spans
    at, rates = np.array(list(logged)), np.array(list(logged.values()))
    if not len(at) or not np.isfinite([at, rates]).all():
        return spans
    ends = np.array(steps, np.float64)
    places = np.unique(np.concatenate([at, ends]))
    between = np.interp(places, at, rates)
    sums = np.concatenate([[0.0], np.cumsum(np.diff(places) * (between[:-1] + between[1:]) / 2)])
    found: FloatArray = np.diff(np.interp(ends, places, sums))
    return found if (found > 0).all() else spans
