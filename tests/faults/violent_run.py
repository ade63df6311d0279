"""One violent run from its seed to its result, and the undisturbed ones it is compared with."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from auditing import Ended, audit, read
from driving import Failure, MissedError, Scene, UnavailableError, scene
from sweeps_to_break import SWEEPS
from violence import KINDS, Kind

EARLIER_TOLERANCE = 1e-9
"""Relative difference of figures of which a part was computed on another machine."""
SORTS = ("lost", "doubled", "different", "other")


@dataclass
class Result:
    """What came of a run: ``outcome`` is well, failed, missed (the violence came too late) or
    unavailable.
    """

    kind: str
    sweep: str
    seed: int
    outcome: str
    failures: list[Failure] = field(default_factory=list)
    resumes: int = 0
    recovered: float | None = None
    seconds: float = 0.0
    note: str = ""

    def count(self, sort: str) -> int:
        """How many failures it has of a sort."""
        return Counter(failure.sort for failure in self.failures)[sort]

    def line(self) -> str:
        """The result in a line, and one for each failure."""
        recovered = "" if self.recovered is None else f", recovered in {self.recovered:.1f} s"
        head = (
            f"{self.outcome:11} {self.kind:26} {self.sweep:17} seed {self.seed:<6} "
            f"{self.seconds:5.0f} s, resumed {self.resumes} times{recovered}"
            f"{f' ({self.note})' if self.note else ''}"
        )
        return "\n".join([head, *(f"    {one.sort}: {one.text}" for one in self.failures)])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Runs:
    """Makes violent runs in a folder, and the undisturbed run of each configuration once."""

    def __init__(self, folder: Path, *, brief: bool = False, keep: bool = False) -> None:
        self.folder = folder
        self._brief, self._keep = brief, keep
        self._references: dict[str, Ended] = {}
        self._lock = threading.Lock()

    def reference(self, sweep: str) -> Ended:
        """The undisturbed run of a configuration."""
        with self._lock:
            if sweep not in self._references:
                self._references[sweep] = self._undisturbed(sweep)
            return self._references[sweep]

    def _undisturbed(self, sweep: str) -> Ended:
        # Short: Ray's sockets lie below it, whose paths may have 107 characters.
        path = self.folder / f"u{len(self._references)}"
        with scene(path, SWEEPS[sweep](), 0) as made:
            command = made.begin()
            if made.end(command, 0) != 0:
                raise RuntimeError(f"{sweep}: an undisturbed run fails: {command.errors}")
        return read(path / "run")

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def make(self, name: str, seed: int, sweep: str | None = None) -> Result:
        """One run of a kind; the seed decides on the sweep, if none is named, and on the moment."""
        kind = KINDS[name]
        # Not by the seed's remainder: a campaign's seeds of a kind are a fixed way apart.
        sweep = sweep or random.Random(seed).choice(kind.sweeps)
        result = Result(name, sweep, seed, "well")
        reference = self.reference(sweep)
        configuration = SWEEPS[sweep](**{"limits": dict(kind.limits)} if kind.limits else {})
        folder = Path(tempfile.mkdtemp(prefix="v", dir=self.folder))
        began = time.monotonic()
        with scene(folder, configuration, seed, brief=self._brief, harm=kind.harm) as made:
            try:
                kind.act(made)
                self._audit(made, kind, reference)
            except (MissedError, UnavailableError) as error:
                result.outcome = "missed" if isinstance(error, MissedError) else "unavailable"
                result.note = str(error)
            result.failures = made.failures
            result.resumes, result.recovered = made.resumes, made.recovered
            result.note = result.note or made.note
        if result.failures:
            result.outcome = "failed"
        result.seconds = time.monotonic() - began
        if not (self._keep and result.failures):
            shutil.rmtree(folder)
        else:
            result.note += f"; kept: {folder}"
        return result

    def _audit(self, made: Scene, kind: Kind, reference: Ended) -> None:
        made.check_leftovers()
        audit(
            made.run,
            made.sweep,
            made.kept,
            made.fail,
            reference,
            expected=kind.expected,
            tolerance=EARLIER_TOLERANCE if kind.name == "upgrade" else 0.0,
        )
