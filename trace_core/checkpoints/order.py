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

_STEP = re.compile(r"(?:checkpoint|ckpt|global_?step|step|iter(?:ation)?|epoch)[-_=]?(\d+)", re.I)
_FOLDER = re.compile(r"(?:checkpoint|ckpt|global_?step|step|iter|epoch)[-_=]?\d+", re.I)
STATE = "trainer_state.json"
"""What the Trainer of transformers keeps beside a checkpoint."""


@dataclass(frozen=True)
class Series:
    """K checkpoints, in order."""

    checkpoints: Sequence[Checkpoint]
    steps: tuple[int, ...]
    """Rising: the optimiser steps before each, or 0, 1, 2 ... where they aren't known."""
    known: bool
    """Whether they are."""
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
    given = len(paths) > 1
    if len(paths) == 1 and paths[0].is_dir():
        paths = _inside(paths[0])
    if len(paths) < 2:
        raise CheckpointError(
            f"{', '.join(map(str, paths)) or 'nothing'}: a series needs two checkpoints or more, "
            "or a folder with several in it"
        )
    checkpoints = [Checkpoint(path) for path in paths]
    found = [_step_of(checkpoint) for checkpoint in checkpoints]
    steps = [step for step in found if step is not None]
    if len(steps) < len(paths) or len(set(steps)) < len(paths):
        count = len(paths)
        return Series(checkpoints, tuple(range(count)), False, False, np.ones(count - 1))
    order = sorted(range(len(paths)), key=steps.__getitem__)
    steps = sorted(steps)
    checkpoints = [checkpoints[i] for i in order]
    rates = _learning_rates(checkpoints[-1].path, steps)
    return Series(checkpoints, tuple(steps), True, given and order != sorted(order), rates)


def _inside(folder: Path) -> list[Path]:
    """The checkpoints in a folder: ``checkpoint-*`` folders and the like, else files."""
    entries = sorted(folder.iterdir())
    folders = [each for each in entries if each.is_dir() and _FOLDER.search(each.name)]
    if folders:
        return folders
    files = [each for each in entries if each.suffix in (*SAFE, *PICKLED) and each.is_file()]
    if not files:
        raise CheckpointError(
            f"{folder}: holds no checkpoints; expected folders such as checkpoint-500, or files "
            f"that end in {', '.join((*SAFE, *PICKLED))}"
        )
    return files


def _step_of(checkpoint: Checkpoint) -> int | None:
    """From its content, from what the trainer kept beside it, or from its name."""
    folder = _folder_of(checkpoint.path)
    told = checkpoint.extra.get("global_step", _state(folder).get("global_step"))
    if isinstance(told, int) and not isinstance(told, bool) and told >= 0:
        return told
    name = checkpoint.path.stem if folder is None else folder.name
    match = _STEP.search(name) or re.fullmatch(r"(\d+)", name)
    return int(match[1]) if match and len(match[1]) < 16 else None


def _folder_of(path: Path) -> Path | None:
    """The folder that is a checkpoint, None where a file among others is one."""
    if path.is_dir():
        return path
    return path.parent if path.name.split(".")[0] in STEMS else None


def _state(folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return {}
    try:
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _learning_rates(last: Path, steps: Sequence[int]) -> FloatArray:
    """Of each interval, from the last checkpoint's log; its number of steps if it has none.

    What was logged at a step is taken for all steps since the one logged before.
    """
    spans = np.diff(np.array(steps, np.float64))
    try:
        logged = sorted(
            (int(entry["step"]), float(entry["learning_rate"]))
            for entry in _state(_folder_of(last)).get("log_history", [])
            if "learning_rate" in entry and "step" in entry
        )
    except (TypeError, ValueError, AttributeError):
        return spans
    if not logged or not all(np.isfinite(rate) for _, rate in logged):
        return spans
    at = np.array([0.0, *(step for step, _ in logged)])
    sums = np.concatenate([[0.0], np.cumsum(np.diff(at) * [rate for _, rate in logged])])
    found: FloatArray = np.diff(np.interp(steps, at, sums))
    return found if (found > 0).all() else spans
