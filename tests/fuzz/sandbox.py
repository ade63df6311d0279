"""Folders for fuzzing: one with the data and checkpoints that configurations name, which nothing
may write to, and places for what a case makes.
"""

from __future__ import annotations

import csv
import functools
import os
import shutil
import tempfile
from pathlib import Path

import tiny_checkpoints as tiny

WORDS = ("good", "bad", "fine", "awful", "great", "dull")


@functools.cache
def root() -> Path:
    """A temporary folder for all of a process's fuzzing; `clear` removes it."""
    return Path(tempfile.mkdtemp(prefix="tracerank-fuzz-"))


def clear() -> None:
    if root.cache_info().currsize:
        shutil.rmtree(root(), ignore_errors=True)
        root.cache_clear()
        data.cache_clear()


def scratch(name: str) -> Path:
    """An empty folder, for one case after the other."""
    path = root() / "scratch" / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


@functools.cache
def data() -> Path:
    """The folder with what configurations name; it becomes the current one."""
    path = root() / "data"
    path.mkdir()
    _tables(path)
    _images(path / "images")
    tiny.bert(path / "bert")
    tiny.gpt2(path / "gpt2")
    tiny.vit(path / "vit")
    tiny.saved(tiny.Convolutions(), path / "weights.pt")
    (path / "empty").mkdir()
    (path / "broken").mkdir()
    (path / "broken" / "config.json").write_text('{"model_type": "bert"')
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRACERANK_CACHE"] = str(root() / "cache")
    os.chdir(path)
    return path


def _tables(path: Path) -> None:
    with (path / "reviews.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([[f"{WORDS[i % 6]} film {i}", "ab"[i % 2]] for i in range(60)])
    (path / "long.txt").write_text("\n\n".join(f"a {word} film, " * 20 for word in WORDS * 3))


def _images(path: Path) -> None:
    from PIL import Image

    for number in range(24):
        folder = path / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (number * 9, 50, 100)).save(folder / f"{number}.png")
