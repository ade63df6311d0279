"""Files that a configuration names: where they are found, and what tells their content."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePosixPath

from search_spaces.errors import SpaceError, first_few, shown

PACKAGE = "pkg:"
"""What a name begins with that lies inside an installed Python package."""


def locate(name: str, where: str) -> Path:
    """The file or folder that a configuration names; absolute, and there.

    An absolute path is taken as it is. ``pkg:PACKAGE/PATH`` lies inside an installed Python
    package, which isn't imported. A relative path is looked for in the current folder and then in
    the folders of the user's own modules: those of ``sys.path`` that belong neither to Python nor
    to installed packages. ``where`` is the key path for messages. Raises SpaceError that names
    where it was looked for.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise SpaceError(f"{where}: got {shown(name)}; must be the path of a file or folder")
    if name.startswith(PACKAGE):
        return _in_package(name, where)
    if os.path.isabs(name):
        # os.path.exists is False, where Path.exists raises, for what may not be looked at.
        if os.path.exists(name):
            return Path(name)
        raise SpaceError(f"{where}: no file or folder {shown(name, 200)}")
    folders = _own_folders()
    for folder in folders:
        if os.path.exists(folder / name):
            return folder / name
    raise SpaceError(
        f"{where}: no file or folder {shown(name, 200)}; looked for in {first_few(folders, 3)}"
    )


def _own_folders() -> list[Path]:
    """The current folder, and those of ``sys.path`` that hold the user's own modules."""
    installed = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    folders = [Path.cwd()]
    for entry in sys.path:
        folder = Path(entry).absolute()
        real = folder.resolve()
        foreign = any(real.is_relative_to(prefix) for prefix in installed)
        packages = {"site-packages", "dist-packages"} & set(real.parts)
        if not foreign and not packages and folder not in folders and os.path.isdir(folder):
            folders.append(folder)
    return folders


def _in_package(name: str, where: str) -> Path:
    package, _, rest = name.removeprefix(PACKAGE).partition("/")
    inside = PurePosixPath(rest)
    if not package.isidentifier() or inside.is_absolute() or ".." in inside.parts:
        raise SpaceError(
            f"{where}: got {shown(name)}; must be pkg:PACKAGE/PATH, a path inside an installed "
            "Python package"
        )
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:
        # Of a module that was not imported in the usual way, such as __main__.
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise SpaceError(
            f"{where}: got {shown(name)}; no package {package} is installed for {sys.executable}"
        )
    found = Path(next(iter(spec.submodule_search_locations))) / inside
    if not os.path.exists(found):
        raise SpaceError(f"{where}: got {shown(name)}; no file or folder {found}")
    return found


def content_hash(paths: Iterable[Path]) -> str:
    """SHA-256, in hexadecimal, over the names and bytes of files, in whatever order they come.

    A name is the path from the deepest folder that holds all of them, so that the hash is the same
    wherever that folder lies. A file is read once a process, unless its size or time changes.
    Raises OSError for what can't be read.
    """
    files = [Path(path).absolute() for path in paths]
    if not files:
        return hashlib.sha256().hexdigest()
    folder = Path(os.path.commonpath([file.parent for file in files]))
    digest = hashlib.sha256()
    for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in files):
        digest.update(f"{name}\0{file_hash(file)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256, in hexadecimal, over the bytes of one file; read once as in `content_hash`."""
    status = path.stat()
    return _file_hash(str(path), status.st_size, status.st_mtime_ns)


@cache
def _file_hash(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
