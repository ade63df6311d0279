"""A run directory and its copy in a storage: pushed by the one process that drives the sweep, and
pulled by whoever goes on with it or looks at it.

The copy is laid out as the run directory is, with one difference: an object can't be appended to,
so what is appended to the study's journal becomes objects of its own, named by the byte at which
each begins; they are put together into one now and then, and at the end.

A push never makes the copy's study know of more than its files: what the journal holds is read
first, and written last. So a driver that goes on from any moment's copy finds what every trial that
was told is made of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sweeps.jobs.layout import CONTROL
from sweeps.jobs.store import Store
from sweeps.run_directory import RunDirectory, RunDirectoryError
from trace_core.durable import write_atomically

SEGMENTS = "study.journal.d"
MOST_SEGMENTS = 200
"""Objects of the journal after which they are put together."""

TRANSFERS = 16
"""Files that are moved at once: an object store takes tens of milliseconds for each."""

_JOURNAL = "study.journal"
_NOT_COPIED = ("driver.lock", "decision.lock")
_ATTEMPTS = 3

_Signature = tuple[int, int]


class Mirror:
    """Brings the copy in ``store`` up to what ``folder`` holds, with every `push`; for one driver,
    and one thread.

    Made from a folder that was just pulled, or is new. Raises StorageError where the store can't be
    reached, and what ``permit`` raises, which is called before each write: the next push goes on
    from there.
    """

    def __init__(
        self, folder: Path, store: Store, permit: Callable[[], None] = lambda: None
    ) -> None:
        self._folder = folder
        self._store = store
        self._permit = permit
        self._journal = RunDirectory(folder).journal
        there = store.files()
        self._pushed = {
            name: signature for name, signature in self._scan() if there.get(name) == signature[1]
        }
        self._segments = [name for name in there if name.startswith(f"{SEGMENTS}/")]
        # The journal was repaired when it was pulled: the copy is made to be the same.
        self._written = 0

    def push(self) -> None:
        """Bring the copy up to date."""
        written, journal = self._written, self._appended()
        here = dict(self._scan())
        changed = [name for name, signature in here.items() if self._pushed.get(name) != signature]
        # A trace before its record, whichever the folder listed first.
        traces = [name for name in changed if name.endswith(".npz")]
        with ThreadPoolExecutor(TRANSFERS) as pool:
            for some in (traces, [name for name in changed if name not in {*traces}]):
                for name, sent in zip(some, pool.map(self._send, some), strict=True):
                    if sent:
                        self._pushed[name] = here[name]
            gone = [name for name in self._pushed if name not in here]
            for name, _ in zip(gone, pool.map(self._remove, gone), strict=True):
                del self._pushed[name]
        if journal:
            if written == 0 or len(self._segments) >= MOST_SEGMENTS:
                self._put_together()
            else:
                name = f"{SEGMENTS}/{written:016d}"
                self._write(name, journal)
                self._segments.append(name)
                self._written = written + len(journal)

    def close(self) -> None:
        """The last push: leaves what a run directory holds, and nothing else."""
        self.push()
        if self._segments:
            self._put_together()

    def _send(self, name: str) -> bool:
        """Copy a file; False if it has gone meanwhile."""
        try:
            data = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return False
        if name.startswith("traces/") and name.endswith(".json"):
            # A training that ended while the folder was being listed.
            trace = f"{name.removesuffix('.json')}.npz"
            if trace not in self._pushed and (self._folder / trace).exists():
                self._write(trace, (self._folder / trace).read_bytes())
        self._write(name, data)
        return True

    def _write(self, name: str, data: bytes) -> None:
        self._permit()
        self._store.write(name, data)

    def _remove(self, name: str) -> None:
        self._permit()
        self._store.remove(name)

    def _appended(self) -> bytes:
        """The whole lines of the journal that the copy doesn't have."""
        try:
            with self._journal.open("rb") as file:
                file.seek(self._written)
                data = file.read()
        except FileNotFoundError:
            return b""
        return data[: data.rfind(b"\n") + 1]

    def _put_together(self) -> None:
        """Write the journal as one object, and remove those that it was in."""
        self._written = 0
        whole = self._appended()
        self._write(_JOURNAL, whole)
        self._written = len(whole)
        while self._segments:
            self._remove(self._segments[-1])
            self._segments.pop()

    def _scan(self) -> Iterator[tuple[str, _Signature]]:
        """What is to be copied: names, and what is another whenever the content is."""
        folders = [""]
        while folders:
            folder = folders.pop()
            with os.scandir(self._folder / folder) as entries:
                for entry in entries:
                    name = f"{folder}{entry.name}"
                    if entry.name.startswith((".", _JOURNAL)) or name == "live":
                        continue
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(f"{name}/")
                        elif entry.is_file(follow_symlinks=False) and name not in _NOT_COPIED:
                            status = entry.stat(follow_symlinks=False)
                            yield name, (status.st_mtime_ns, status.st_size)
                    except FileNotFoundError:
                        continue


