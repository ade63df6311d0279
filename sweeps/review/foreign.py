"""Run directories that come from others, before anything in them is opened: what is no file is
never read, as a pipe or a device has no end, and no link leads out of a run directory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sweeps.run_directory import RunDirectory, RunDirectoryError

HANDED_OUT = ("ranking.csv", "ranking.parquet")
"""What of a report is nothing but handed out, where it is a file of the report's own."""
Stamps = tuple[tuple[int, int], ...]


def stamps(run: RunDirectory) -> Stamps:
    """What changes when an entry comes or goes where the server reads."""
    found = []
    for folder in _folders(run):
        try:
            status = folder.stat()
        except OSError:
            found.append((0, 0))
        else:
            found.append((status.st_ino, status.st_mtime_ns))
    return tuple(found)


def require_plain(run: RunDirectory) -> None:
    """Raise RunDirectoryError unless all that the server reads of a run directory are files of its
    own. Costs a look at each name, and more only for what is neither a file nor a folder.
    """
    within = run.path.resolve()
    for folder in _folders(run):
        if folder != run.path and folder.is_symlink():
            _require_inside(folder, within)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    plain = entry.is_file(follow_symlinks=False)
                    if not (plain or entry.is_dir(follow_symlinks=False) or _handed_out(entry)):
                        _require_file(Path(entry.path), within)
        except (FileNotFoundError, NotADirectoryError):
            continue


def _handed_out(entry: os.DirEntry[str]) -> bool:
    return entry.name in HANDED_OUT


def _folders(run: RunDirectory) -> tuple[Path, ...]:
    return run.path, run.report, run.trace("any").parent, run.live


def _require_file(path: Path, within: Path) -> None:
    if path.is_symlink():
        _require_inside(path, within)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        # A link to nothing, or gone since.
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise RunDirectoryError(
            f"{path}: is neither a file nor a folder, and isn't read; no sweep writes such a "
            "thing: remove it"
        )


def _require_inside(link: Path, within: Path) -> None:
    try:
        target = link.resolve()
    except (OSError, RuntimeError):
        # A circle of links.
        raise RunDirectoryError(f"{link}: is a link that leads nowhere; remove it") from None
    if not target.is_relative_to(within):
        raise RunDirectoryError(
            f"{link}: is a link that leads out of the run directory, and isn't followed; put what "
            "it leads to in its place"
        )
