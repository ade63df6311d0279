"""Which checkpoints a series has, in what order, and what is known of the steps between them."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trace_core.checkpoints.opened import PICKLED, SAFE, STEMS, Checkpoint, CheckpointError
from trace_core.statistics import FloatArray

_NUMBER = r"(\d{1,15}(?:\.\d{1,9})?)"
_END = r"(?![0-9A-Za-z]|\.\d)"
_STEPS = [
    re.compile(pattern.format(number=_NUMBER, end=_END), re.IGNORECASE)
    for pattern in (
        r"(?:global_?step|step|iter(?:ation)?)[-_=]?{number}((?-i:[kKMB])?){end}",
        # checkpoint-7B and the like are sizes of models.
        r"(?:checkpoint|ckpt)[-_=]?{number}([kK]?){end}",
        r"epoch[-_=]?{number}(){end}",
        r"(?<![0-9A-Za-z.]){number}((?-i:[kKMBT]))[-_ ]?tokens{end}",
        r"tokens[-_=]?{number}((?-i:[kKMBT])?){end}",
    )
]
"""What a step looks like in a name, a number and what it is in; the first kind that is there
counts.
"""
_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_MOST = 2**63
"""Steps are kept in 64 bits: what is as large is none."""
STATE = "trainer_state.json"
"""What the Trainer of transformers keeps beside a checkpoint."""


@dataclass(frozen=True)
class Series:
    """K checkpoints, in order."""

    checkpoints: Sequence[Checkpoint]
    steps: tuple[int, ...]
    """Rising: the optimiser steps (or epochs, or tokens) before each, or 0, 1, 2 ... if not
    `steps_known`.
    """
    steps_known: bool
    reordered: bool
    """Whether they were given in another order than that of their steps."""
    learning_rates: FloatArray
    """(K − 1,) of each interval: see `trace_core.checkpoints`."""
    rates_known: bool
    """Whether the series tells them; else they are the numbers of steps."""

    @property
    def labels(self) -> list[str]:
        """What to call each: its path, without what all of them begin with."""
        parts = [_absolute(checkpoint.path).parts for checkpoint in self.checkpoints]
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
        ones = np.ones(len(paths) - 1)
        return Series(checkpoints, tuple(range(len(paths))), False, False, ones, False)
    order = sorted(range(len(paths)), key=steps.__getitem__)
    steps, checkpoints = sorted(steps), [checkpoints[i] for i in order]
    reordered = searched is None and order != sorted(order)
    rates = _learning_rates(checkpoints[-1].path, steps)
    # As whole numbers: large ones next to each other are the same float.
    spans = np.array([after - before for before, after in itertools.pairwise(steps)], np.float64)
    return Series(
        checkpoints,
        tuple(steps),
        True,
        reordered,
        spans if rates is None else rates,
        rates is not None,
    )


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
    """The step that a name tells: ``checkpoint-500``, ``epoch=3-step=300`` (300), ``step-1.5k``,
    ``500``; or the number of tokens, ``2B-tokens``. None if it tells none, or more than one.
    """
    for pattern in _STEPS:
        if found := {_whole(*each) for each in pattern.findall(name)}:
            return found.pop() if len(found) == 1 else None
    return _whole(name, "") if re.fullmatch(r"[0-9]{1,15}", name) else None


def _whole(number: str, unit: str) -> int | None:
    """So many thousands and the like, None unless that is a whole number of steps."""
    before, _, after = number.partition(".")
    steps, rest = divmod(int(before + after) * _UNITS[unit], 10 ** len(after))
    return None if rest or steps >= _MOST or (after and not unit) else steps


def _step_of(checkpoint: Checkpoint) -> int | None:
    """From its content, from what the trainer kept beside it, or from its name."""
    folder = _folder_of(checkpoint.path)
    told = checkpoint.extra.get("global_step", _state(folder).get("global_step"))
    if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < _MOST:
        return told
    return step_in(checkpoint.path.stem if folder is None else folder.name)


def _absolute(path: Path) -> Path:
    """With a name also where it was given as ``.`` or ``..``."""
    return Path(os.path.abspath(path))


def _folder_of(path: Path) -> Path | None:
    """The folder that is a checkpoint, None where a file among others is one."""
    path = _absolute(path)
    if path.is_dir():
        return path
    return path.parent if Path(path.name.removesuffix(".index.json")).stem in STEMS else None


def _state(folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return {}
    try:
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def _learning_rates(last: Path, steps: Sequence[int]) -> FloatArray | None:
    """Of each interval, from the last checkpoint's log: the sum over its steps, between what was
    logged in a straight line. None if there is no usable log.
    """
    try:
        logged = dict(
            sorted(
                (float(entry["step"]), float(entry["learning_rate"]))
                for entry in _state(_folder_of(last)).get("log_history", [])
                if "learning_rate" in entry and "step" in entry
            )
        )
    except (TypeError, ValueError, AttributeError, OverflowError):
        return None
    at, rates = np.array(list(logged)), np.array(list(logged.values()))
    if not len(at) or not np.isfinite([at, rates]).all():
        return None
    ends = np.array(steps, np.float64)
    places = np.unique(np.concatenate([at, ends]))
    between = np.interp(places, at, rates)
    sums = np.concatenate([[0.0], np.cumsum(np.diff(places) * (between[:-1] + between[1:]) / 2)])
    found: FloatArray = np.diff(np.interp(ends, places, sums))
    return found if (found > 0).all() else None
