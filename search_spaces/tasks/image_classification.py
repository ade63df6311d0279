"""Classification of images from a folder of the user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from search_spaces.cache import cached
from search_spaces.dimensions import Scalar
from search_spaces.errors import SpaceError, first_few, listing, shown
from search_spaces.files import content_hash, file_hash
from search_spaces.setting import Setting
from search_spaces.shape import TaskShape
from search_spaces.tasks.image_folder import image_folder
from search_spaces.tasks.images import channel_statistics, pillow_version, read_images
from search_spaces.tasks.splits import PARTS, distinct_indices, scarce, unseen
from search_spaces.tasks.task import Array, ClassificationTask, Part, Splits

VERSION = 1
"""Of how files become pixels: another makes what is kept on disk anew."""

SETTINGS = {
    "folder": Setting(
        "str",
        None,
        "a folder that holds one for each class, or train, validation and test that hold these",
        required=True,
    ),
    "size": Setting("int", 224, "pixels of a side to which images are brought", low=8, high=1024),
}


def image_classification(
    settings: Mapping[str, Scalar], path: Path, where: str
) -> ClassificationTask:
    """The task of telling an image's class, from the folder at ``path``; images are decoded when
    the data is loaded, once for all processes that have the same cache.

    Classes are the folders' names, sorted. Unless the folder has parts they are drawn, stratified
    by class, files of the same bytes being in one part. Raises SpaceError with a line for each
    problem; ``where`` is the key path above the settings.
    """
    place, size = f"{where}.folder", int(settings["size"])  # type: ignore[arg-type]
    version = pillow_version(place)
    listed = image_folder(path, place)
    names = sorted({name for classes in listed.values() for name in classes})
    files = [file for classes in listed.values() for of in classes.values() for file in of]
    if len(names) < 2:
        raise SpaceError(f"{place}: {path} has one class, {shown(names[0])}; must have at least 2")
    number = {name: i for i, name in enumerate(names)}
    classes = np.array([number[file.parent.name] for file in files], np.int64)
    try:
        content = content_hash(files)
        parts = _parts(path, listed, files, classes, names, place)
    except OSError as error:
        raise SpaceError(f"{place}: {path} can't be read: {error}") from error

    def decode() -> Splits:
        train, validation, test = (
            Part(read_images([files[index] for index in part], size, path, place), classes[part])
            for part in parts
        )
        return Splits(train, validation, test, pixels=channel_statistics(train.inputs))

    task = ClassificationTask(
        f"{path.name}: {size} pixels",
        TaskShape((3, size, size), len(names), "classification"),
        lambda: cached(f"images {VERSION} {content} {size} Pillow {version}", decode),
        train_size=len(parts[0]),
        content=content,
    )
    task.classes = tuple(names)
    return task


def _parts(
    path: Path,
    listed: dict[str, dict[str, list[Path]]],
    files: list[Path],
    classes: Array,
    names: list[str],
    place: str,
) -> tuple[Array, Array, Array]:
    if "" in listed:
        hashes = [file_hash(file) for file in files]
        few = scarce(names, hashes, classes)
        if few:
            raise SpaceError(
                f"{place}: {path} has classes with fewer than {len(PARTS)} different images: "
                f"{first_few(few)}; must have one for each part"
            )
        return distinct_indices(hashes, classes)
    sizes = [sum(map(len, listed[part].values())) for part in PARTS]
    empty = [part for part, count in zip(PARTS, sizes, strict=True) if not count]
    if empty:
        raise SpaceError(f"{place}: {path} has no image in {listing(empty)}; must have one in each")
    train, validation, test = np.split(np.arange(len(files)), np.cumsum(sizes)[:-1])
    new = unseen(names, classes[train])
    if new:
        raise SpaceError(
            f"{place}: {path} has classes of which train has no image: {first_few(new)}; "
            "must have one of each"
        )
    return train, validation, test
