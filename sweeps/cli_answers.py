"""What every command of ``tracerank`` has in common: its answer, its end, its options."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from sweeps.exit_codes import DONE
from sweeps.plain_text import harmless

STDOUT = "tracerank.stdout"
"""Where the group keeps the descriptor of the real stdout in click's ``meta``."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
other_trials = click.option(
    "--trials", type=click.IntRange(min=1), help="Instead of the configuration's trials."
)
a_seed = click.option(
    "--seed", type=click.IntRange(min=0), help="Instead of the configuration's sampler.seed."
)


def answer(text: object) -> None:
    """What the command has for stdout, written at its end."""
    click.get_current_context().find_root().obj.append(text)


def answer_now(text: str, end: str = "\n") -> None:
    """The same for a command that goes on after it.

    Whoever reads may have seen enough: then the command ends well.
    """
    left = memoryview(f"{text}{end}".encode(errors="replace"))
    try:
        while left:
            left = left[os.write(click.get_current_context().meta[STDOUT], left) :]
    except BrokenPipeError:
        sys.exit(DONE)


def stop(message: str, code: int) -> NoReturn:
    """End with one message for people, which may hold names that others gave."""
    click.echo(f"tracerank: {harmless(message)}", err=True)
    sys.exit(code)
