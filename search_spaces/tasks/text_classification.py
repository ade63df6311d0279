"""Classification of texts from a file of the user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from search_spaces.dimensions import Scalar
from search_spaces.errors import SpaceError, first_few, listing, shown
from search_spaces.files import content_hash
from search_spaces.setting import Setting
from search_spaces.shape import TaskShape
from search_spaces.tasks.records import RECORDS, SPLIT, Records, read_records
from search_spaces.tasks.splits import PARTS, distinct_indices, scarce, text_splits, unseen
from search_spaces.tasks.task import Array, ClassificationTask

SETTINGS = {
    "file": Setting("str", None, f"a file ending in {listing(RECORDS)}", required=True),
    "text": Setting("str", "text", "the column of the texts"),
    "label": Setting("str", "label", "the column of the classes"),
    "split": SPLIT,
}


def text_classification(
    settings: Mapping[str, Scalar], path: Path, where: str
) -> ClassificationTask:
    """The task of telling a text's class, from the file at ``path``; it is read at once.

    Classes are the labels as text, sorted. Without a column that says the parts they are drawn,
    stratified by class, the same text being in one part however often it comes. Raises SpaceError
    with a line for each problem; ``where`` is the key path above the settings.
    """
    columns = {name: str(settings[name]) for name in ("text", "label", "split") if settings[name]}
    records = read_records(path, columns, where)
    texts, labels = _texts_and_labels(records, where)
    names = sorted(set(labels))
    number = {name: i for i, name in enumerate(names)}
    classes = np.array([number[label] for label in labels], np.int64)
    parts = _parts(records, texts, names, classes, where)
    task = ClassificationTask(
        f"{path.name}: {settings['label']}",
        TaskShape((), len(names), "classification"),
        lambda: text_splits(texts, classes, parts),
        train_size=len(parts[0]),
        content=content_hash([path]),
    )
    task.classes = tuple(names)
    return task


def _texts_and_labels(records: Records, where: str) -> tuple[list[str], list[str]]:
    problems: list[str] = []
    read: list[list[str]] = []
    for column in (records.texts, records.labels):
        try:
            read.append(column(where))
        except SpaceError as error:
            problems += error.problems
    if problems:
        raise SpaceError(*problems)
    texts, labels = read
    return texts, labels


def _parts(
    records: Records, texts: list[str], names: list[str], classes: Array, where: str
) -> tuple[Array, Array, Array]:
    column = f"{where}.label: column {shown(records.columns['label'])} of {records.file}"
    if len(names) < 2:
        raise SpaceError(f"{column} has one class, {shown(names[0])}; must have at least 2")
    if "split" in records.columns:
        parts = records.parts(where)
        new = unseen(names, classes[parts[0]])
        if new:
            raise SpaceError(
                f"{column} has classes in the validation or test part that the training part "
                f"doesn't have: {first_few(new)}; must be in all"
            )
        return parts
    few = scarce(names, texts, classes)
    if few:
        raise SpaceError(
            f"{column} has classes with fewer than {len(PARTS)} different texts: "
            f"{first_few(few)}; must have one for each part"
        )
    return distinct_indices(texts, classes)