def pull(
    store: Store, path: Path, on_progress: Callable[[int, int], None] = lambda done, of: None
) -> int:
    """Copy the run directory in ``store`` to ``path``, but for what is there already; gives the
    bytes that were copied, the study's journal not counted.

    ``on_progress`` is called with the bytes that were copied and those there are to copy. Raises
    FileNotFoundError if the store holds no run directory, RunDirectoryError if it lacks a part,
    StorageError where it can't be reached, and OSError where it can't be written.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _pull(store, path, on_progress)
        except FileNotFoundError as error:
            # Its driver put the journal together, or a training ended, while we read.
            if not store.exists("sweep.yaml"):
                raise
            if attempt == _ATTEMPTS - 1:
                raise RunDirectoryError(
                    f"{store.uri}: the run directory there is damaged ({error}); put an undamaged "
                    "copy in its place, or give another id"
                ) from None
    raise AssertionError


def _pull(store: Store, path: Path, on_progress: Callable[[int, int], None]) -> int:
    # The journal before the files are listed: what it tells of is then among them.
    _pull_journal(store, path)
    there = store.files()
    if "sweep.yaml" not in there:
        raise FileNotFoundError(f"{store.uri}: there is no run directory here")
    wanted = {
        name: size
        for name, size in there.items()
        if name not in CONTROL
        and not name.startswith(_JOURNAL)
        and not _is_here(path / name, name, size)
    }
    total = sum(wanted.values())
    done = 0

    def copy(name: str) -> None:
        try:
            data = store.read(name)
        except FileNotFoundError:
            if name.startswith("checkpoints/"):
                return  # its training ended meanwhile
            raise
        write_atomically(path / name, data, durably=False)

    with ThreadPoolExecutor(TRANSFERS) as pool:
        # The configuration last: what lacks it is no run directory yet.
        for some in (sorted(wanted.keys() - {"sweep.yaml"}), [*wanted.keys() & {"sweep.yaml"}]):
            for name, _ in zip(some, pool.map(copy, some), strict=True):
                done += wanted[name]
                on_progress(done, total)
    for file in (path / "checkpoints").glob("*"):
        # Of trainings that have ended since the last time; these are most of what there is.
        if f"checkpoints/{file.name}" not in there:
            file.unlink()
    return done


def _is_here(file: Path, name: str, size: int) -> bool:
    """Whether a file needn't be copied: a trace, once written, never changes."""
    return name.startswith("traces/") and file.is_file() and file.stat().st_size == size


def _pull_journal(store: Store, path: Path) -> None:
    segments = sorted(store.files(SEGMENTS))
    try:
        data = bytearray(store.read(_JOURNAL))
    except FileNotFoundError:
        if not segments:
            return
        data = bytearray()
    for name in segments:
        begins, more = int(name.rpartition("/")[2]), store.read(name)
        if begins > len(data):
            # Objects between were put together after we listed them.
            raise FileNotFoundError(f"the journal lacks what precedes {name}")
        # What a driver that was killed left of those it had put together is in the whole.
        if begins + len(more) > len(data):
            data[begins:] = more
    write_atomically(path / _JOURNAL, bytes(data))
