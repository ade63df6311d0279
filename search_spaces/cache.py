"""Data that is prepared once and kept on disk: decoded images, texts as tokens."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from search_spaces.tasks.splits import PARTS
from search_spaces.tasks.task import Array, Part, Splits

VERSION = 1
"""Of the form in which an entry is kept."""


def cached(key: str, make: Callable[[], Splits]) -> Splits:
    """What ``make`` returns, from the disk where it was kept under this key.

    The key must tell all that the data follows from: the hash of the files, every setting, a
    version of the code. Arrays from the disk are mapped, not read: processes share their memory,
    and what is written to one stays with the writer. Kept are numbers only: Splits with an array of
    objects are made at every call. The folder is ``$TRACERANK_CACHE``, or ``tracerank`` in
    ``$XDG_CACHE_HOME`` or ``~/.cache``; it may be deleted at any time. Where it can't be written
    nothing is kept. An entry that is damaged is made anew. Raises what ``make`` raises.
    """
    folder = cache_folder()
    if folder is None:
        return make()
    entry = folder / hashlib.sha256(f"{VERSION}\0{key}".encode()).hexdigest()[:32]
    found = _load(entry, key)
    if found is not None:
        return found
    made = make()
    arrays = _arrays(made)
    if any(array.dtype.kind not in "biuf" for array in arrays.values()):
        return made
    try:
        _store(entry, key, made.target_scale, arrays)
    except OSError:
        return made
    return _load(entry, key) or made


def cache_folder() -> Path | None:
    """Where prepared data is kept; None where there is no home for it."""
    own = os.environ.get("TRACERANK_CACHE")
    if own:
        return Path(own).absolute()
    shared = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(shared) if shared else Path.home() / ".cache") / "tracerank"
    except RuntimeError:
        return None


def _arrays(splits: Splits) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for name in PARTS:
        part = getattr(splits, name)
        arrays |= {f"{name}_inputs": part.inputs, f"{name}_targets": part.targets}
    if splits.pixels is not None:
        arrays |= dict(zip(("pixels_mean", "pixels_deviation"), splits.pixels, strict=True))
    return arrays


def _store(entry: Path, key: str, target_scale: float, arrays: dict[str, Array]) -> None:
    """Write an entry aside and rename it into place, unless another process was first."""
    # What somebody trains on is nobody else's to read or change, whatever the umask.
    for folder in reversed((entry.parent, *entry.parent.parents)):
        folder.mkdir(0o700, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix="part-", dir=entry.parent))
    try:
        for name, array in arrays.items():
            with open(aside / f"{name}.npy", "wb", opener=_private) as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                # Else a machine that stops leaves files of the right name and no content.
                os.fsync(file.fileno())
        shapes = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
        described = {"key": key, "target_scale": target_scale, "arrays": shapes}
        with open(aside / "splits.json", "w", opener=_private) as text:
            text.write(json.dumps(described))
        if entry.exists() and _load(entry, key) is None:
            entry.rename(aside / "damaged")
        # A rename onto a folder that isn't empty fails: then another was first.
        with contextlib.suppress(OSError):
            aside.rename(entry)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(entry / "damaged", ignore_errors=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _load(entry: Path, key: str) -> Splits | None:
    """The entry, or None where there is none that is whole and this key's."""
    try:
        described = json.loads((entry / "splits.json").read_text())
        if described["key"] != key:
            return None
        arrays = {
            name: _map(entry / f"{name}.npy", dtype, shape)
            for name, (dtype, shape) in described["arrays"].items()
        }
        train, validation, test = (
            Part(arrays[f"{name}_inputs"], arrays[f"{name}_targets"]) for name in PARTS
        )
        pixels = None
        if "pixels_mean" in arrays:
            pixels = arrays["pixels_mean"], arrays["pixels_deviation"]
        return Splits(train, validation, test, float(described["target_scale"]), pixels)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _map(file: Path, dtype: str, shape: list[int]) -> Array:
    if 0 in shape:
        # There is nothing to map.
        return np.empty(shape, dtype)
    # Mapped for copying on write, since PyTorch warns of arrays that can't be written.
    mapped = np.lib.format.open_memmap(file, mode="c")
    if mapped.dtype.str != dtype or list(mapped.shape) != shape:
        raise ValueError(f"{file} is {mapped.dtype} {mapped.shape}")
    return np.asarray(mapped)
