"""A campaign of damage: every kind of file of a run directory, damaged in every way, by chance from
a seed; then each command, and what became of it.

    python tests/damage/damage_campaign.py --cases 1000 --seed 1

prints a table by kind of file and damage. Of each case must be true: no command raises or takes
more than ten seconds; the doctor names what is wrong, or everything that is read is what it was; it
changes nothing unless it repairs; and after the repair, and a resume, the ranking is the one that
the undamaged sweep ends with.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

if __name__ in ("__main__", "__mp_main__"):
    sys.path[:0] = [str(Path(__file__).parents[1] / "sweeps"), str(Path(__file__).parents[2])]

from click.testing import CliRunner
from patients import KINDS, Patient, copy, make_patients, ranking_of, read_all, resume, same

from sweeps.cli import main as tracerank
from sweeps.run_directory import RunDirectory

SECONDS = 10
WORKERS = 2
CODES = {0, 1, 2, 3, 4, 5}

Damage = Callable[[bytes, random.Random, bytes], bytes | None]


def _flip(data: bytes, chosen: random.Random, other: bytes) -> bytes:
    damaged = bytearray(data)
    damaged[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    return bytes(damaged)


DAMAGES: dict[str, Damage] = {
    "truncate": lambda data, chosen, other: data[: chosen.randrange(len(data))],
    "flip": _flip,
    "empty": lambda data, chosen, other: b"",
    "delete": lambda data, chosen, other: None,
    "garbage": lambda data, chosen, other: chosen.randbytes(len(data)),
    "swap": lambda data, chosen, other: other,
}


@dataclass(frozen=True)
class Case:
    """One file of a patient, and what is done to it."""

    patient: Patient
    kind: str
    file: Path
    damage: str
    seed: int

    def __str__(self) -> str:
        return f"{self.patient.name}/{self.file} {self.damage} (seed {self.seed})"


@dataclass(frozen=True)
class Outcome:
    """``seen`` is what the doctor said: ``problem``, ``note`` or ``nothing``. ``ended`` is whether
    the ranking in the end is that of the undamaged sweep. ``failures`` are the rules that were
    broken.
    """

    seen: str
    ended: bool
    seconds: float
    failures: tuple[str, ...]


class TooSlowError(BaseException):
    """A command took too long."""


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """TooSlowError for what takes more than ten seconds, less those in which this process had to
    wait for others to leave it a CPU.
    """

    def late(*_: object) -> None:
        if time.monotonic() - begun - (_queued() - queued) > SECONDS:
            raise TooSlowError

    before = signal.signal(signal.SIGALRM, late)
    begun, queued = time.monotonic(), _queued()
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _queued() -> float:
    """Seconds for which this thread was ready to run, and had no CPU."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class Attempt:
    """One case, run in a folder of its own."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._case = case
        self._run = RunDirectory(folder / "run")
        self._failures: list[str] = []

    def outcome(self) -> Outcome:
        """Damage a copy, and run everything over it."""
        begun = time.monotonic()
        self._damage()
        before = _bytes(self._run.path)
        said = self._command("doctor")
        if _bytes(self._run.path) != before:
            self._failures.append("doctor changed something")
        seen = _seen(said)
        if seen == "nothing":
            self._is_as_it_was()
        self._report(seen)
        repaired = self._command("doctor", "--repair")
        if seen == "problem" and repaired is not None and repaired["state"] == "unknown":
            self._failures.append("the study can't be read after the repair")
        # What is complete and sound has nothing to resume; the doctor compared its ranking.
        sound = repaired is not None and repaired["healthy"] and repaired["state"] == "complete"
        ended = self._is_ranked() if sound else self._resumed()
        return Outcome(seen, ended, time.monotonic() - begun, tuple(self._failures))

    def _damage(self) -> None:
        case, chosen = self._case, random.Random(self._case.seed)
        copy(case.patient.path, self._run.path)
        target = self._run.path / case.file
        data = target.read_bytes()
        damaged = DAMAGES[case.damage](data, chosen, _another(case, chosen, data))
        target.unlink()
        if damaged is not None:
            target.write_bytes(damaged)

    def _command(self, *arguments: str) -> dict[str, Any] | None:
        """What a command says as JSON; None if it says nothing."""
        result = None
        name, *options = arguments
        try:
            with in_time():
                result = CliRunner().invoke(
                    tracerank, [name, str(self._run.path), *options, "--json"]
                )
        except TooSlowError:
            self._failures.append(f"{' '.join(arguments)} took more than {SECONDS} s")
            return None
        raised = result.exception
        if raised is not None and not isinstance(raised, SystemExit):
            self._failures.append(f"{' '.join(arguments)} raised {raised!r}")
            traceback.print_exception(raised, file=sys.stderr)
        elif result.exit_code not in CODES:
            self._failures.append(f"{' '.join(arguments)} ended with {result.exit_code}")
        elif result.exit_code and not result.stderr.strip():
            self._failures.append(f"{' '.join(arguments)} said nothing")
        with contextlib.suppress(ValueError):
            said = json.loads(result.stdout.splitlines()[-1]) if result.stdout else None
            return said if isinstance(said, dict) else None
        return None

    def _is_as_it_was(self) -> None:
        """Nothing was found: then everything that is read must be what it was."""
        now = read_all(self._run)
        for name in now.keys() | self._case.patient.read.keys():
            if not same(now.get(name), self._case.patient.read.get(name)):
                self._failures.append(f"nothing was found, and {name} is another")

    def _report(self, seen: str) -> None:
        """A report of a copy either refuses, or is right, or the doctor has told why not."""
        kept = self._run
        self._run = RunDirectory(kept.path.with_name("reported"))
        copy(kept.path, self._run.path)
        said = self._command("report")
        if said is not None and seen == "nothing" and "models" in said:
            given = json.loads(self._case.patient.read["report"]["ranking.json"])
            if said["models"] != given["models"]:
                self._failures.append("report gives another ranking, and nothing was found")
        self._run = kept

    def _is_ranked(self) -> bool:
        """Whether the report's ranking is the one with which the undamaged sweep ends."""
        if ranking_of(self._run) == self._case.patient.ranking:
            return True
        self._failures.append("after the repair the ranking is another")
        return False

    def _resumed(self) -> bool:
        """Whether the sweep ends with the ranking with which the undamaged one does."""
        try:
            with in_time(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                resume(self._run)
        except TooSlowError:
            self._failures.append(f"resume took more than {SECONDS} s")
            return False
        except (ValueError, OSError) as error:
            self._failures.append(f"resume after the repair: {error}")
            return False
        except Exception as error:
            self._failures.append(f"resume after the repair raised {error!r}")
            traceback.print_exc()
            return False
        if not self._is_ranked():
            return False
        again = self._command("doctor")
        if again is None or not again["healthy"]:
            left = [] if again is None else again["findings"]
            self._failures.append(f"after repair and resume it isn't healthy: {left}")
        return True


def _another(case: Case, chosen: random.Random, data: bytes) -> bytes:
    """What another file of the same kind holds, of this run or of another.

    Not the same training's record in another run, or a decision from the same ranking: these fit,
    and differ in seconds and times alone.
    """
    others = [case.patient.path / path for path in case.patient.files(case.kind)]
    root = case.patient.path.parent
    for name in ("other", "finished", "interrupted", "stored"):
        twins = case.kind in ("record", "decision.json")
        there = sorted((root / name).glob(KINDS[case.kind]))
        others += [path for path in there if not (twins and path.name == case.file.name)]
    different = [found for path in others if (found := path.read_bytes()) != data]
    return chosen.choice(different) if different else b"{}"


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _seen(said: dict[str, Any] | None) -> str:
    if said is None or not said["healthy"]:
        return "problem"
    return "note" if said["findings"] else "nothing"


def cases(patients: list[Patient], count: int, seed: int) -> list[Case]:
    """Each kind of file damaged in each way about as often as any other."""
    chosen = random.Random(seed)
    places = [
        (patient, kind, damage)
        for kind in KINDS
        for damage in DAMAGES
        for patient in patients
        if patient.files(kind)
    ]
    chosen.shuffle(places)
    picked = [places[number % len(places)] for number in range(count)]
    return [
        Case(patient, kind, chosen.choice(patient.files(kind)), damage, chosen.randrange(2**32))
        for patient, kind, damage in picked
    ]


def attempt(case: Case, folder: Path) -> Outcome:
    """Run a case in a folder, which is emptied again."""
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        return Attempt(case, place).outcome()
    finally:
        shutil.rmtree(place)


def run_all(chosen: list[Case], folder: Path) -> Iterator[tuple[Case, Outcome]]:
    """Run cases in two processes of their own."""
    with get_context("spawn").Pool(WORKERS) as pool:
        outcomes = pool.imap(partial(attempt, folder=folder), chosen)
        yield from zip(chosen, outcomes, strict=True)


def table(found: list[tuple[Case, Outcome]]) -> str:
    """How many cases of each kind of file and damage; of them found (told as a problem), noted,
    harmless (nothing told, nothing changed), recovered (the same ranking in the end), and failed.
    """
    rows = [("file", "damage", "cases", "found", "noted", "harmless", "recovered", "failed")]
    total: Counter[str] = Counter()
    for kind in KINDS:
        for damage in DAMAGES:
            mine = [out for case, out in found if (case.kind, case.damage) == (kind, damage)]
            if not mine:
                continue
            counts = {
                "cases": len(mine),
                "found": sum(out.seen == "problem" for out in mine),
                "noted": sum(out.seen == "note" for out in mine),
                "harmless": sum(out.seen == "nothing" for out in mine),
                "recovered": sum(out.ended for out in mine),
                "failed": sum(bool(out.failures) for out in mine),
            }
            total.update(counts)
            rows.append((kind, damage, *(str(number) for number in counts.values())))
    rows.append(("all", "", *(str(total[name]) for name in rows[0][2:])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def main() -> None:
    """Run a campaign; ends with 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="tracerank-damage-") as temporary:
        folder = Path(temporary)
        chosen = cases(make_patients(folder), given.cases, given.seed)
        (folder / "cases").mkdir()
        for number, (case, outcome) in enumerate(run_all(chosen, folder / "cases"), 1):
            found.append((case, outcome))
            for failure in outcome.failures:
                print(f"{case}: {failure}", flush=True)
            if number % 50 == 0:
                print(f"{number}/{len(chosen)}", file=sys.stderr, flush=True)
    print(table(found))
    longest = max(outcome.seconds for _, outcome in found)
    print(f"longest case {longest:.1f} s")
    sys.exit(any(outcome.failures for _, outcome in found))


if __name__ == "__main__":
    main()
