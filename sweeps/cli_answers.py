"""What every command of ``tracerank`` has in common: its answer, its exit code, its options."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

STDOUT = "tracerank.stdout"
"""Where the group keeps the descriptor of the real stdout in click's ``meta``."""

DONE, FAILED, USAGE, STOPPED, NOT_FOUND, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


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
    """End with one message for people."""
    click.echo(f"tracerank: {message}", err=True)
    sys.exit(code)
