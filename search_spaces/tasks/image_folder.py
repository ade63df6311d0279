"""Which images a folder has, of which class and in which part."""

from __future__ import annotations

import os
from pathlib import Path

from search_spaces.errors import SpaceError, first_few, listing
from search_spaces.tasks.splits import PARTS

# What else validation is called: such a folder beside train is no class.
_ALMOST_PARTS = {*PARTS, "val", "valid", "dev", "eval"} - {"train"}
_LEFT_BY_SYSTEMS = {"thumbs.db", "desktop.ini"}
_IMAGES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def image_folder(folder: Path, place: str) -> dict[str, dict[str, list[Path]]]:
    """For each part the files of each class, sorted by name; one part, "", where none are given.

    Parts are given by the folders train, validation and test, which then hold the classes' folders.
    Hidden files, and those that systems leave behind, aren't looked at. ``place`` is the key path
    of the folder. Raises SpaceError with a line for each problem.
    """
    if not folder.is_dir():
        raise SpaceError(f"{place}: {folder} is a file; must be a folder")
    try:
        names = _folders(folder)
        if set(names) == set(PARTS):
            return {part: _classes(folder / part, folder, place) for part in PARTS}
        if "train" in names and _ALMOST_PARTS & set(names):
            raise SpaceError(
                f"{place}: {folder} holds the folders {first_few(names)}; must be {listing(PARTS)} "
                "and nothing else, or the classes"
            )
        return {"": _classes(folder, folder, place)}
    except OSError as error:
        raise SpaceError(f"{place}: {folder} can't be read: {error}") from error


def _classes(folder: Path, root: Path, place: str) -> dict[str, list[Path]]:
    names = _folders(folder)
    if not names:
        raise SpaceError(f"{place}: {folder} holds no folders; must hold one for each class")
    problems = []
    loose = [name for name in _files(folder) if Path(name).suffix.lower() in _IMAGES]
    if loose:
        problems.append(
            f"{place}: {folder} holds {first_few(loose)}; an image must be in its class's folder"
        )
    classes: dict[str, list[Path]] = {}
    for name in names:
        inner = _folders(folder / name)
        if inner:
            which = (folder / name).relative_to(root)
            problems.append(
                f"{place}: {which} holds the folders {first_few(inner)}; "
                "a class's folder must hold images alone"
            )
        classes[name] = [folder / name / file for file in _files(folder / name)]
        # A link that leads nowhere, or a pipe, for which one would wait.
        problems += [
            f"{place}: {file.relative_to(root)} is no file; a class's folder must hold images alone"
            for file in classes[name]
            if not file.is_file()
        ]
    if problems:
        raise SpaceError(*problems)
    return classes


def _folders(folder: Path) -> list[str]:
    return sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and _seen(entry.name)
    )


def _files(folder: Path) -> list[str]:
    return sorted(
        entry.name for entry in os.scandir(folder) if not entry.is_dir() and _seen(entry.name)
    )


def _seen(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _LEFT_BY_SYSTEMS
