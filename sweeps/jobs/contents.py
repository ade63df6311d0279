"""Which files of a user's folder a job needs: code and what it reads, not what it made."""

from __future__ import annotations

import fnmatch
import os
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.jobs.errors import JobError, some

MOST_FILES = 20_000
"""More is no folder of code: somebody's home, say."""

DATA_SUFFIXES = (
    *(".arrow", ".csv", ".feather", ".jsonl", ".orc", ".parquet", ".tsv", ".xls", ".xlsx"),
    *(".db", ".h5", ".hdf5", ".mat", ".npy", ".npz", ".pickle", ".pkl", ".sqlite", ".sqlite3"),
    *(".bin", ".ckpt", ".msgpack", ".onnx", ".pt", ".pth", ".safetensors", ".tfrecord"),
    *(".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst"),
    *(".gif", ".jpeg", ".jpg", ".pdf", ".png", ".tif", ".tiff", ".webp", ".ipynb"),
    *(".avi", ".flac", ".mov", ".mp3", ".mp4", ".wav", ".webm"),
)
"""What a file of data ends in."""

_CACHES = frozenset({"node_modules", "__pycache__", "__pypackages__"})
_STUDIES = ("study.journal", "study.json")
_GIT_SECONDS = 30.0


@dataclass
class Contents:
    """The files of one folder that are sent (``files``: by their path in it), and those of data
    that are not (their sizes in bytes). ``skipped`` can't be read, or are no files.
    """

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def take(self, name: str, path: Path, exclude: Sequence[str] = ()) -> None:
        """Have a file be sent that was left out, unless a pattern of ``exclude`` fits it."""
        if _Patterns(exclude).fit(name):
            return
        self.left_out.pop(name, None)
        self.skipped[:] = [other for other in self.skipped if other not in (name, *_above(name))]
        self.files[name] = path


def gather(
    folder: Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    apart: Sequence[Path] = (),
    note: Callable[[str], None] = lambda text: None,
) -> Contents:
    """What of ``folder`` is sent.

    Left out are hidden files and folders, virtual environments, caches, run directories, what git
    ignores, data by its suffix, and the folders ``apart``. A pattern of ``include`` or ``exclude``
    overrules that, the latter both; without a slash it is for names at any depth, with one for
    paths in the folder, and one that fits a folder is for all that is in it. A link is followed if
    what it leads to is in the folder.

    Raises JobError for a folder that can't be read, or holds far more files than code has.
    """
    found = Contents(folder)
    ignored = _ignored_by_git(folder, note)
    keep, drop = _Patterns(include), _Patterns(exclude)
    walk = _walk(folder, keep, drop, apart, ignored, found)
    for seen, (name, path) in enumerate(walk):
        if seen >= MOST_FILES:
            raise JobError(
                f"{folder}: holds more than {MOST_FILES} files; a job is sent the folder of its "
                "configuration and the current one: submit from a folder that holds your code "
                "alone, or leave others out with --exclude"
            )
        try:
            status = path.stat()
            readable = os.access(path, os.R_OK)
        except OSError:
            status, readable = None, False
        if status is None or not readable or not stat.S_ISREG(status.st_mode):
            found.skipped.append(name)
        elif path.suffix.lower() in DATA_SUFFIXES and not keep.fit(name):
            found.left_out[name] = status.st_size
        else:
            found.files[name] = path
    return found


def _above(name: str) -> list[str]:
    """The folders that a path is in."""
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


class _Patterns:
    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [pattern.removeprefix("./").rstrip("/") for pattern in patterns]

    def fit(self, name: str) -> bool:
        """Whether a path, or a folder that it is in, fits."""
        parts = name.split("/")
        return any(
            fnmatch.fnmatchcase(parts[end - 1], pattern)
            or fnmatch.fnmatchcase("/".join(parts[:end]), pattern)
            for pattern in self._patterns
            for end in range(1, len(parts) + 1)
        )

    def may_fit_in(self, folder: str) -> bool:
        """Whether a pattern with a slash may fit something in a folder."""
        parts = folder.split("/")
        return any(
            len(wanted) > len(parts)
            and all(fnmatch.fnmatchcase(a, b) for a, b in zip(parts, wanted, strict=False))
            for wanted in (pattern.split("/") for pattern in self._patterns)
        )


def _walk(
    folder: Path,
    keep: _Patterns,
    drop: _Patterns,
    apart: Sequence[Path],
    ignored: frozenset[str],
    found: Contents,
) -> Iterator[tuple[str, Path]]:
    root = os.path.realpath(folder)
    others = {os.path.realpath(path) for path in apart}
    # A folder, the real ones it stands in (a link back to one of them is a loop), and whether it is
    # left out itself, and gone through for the sake of a pattern alone.
    folders: list[tuple[str, frozenset[str], bool]] = [("", frozenset({root}), False)]
    while folders:
        inside, above, left_out = folders.pop()
        here = folder / inside if inside else folder
        try:
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if not inside:
                raise JobError(f"{folder}: can't be read: {error.strerror or error}") from None
            found.skipped.append(f"{inside}/")
            continue
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if drop.fit(name) or not _is_text(name):
                continue
            real = os.path.realpath(entry.path)
            if entry.is_symlink() and real != root and not real.startswith(f"{root}{os.sep}"):
                found.skipped.append(name)
                continue
            away = left_out or entry.name.startswith(".") or name in ignored
            if os.path.isdir(entry.path):
                away = away or entry.name in _CACHES or _is_made(Path(entry.path))
                away = away and not keep.fit(name)
                if real not in above | others and (not away or keep.may_fit_in(name)):
                    folders.append((name, above | {real}, away))
            elif keep.fit(name) or not (away or entry.name.endswith((".pyc", ".pyo"))):
                yield name, Path(entry.path)


def _is_made(folder: Path) -> bool:
    """Whether it is a virtual environment or a run directory."""
    if (folder / "pyvenv.cfg").exists():
        return True
    return (folder / "sweep.yaml").exists() and any((folder / name).exists() for name in _STUDIES)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # a name that is not UTF-8
        return False
    return True


def _ignored_by_git(folder: Path, note: Callable[[str], None]) -> frozenset[str]:
    """Paths in the folder that git ignores; folders without what is in them. None without git."""
    if not any(
        (above / ".git").exists() for above in (folder.resolve(), *folder.resolve().parents)
    ):
        return frozenset()
    # Variables of a hook that we may be called from would point git elsewhere.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "ls-files", "-z", "--others", "--ignored", "--exclude-standard"]
    try:
        done = subprocess.run(  # noqa: S603  (no part of it is the user's)
            [*command, "--directory"],
            cwd=folder,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except FileNotFoundError:
        note(f"{folder}: git isn't installed here, so what it ignores is not left out")
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        lines = some(said.decode(errors="replace").strip().splitlines(), 1)
        note(f"{folder}: git can't tell what it ignores, so that is not left out ({lines})")
    else:
        names = done.stdout.decode(errors="surrogateescape").split("\0")
        return frozenset(name.rstrip("/") for name in names if name)
    return frozenset()
