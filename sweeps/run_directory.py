"""Every path of a run directory, and the lock of its one driver.

A file that matters is written whole under a temporary name, flushed to the disk and renamed, so
that a reader, or a resumed sweep, sees the old file or the new one and never a part. The one file
that grows is the study's journal, which Optuna appends to with fsync.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sweeps.sealed import read_sealed, write_sealed
from trace_core.durable import make_folder, owners, write_atomically

DAMAGE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError),
    RecursionError,  # json's for depth
)
"""What reading a file raises that holds something else than was written; its own absence too."""


CONTENT = "task_content"
"""Under which name ``environment.json`` has the hash of a task's files."""
CHECKPOINTS = "checkpoints"
"""Under which name it has what tells the content of each checkpoint, by its name."""
CONFIGURATION = "configuration"
"""Under which name it has the resolved configuration that the sweep was last driven with."""
METRIC = "metric"
"""Under which name it has what the task's metric is called."""


_SCRATCH = "tracerank-"
JOURNAL_LOCK = "study.journal.lock"
"""Optuna's lock of the study's journal: a link, whose target doesn't matter."""
LOGGERS = ("tensorboard", "mlruns", "wandb")
"""The folders of what loggers of experiments write: W&B's has links. Nothing of ours reads them."""
SCRATCH_NOTE = ".scratch.txt"
"""The file that says where a driver's temporary folder is."""


class RunDirectoryError(ValueError):
    """A path that is not a run directory, or one that another process is writing."""


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as strict JSON (a NaN raises ValueError), durably."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def resume_command(path: Path) -> str:
    """What to type to go on with the sweep in a run directory."""
    return f"tracerank resume {shlex.quote(str(path))}"


def doctor_command(path: Path) -> str:
    """What to type to learn what is damaged in a run directory, and what can still be had."""
    return f"tracerank doctor {shlex.quote(str(path))}"


def _locked(file: IO[str]) -> bool:
    """Whether the lock was got: whoever looks if it is free has it for a moment."""
    for _ in range(10):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.02)
    return False


def _remove_scratch(folder: Path, note: Path) -> None:
    # Without a descriptor to spare nothing can be removed: the note stays then.
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        with contextlib.suppress(OSError):
            note.unlink()


def _require_plain(entry: os.DirEntry[str]) -> None:
    if entry.is_symlink():
        raise RunDirectoryError(
            f"{entry.path}: is a link, and isn't followed; put what it leads to in its place"
        )
    plain = entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
    if not plain and os.path.lexists(entry.path):
        raise RunDirectoryError(
            f"{entry.path}: is neither a file nor a folder, and isn't read; no sweep writes such a "
            "thing: remove it"
        )


