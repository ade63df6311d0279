"""What a job is sent: one zip of this installation's own packages, the configuration, and the
user's folders.

The same content has the same name, so a cluster that has it already isn't sent it again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.jobs.contents import Contents, gather
from sweeps.jobs.errors import JobError, size, some

MOST_BYTES = 100 * 1024 * 1024
"""The most that a cluster takes."""

CONFIGURATION = "sweep.yaml"
PACKAGES = ("search_spaces", "sweeps", "trace_core")
_LARGEST = 5
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Package:
    """A package: its name by its content, the zip, and where in it the user's modules are."""

    name: str
    data: bytes
    import_path: tuple[str, ...]
    files: int


def pack(
    configuration: str,
    folders: Sequence[str | Path],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    note: Callable[[str], None] = lambda text: None,
    named: Mapping[str, Sequence[Path]] = {},
) -> Package:
    """The package of a resolved configuration, and of the folders in which the user's own modules
    are looked for, and of the files ``named`` by relative paths, whatever they end in. ``note`` is
    told what was left out of them.

    Raises JobError if it has more than MOST_BYTES, a folder can't be read, or a named file lies
    in none of them.
    """
    ours = [_installed(name) for name in PACKAGES]
    members: dict[str, Path | bytes] = {CONFIGURATION: configuration.encode()}
    for package in ours:
        for name, path in _own_files(package).items():
            members[f"{package.name}/{name}"] = path
    contents = [gather(folder, include, exclude, ours, note) for folder in _distinct(folders)]
    for name, files in named.items():
        _add(name, files, contents, exclude)
    places = _places(contents)
    for found, place in zip(contents, places, strict=True):
        if place.count("/") == 1:
            members |= {f"{place}/{name}": path for name, path in found.files.items()}
    _tell(contents, note)
    _check(members)
    return _zipped(members, tuple(places))


def _installed(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise JobError(f"the package {name} isn't installed as files, so it can't be sent")
    return Path(spec.origin).parent


def _own_files(package: Path) -> dict[str, Path]:
    """Ours, wherever installed: git may ignore all of an environment's folder, and the compiled
    kernel in any case.
    """
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(package):
        folders[:] = sorted(
            name
            for name in folders
            if name not in ("__pycache__", "node_modules") and not name.startswith(".")
        )
        for name in names:
            if not name.startswith(".") and not name.endswith((".pyc", ".pyo")):
                path = Path(folder) / name
                found[path.relative_to(package).as_posix()] = path
    return found


def _distinct(folders: Sequence[str | Path]) -> list[Path]:
    return list({os.path.realpath(folder): Path(folder) for folder in folders}.values())


def _add(
    name: str, files: Sequence[Path], contents: Sequence[Contents], exclude: Sequence[str]
) -> None:
    """Have what is named be sent with each folder that it is in."""
    for path in files:
        # Not where a link leads: the name is what is looked for.
        whole = os.path.abspath(path)
        inside = [
            (found, os.path.relpath(whole, os.path.abspath(found.folder))) for found in contents
        ]
        inside = [(found, within) for found, within in inside if not within.startswith("..")]
        if not inside:
            folders = some(str(found.folder) for found in contents)
            raise JobError(
                f"{name}: lies at {path}, in none of the folders that are sent ({folders}); put "
                "it there, or name it by an absolute path under which every node has it"
            )
        for found, within in inside:
            found.take(within, path, exclude)


def _places(contents: Sequence[Contents]) -> list[str]:
    """Where each folder is in the package: its own place, or within that of another one that holds
    all that is sent of it.
    """
    places = [f"user/{number}" for number in range(len(contents))]
    roots = [os.path.realpath(found.folder) for found in contents]
    own: list[int] = []
    for number in sorted(range(len(roots)), key=lambda number: len(roots[number])):
        for other in own:
            within = os.path.relpath(roots[number], roots[other])
            names = contents[number].files
            if not within.startswith("..") and all(
                f"{within}/{name}" in contents[other].files for name in names
            ):
                places[number] = f"user/{other}/{within}"
                break
        else:
            own.append(number)
    return places


def _tell(contents: Sequence[Contents], note: Callable[[str], None]) -> None:
    left = {
        found.folder / name: count for found in contents for name, count in found.left_out.items()
    }
    if left:
        largest = sorted(left, key=lambda path: (-left[path], path))
        named = some((f"{path} ({size(left[path])})" for path in largest), _LARGEST)
        note(
            f"not sent, as data: {named}; {size(sum(left.values()))} in all. "
            "What the job needs of it goes with --include PATTERN"
        )
    skipped = [str(found.folder / name) for found in contents for name in found.skipped]
    if skipped:
        note(f"not sent (unreadable, no file, or a link out of the folder): {some(skipped)}")


def _check(members: dict[str, Path | bytes]) -> None:
    sizes = {
        name: len(member) if isinstance(member, bytes) else member.stat().st_size
        for name, member in members.items()
    }
    total = sum(sizes.values())
    if total <= MOST_BYTES:
        return
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:_LARGEST]
    lines = "".join(f"\n  {size(sizes[name]):>10}  {_shown(members[name])}" for name in largest)
    raise JobError(
        f"what the job needs is too large to be sent: {size(total)}, and a cluster takes "
        f"{size(MOST_BYTES)}. The largest:{lines}\nLeave out what it doesn't need with --exclude "
        "PATTERN. Put data and checkpoints where all nodes can read them (a shared folder) and "
        "name them by absolute paths, or a checkpoint by its name on the Hugging Face hub"
    )


def _shown(member: Path | bytes) -> str:
    return "the configuration" if isinstance(member, bytes) else str(member)


def _zipped(members: dict[str, Path | bytes], import_path: tuple[str, ...]) -> Package:
    digest = hashlib.sha256()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(members):
            data = _bytes(members[name])
            for part in (name.encode(), data):
                digest.update(len(part).to_bytes(8, "big"))
                digest.update(part)
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    data = stream.getvalue()
    if len(data) > MOST_BYTES:
        raise JobError(f"what the job needs is too large to be sent: {size(len(data))} packed")
    name = f"_ray_pkg_{digest.hexdigest()[:16]}.zip"
    return Package(name, data, import_path, len(members))


def _bytes(member: Path | bytes) -> bytes:
    if isinstance(member, bytes):
        return member
    try:
        return member.read_bytes()
    except OSError as error:
        raise JobError(f"{member}: can't be read: {error.strerror or error}") from None
