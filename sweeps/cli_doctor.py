"""``tracerank doctor``: whether a run directory is sound, and its repair."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeps.cli_answers import answer, as_json, stop
from sweeps.exit_codes import FAILED
from sweeps.plain_text import harmless

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.doctor import Audit, Repair

SHOWN = 40
"""Most findings of a kind that people are shown; ``--json`` has all."""

BAR_AFTER = 1.0
"""Seconds after which a bar says how far it is."""


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--repair", "repairs", is_flag=True, help="Repair what can be; nothing is deleted.")
@as_json
def doctor(run_dir: Path, repairs: bool, as_json: bool) -> None:
    """Look for damage in RUN_DIR, say what can still be had, and repair what can be.

    Without --repair nothing is changed.
    """
    from rich.console import Console

    from sweeps.doctor import examine, find, repair

    run = find(run_dir)
    console = Console(stderr=True)
    done: list[Repair] = []
    with _Bar(console) as bar:
        if repairs:
            _, done, audit = repair(run, bar.update)
        else:
            audit = examine(run, bar.update)
    following = _next(run_dir, audit, repairs)
    if as_json:
        told = {
            "run": str(run_dir),
            "state": audit.state,
            "healthy": not audit.problems,
            "checked": audit.checked,
            "findings": [each.to_json() for each in audit.findings],
            "repairs": [each.to_json() for each in done],
            "next": following,
        }
        answer(json.dumps(told))
    else:
        answer(run_dir)
        _show(run_dir, audit, done, following)
    if audit.problems:
        count = len(audit.problems)
        stop(f"{run_dir}: {count} problem{'s' * (count > 1)}{' left' * repairs}", FAILED)


def _next(run_dir: Path, audit: Audit, repaired: bool) -> str:
    """The command to type next; empty if there is none."""
    from sweeps.run_directory import doctor_command, resume_command

    if audit.state == "running":
        return ""
    if not repaired and any(each.cure is not None for each in audit.problems):
        return f"{doctor_command(run_dir)} --repair"
    if audit.state == "interrupted" or any("resume" in each.todo for each in audit.problems):
        return resume_command(run_dir)
    return ""


def _show(run_dir: Path, audit: Audit, done: list[Repair], following: str) -> None:
    def say(text: str) -> None:
        click.echo(harmless(text), err=True)

    for each in done:
        say(f"repaired: {each.where}: {each.done}")
    for kind in ("problem", "note"):
        found = [each for each in audit.findings if each.severity == kind]
        for finding in found[:SHOWN]:
            for line in finding.lines():
                say(line)
        if len(found) > SHOWN:
            say(f"and {len(found) - SHOWN} more of these (--json has all)")
    looked_at = ", ".join(f"{number} {kind}" for kind, number in audit.checked.items())
    health = "healthy" if not audit.problems else "not healthy"
    say(f"{run_dir}: {health}; {audit.state}; looked at {looked_at or 'nothing'}")
    if following:
        say(f"next: {following}")


class _Bar:
    """How far an audit is that takes a while, on a terminal."""

    def __init__(self, console: Console) -> None:
        from rich.progress import Progress

        self._console = console
        self._progress = Progress(console=console, transient=True)
        self._begun = time.monotonic()
        self._shown = False
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._progress.stop()

    def update(self, what: str, done: int, of: int) -> None:
        """Show it, if it takes a while."""
        if not self._console.is_terminal or time.monotonic() - self._begun < BAR_AFTER:
            return
        if not self._shown:
            self._progress.start()
            self._shown = True
        self._progress.update(self._task, description=what, completed=done, total=max(of, 1))