class RunDirectory:
    """The paths of one run directory (design §5); holds no state of its own."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def configuration(self) -> Path:
        """The sweep's configuration, resolved: every default filled in."""
        return self.path / "sweep.yaml"

    @property
    def environment(self) -> Path:
        """Versions and machine of the process that started the sweep."""
        return self.path / "environment.json"

    @property
    def journal(self) -> Path:
        """The Optuna study, as a journal file: the one ledger, unless it is in a database."""
        return self.path / "study.journal"

    @property
    def study(self) -> Path:
        """Where the study is, if it is in a database."""
        return self.path / "study.json"

    @property
    def earlier(self) -> Path:
        """The points that were taken over from earlier sweeps."""
        return self.path / "earlier.json"

    @property
    def ledger(self) -> Path:
        """One row per trial, derived from the study."""
        return self.path / "trials.parquet"

    @property
    def scores(self) -> Path:
        """The scores of the stored traces, which can be thrown away."""
        return self.path / "scores.npz"

    @property
    def report(self) -> Path:
        """The folder of the ranking report."""
        return self.path / "report"

    @property
    def decisions(self) -> Path:
        """What reviewers decided."""
        return self.path / "decision.json"

    @property
    def decisions_lock(self) -> Path:
        """Held while a decision is added."""
        return self.path / "decision.lock"

    def logged(self, logger: str) -> Path:
        """Which trials a logger has written."""
        return self.path / "logged" / f"{logger}.txt"

    def read_environment(self) -> dict[str, Any]:
        """What ``environment.json`` holds; nothing if it is gone.

        Raises RunDirectoryError if it is damaged.
        """
        try:
            environment = read_sealed(self.environment)
            folders = environment.get("import_path", [])
            if not all(isinstance(folder, str) for folder in folders):
                raise TypeError("import_path is not a list of folders")
        except FileNotFoundError:
            return {}
        except DAMAGE as error:
            raise RunDirectoryError(
                f"{self.environment}: damaged ({error}); "
                f"see what can be had with: {doctor_command(self.path)}"
            ) from None
        return dict(environment)

    def keep_configuration(self, resolved: Mapping[str, Any]) -> None:
        """Keep in ``environment.json`` what ``sweep.yaml`` says, so that it can be written again,
        and a change by hand is seen; for the one driver.

        Raises RunDirectoryError if the file is damaged.
        """
        environment = self.read_environment()
        plain = json.loads(json.dumps(resolved))
        if environment.get(CONFIGURATION) != plain:
            write_sealed(self.environment, environment | {CONFIGURATION: plain})

    def add_import_path(self) -> list[str]:
        """Put the folders in which the sweep found its user's modules on this process's path, and
        the current folder, as for a sweep that is begun: those of one that was fetched from
        elsewhere aren't here. For who goes on with the sweep: whoever reads a run directory imports
        nothing of it.

        Raises RunDirectoryError if ``environment.json`` is damaged.
        """
        kept: list[str] = self.read_environment().get("import_path", [])
        folders = list(dict.fromkeys([*kept, str(Path.cwd())]))
        sys.path[:0] = [folder for folder in folders if folder not in sys.path]
        return folders

    def read_points(self) -> list[dict[str, Any]]:
        """The points that were taken over from earlier sweeps; none if there is no such file.

        Raises RunDirectoryError if it is damaged.
        """
        try:
            points = read_sealed(self.earlier)["points"]
            if not all(isinstance(point, dict) for point in points):
                raise ValueError("points must be mappings")
        except FileNotFoundError:
            return []
        except DAMAGE as error:
            raise RunDirectoryError(
                f"{self.earlier}: does not hold an earlier sweep's points, or is damaged "
                f"({error}); see what can be had with: {doctor_command(self.path)}"
            ) from None
        return list(points)

    def trace(self, training_id: str) -> Path:
        """The stored trace of a finished training."""
        return self._of(training_id, "traces", "npz")

    def record(self, training_id: str) -> Path:
        """What became of a training: there if and only if it has ended."""
        return self._of(training_id, "traces", "json")

    def checkpoint(self, training_id: str) -> Path:
        """State of an unfinished training, from which it continues."""
        return self._of(training_id, "checkpoints", "pt")

    def _of(self, training_id: str, folder: str, kind: str) -> Path:
        """A file of a training. Raises RunDirectoryError for an id that leads elsewhere: a study
        may come from others.
        """
        if not isinstance(training_id, str) or Path(training_id).name != training_id:
            raise RunDirectoryError(f"{self.path}: {training_id!r} is no id of a training")
        return self.path.joinpath(folder, f"{training_id}.{kind}")

    @property
    def live(self) -> Path:
        """The folder of what trainings under way have come to."""
        return self.path / "live"

    def last_words(self, runner: str) -> Path:
        """What a worker's process leaves when it dies in the middle of a training."""
        return self.live / f"{runner}.words"

    @property
    def is_one(self) -> bool:
        """Whether there is anything here that tells a run directory, which may have lost its
        configuration.
        """
        told = (self.configuration, self.environment, self.journal, self.study, self.ledger)
        return any(path.is_file() for path in told) or (self.path / "traces").is_dir()

    @classmethod
    def existing(cls, path: Path | str) -> RunDirectory:
        """The run directory at ``path``.

        Raises FileNotFoundError if there is nothing at ``path`` and RunDirectoryError if it is
        something else.
        """
        run = cls(path)
        if not run.path.exists():
            raise FileNotFoundError(f"{run.path}: no such run directory")
        if not run.configuration.is_file() and run.environment.is_file():
            raise RunDirectoryError(
                f"{run.configuration}: is gone; see what can be had with: "
                f"{doctor_command(run.path)}"
            )
        if not run.configuration.is_file():
            raise RunDirectoryError(
                f"{run.path}: not a run directory (it has no {run.configuration.name}); "
                "give the directory that 'tracerank run' wrote"
            )
        run.require_plain()
        return run

    def require_plain(self) -> None:
        """Raise RunDirectoryError unless all that is in it are files and folders: what is neither
        is never read, as a pipe or a device has no end, and no link is followed, as it may lead
        out of here. Costs a look at each name, but for those in the loggers' own folders.
        """
        folders = []
        for entry in self._entries(self.path):
            if not (entry.is_symlink() and entry.name.startswith(JOURNAL_LOCK)):
                _require_plain(entry)
            if entry.is_dir(follow_symlinks=False) and entry.name not in LOGGERS:
                folders.append(entry.path)
        while folders:
            for entry in self._entries(folders.pop()):
                _require_plain(entry)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)

    def _entries(self, folder: Path | str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            # A sweep that runs may remove what was seen.
            return []
        except OSError as error:
            raise RunDirectoryError(f"{folder}: {error.strerror}") from None

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder for the one driver, outside; that of one that is killed is removed by
        `sweep_out`.
        """
        folder, note = Path(tempfile.mkdtemp(prefix=_SCRATCH)), self.path / SCRATCH_NOTE
        with contextlib.suppress(OSError):
            told = f"{folder}\n{self._identity()}"
            write_atomically(note, told.encode(), durably=False)
        try:
            yield folder
        finally:
            _remove_scratch(folder, note)

    def _drop_scratch(self) -> None:
        note = self.path / SCRATCH_NOTE
        with contextlib.suppress(OSError, ValueError):
            named, _, of = note.read_text().partition("\n")
            folder = Path(named)
            # Nothing else, whoever wrote the note.
            ours = folder.parent == Path(tempfile.gettempdir()) and folder.name.startswith(_SCRATCH)
            # A copy has the note of the one that it was made of, whose driver may be there.
            ours = ours and of == self._identity()
            if ours and folder.stat().st_uid == os.getuid() and not folder.is_symlink():
                _remove_scratch(folder, note)

    def _identity(self) -> str:
        """What tells it from a copy, wherever it is moved to in its file system."""
        status = self.path.stat()
        return f"{status.st_dev}:{status.st_ino}"

    def sweep_out(self) -> None:
        """Remove what writers that were killed left: temporary files, and trainings that seem under
        way; for the one driver.
        """
        self._drop_scratch()
        for path in self.live.glob("*"):
            path.unlink(missing_ok=True)
        for folder in ("traces", "checkpoints", "report", "."):
            for path in (self.path / folder).glob(".*.*"):
                if path.is_file():
                    path.unlink(missing_ok=True)

    @property
    def driven(self) -> bool:
        """Whether a process drives the directory just now."""
        try:
            with (self.path / "driver.lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @contextmanager
    def driving(self) -> Iterator[None]:
        """Hold the directory as its one driver; the system lets go of the lock when the process
        dies.

        Raises RunDirectoryError if another process drives it.
        """
        make_folder(self.path)
        with open(self.path / "driver.lock", "a+", opener=owners) as file:
            if not _locked(file):
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise RunDirectoryError(
                    f"{self.path}: another sweep is running in it (process {holder}); "
                    "wait for it, or stop it first"
                )
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield
            finally:
                # What couldn't be removed while Ray had the descriptors.
                self._drop_scratch()
