"""Language modelling on texts from a file of the user."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from search_spaces.dimensions import Scalar
from search_spaces.errors import SpaceError, listing, shown
from search_spaces.files import content_hash
from search_spaces.setting import Setting
from search_spaces.shape import TaskShape
from search_spaces.tasks.language import LanguageTask
from search_spaces.tasks.records import RECORDS, SPLIT, read_records, readable
from search_spaces.tasks.splits import PARTS, distinct_indices, text_splits

SETTINGS = {
    "file": Setting("str", None, f"a file ending in {listing(('.txt', *RECORDS))}", required=True),
    "text": Setting("str", "text", "the column of the texts; in a .txt a blank line ends a text"),
    "split": SPLIT,
}


def language_modelling(settings: Mapping[str, Scalar], path: Path, where: str) -> LanguageTask:
    """The task of telling the next token of a text, from the file at ``path``; it is read at once.

    In a ``.txt`` a text is a paragraph: lines up to a blank one. Without a column that says the
    parts they are drawn, the same text being in one part however often it comes. Raises SpaceError
    with a line for each problem; ``where`` is the key path above the settings.
    """
    parts = None
    if path.suffix.lower() == ".txt":
        name, texts = path.name, _paragraphs(settings, path, where)
    else:
        columns = {name: str(settings[name]) for name in ("text", "split") if settings[name]}
        records = read_records(path, columns, where, also=(".txt",))
        name, texts = f"{path.name}: {settings['text']}", records.texts(where)
        parts = records.parts(where) if "split" in columns else None
    different = len(set(texts))
    if parts is None and different < len(PARTS):
        hint = "; a blank line ends a text" if path.suffix.lower() == ".txt" else ""
        raise SpaceError(
            f"{where}.file: {path.name} has {different} different texts; must have at least "
            f"{len(PARTS)}, one for each part{hint}"
        )
    drawn = parts or distinct_indices(texts, np.zeros(len(texts), np.int64))
    return LanguageTask(
        name,
        TaskShape((), 0, "language"),
        lambda: text_splits(texts, np.zeros((len(texts), 0), np.int64), drawn),
        train_size=len(drawn[0]),
        content=content_hash([path]),
    )


def _paragraphs(settings: Mapping[str, Scalar], path: Path, where: str) -> list[str]:
    problems = [
        f"{where}.{name}: got {shown(settings[name])}; {path.name} has no columns: leave it out"
        for name in ("text", "split")
        if settings[name] != SETTINGS[name].default
    ]
    if problems:
        raise SpaceError(*problems)
    with readable(path, f"{where}.file"):
        text = path.read_text("utf-8-sig")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise SpaceError(f"{where}.file: line {line} of {path.name} is no text: it has a NUL byte")
    paragraphs = [one.strip("\n") for one in re.split(r"\n\s*\n", text)]
    return [one for one in paragraphs if one and not one.isspace()]
