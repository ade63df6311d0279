"""Files under a path or URI that several machines reach, written and read whole.

Folders are plain ones; S3, Google's and Azure's stores are PyArrow's file systems; any other scheme
is fsspec's. A file is seen whole or not at all: in a folder it is renamed into its place, and an
object store keeps an object only once it has all of it. Credentials come from where the machine has
them (environment, configuration files, its role), never from the URI: that is stored and shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sweeps.jobs.errors import JobError
from trace_core.durable import write_atomically

CONNECT_SECONDS = 5.0
"""How long an object store may take to answer at all."""

TRIES = 3
"""How often S3 is asked that is silent, for 3 s each or 10 for a write, or has too much to do."""

_OBJECT_STORES = ("s3", "gs", "gcs", "abfs", "abfss", "memory")
_S3_OPTIONS = ("scheme", "region", "endpoint_override")
_SECRET = re.compile("key|secret|token|password|credential|sig", re.IGNORECASE)


class StorageUriError(JobError):
    """A storage that can't be one: its message says what is wrong with it."""


class StorageError(ConnectionError):
    """A storage that can't be reached, or doesn't let us in."""


class Store:
    """The files under ``uri``: a path, or a URI such as ``s3://bucket/folder``.

    Raises StorageUriError for what is no storage's address, or holds a secret, and StorageError
    where it can't be reached; so does every method. With one of ``tries`` whatever is asked of S3
    is over soon.
    """

    def __init__(self, uri: str | Path, tries: int = TRIES) -> None:
        self.uri = checked_uri(str(uri))
        self._scheme = urlsplit(self.uri).scheme if "://" in self.uri else ""
        with self._reached():
            self._system, self._root = _opened(self.uri, tries)

    def under(self, name: str) -> Store:
        """The files in a folder of it."""
        inner = Store.__new__(Store)
        inner.uri, inner._scheme, inner._system = (
            _joined(self.uri, name),
            self._scheme,
            self._system,
        )
        inner._root = f"{self._root}/{name}"
        return inner

    def write(self, name: str, data: bytes) -> None:
        """Replace a file by ``data``."""
        path = self._path(name)
        with self._reached():
            if self._scheme == "":
                write_atomically(Path(path), data)
            elif self._scheme in _OBJECT_STORES:
                self._put(path, data)
            else:
                self._system.create_dir(path.rpartition("/")[0], recursive=True)
                self._put(f"{path}.part", data)
                self._system.move(f"{path}.part", path)

    def read(self, name: str) -> bytes:
        """The content of a file. Raises FileNotFoundError if there is none of that name."""
        with self._reached(), self._system.open_input_file(self._path(name)) as file:
            return bytes(file.read())

    def told(self, name: str) -> dict[str, Any] | None:
        """What a file of JSON says: an empty mapping if it is damaged, None if there is none."""
        try:
            found = json.loads(self.read(name))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        from pyarrow.fs import FileType

        with self._reached():
            return bool(self._system.get_file_info(self._path(name)).type == FileType.File)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError), self._reached():
            self._system.delete_file(self._path(name))

    def files(self, folder: str = "") -> dict[str, int]:
        """The files under a folder, at any depth, by name (from the store's own root): their sizes
        in bytes. Half-written ones are left out.
        """
        from pyarrow.fs import FileSelector, FileType

        base = self._path(folder) if folder else self._root
        with self._reached():
            found = self._system.get_file_info(
                FileSelector(base, recursive=True, allow_not_found=True)
            )
        names = {
            info.path.removeprefix(f"{self._root}/"): int(info.size)
            for info in found
            if info.type == FileType.File
        }
        return {
            name: size
            for name, size in names.items()
            if not name.rpartition("/")[2].startswith(".") and not name.endswith(".part")
        }

    def _put(self, path: str, data: bytes) -> None:
        with self._system.open_output_stream(path) as stream:
            stream.write(data)

    def _path(self, name: str) -> str:
        parts = name.split("/")
        if not all(parts) or not {".", ".."}.isdisjoint(parts):
            raise ValueError(f"{name!r} is not the name of a file in a store")
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, StorageError, StorageUriError):
            raise
        # PyArrow's are OSErrors and ValueErrors; a file system of fsspec's may raise anything.
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise StorageError(f"storage {self.uri} cannot be reached: {said}") from None


def checked_uri(uri: str) -> str:
    """The address of a storage, a path made absolute.

    Raises StorageUriError if it can't be one, or holds a secret.
    """
    if "://" not in uri:
        if not uri.strip():
            raise StorageUriError(
                "storage: got nothing; give a folder or a URI (s3://bucket/folder)"
            )
        return str(Path(os.path.abspath(uri)))
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return checked_uri(parts.path)
    if parts.username or parts.password or any(_SECRET.search(key) for key in _query(uri)):
        shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        raise StorageUriError(
            f"storage {shown}: its address holds a secret, and would be stored and shown; leave it "
            "out, and give it to the machines in their environment (AWS_ACCESS_KEY_ID, …) or role"
        )
    if parts.scheme in ("http", "https"):
        raise StorageUriError(
            f"storage {uri}: can't be written to; give a folder, or s3://bucket/folder with "
            "?endpoint_override=HOST:PORT for an S3-compatible server"
        )
    if not parts.netloc and parts.scheme != "memory":
        raise StorageUriError(f"storage {uri}: names no bucket or host")
    if parts.scheme == "s3":
        other = sorted(set(_query(uri)) - {*_S3_OPTIONS})
        if other:
            raise StorageUriError(
                f"storage {uri}: unknown option {other[0]!r}; "
                f"may be one of {', '.join(_S3_OPTIONS)}"
            )
    return uri.rstrip("/")


def _query(uri: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))


def _joined(uri: str, name: str) -> str:
    path, mark, query = uri.partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{query}"


def _opened(uri: str, tries: int) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    from pyarrow import fs

    if "://" not in uri:
        return fs.LocalFileSystem(), uri.rstrip("/") or "/"
    parts = urlsplit(uri)
    path = f"{parts.netloc}{parts.path}".rstrip("/")
    if parts.scheme == "s3":
        options = _query(uri)
        endpoint = options.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint and "://" in endpoint:
            options["scheme"], _, endpoint = endpoint.partition("://")
        region = options.get("region")
        if not (region or endpoint or {"AWS_REGION", "AWS_DEFAULT_REGION"} & {*os.environ}):
            region = fs.resolve_s3_region(parts.netloc)
        return fs.S3FileSystem(
            region=region,
            scheme=options.get("scheme", "https"),
            endpoint_override=endpoint,
            connect_timeout=CONNECT_SECONDS,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=tries),
            # One request for a small file, in place of the three of an upload in parts.
            allow_delayed_open=True,
        ), path
    if parts.scheme in ("gs", "gcs", "abfs", "abfss"):
        system, path = fs.FileSystem.from_uri(uri)
        return system, str(path).rstrip("/")
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise StorageUriError(f"storage {uri}: {error}") from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), str(path).rstrip("/")
