"""The one error of this package, and the words its messages are made of."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence


class SpaceError(ValueError):
    """A space, architecture, initialisation or task that is not valid.

    ``problems`` has one line each; every line names the place, the value, and the rule or the
    valid choices. ``str()`` joins them by newlines.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(map(in_a_line, problems))
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[SpaceError], tuple[str, ...]]:
        return type(self), self.problems


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        try:
            return super().repr_int(x, level)
        except ValueError:
            # Python writes no number of so many digits.
            return f"a number of about {x.bit_length() * 0.30103:.0f} digits"


# Nested aliases of a few lines of YAML can stand for a billion values; this never writes them out.
_REPR = _Short()
_REPR.maxlevel = 3
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 12
_REPR.maxstring = _REPR.maxother = 60


def shown(value: object, limit: int = 60) -> str:
    """The value as a message quotes it: its ``repr``, cut at ``limit`` characters."""
    text = "".join(map(_visible, _REPR.repr(value)))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def in_a_line(text: str, limit: int = 2000) -> str:
    """A message on one line, and nothing in it that a terminal would obey: what users and other
    packages call things may hold anything. One that is too long loses its middle: it begins with
    where it is, and ends with the rule.
    """
    line = " ".join(str(text).splitlines())
    half = limit // 2
    line = line if len(line) <= limit else f"{line[:half]}…{line[-half:]}"
    return line if line.isprintable() else "".join(map(_visible, line))


def _visible(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def first_line(error: BaseException) -> str:
    """What another package's error says, for a message of our own: its first line, and where that
    only leads to what follows (``Validation error for 'X':``) the lines after it, cut at 300
    characters; the name of its class where it says nothing.
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return in_a_line(" ".join(lines) if lines[0].endswith(":") else lines[0], 300)


def listing(names: Iterable[object]) -> str:
    """Names for a message, separated by commas."""
    return ", ".join(str(name) for name in names)


def first_few(names: Sequence[object], most: int = 5) -> str:
    """As `listing`, of which only the first are told and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return listing(names[:most]) + more


def did_you_mean(name: object, choices: Iterable[object]) -> str:
    """``. Did you mean X?`` for the choice nearest to ``name``, or an empty string."""
    by_lower = {str(choice).lower(): str(choice) for choice in choices}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.55)
    return f". Did you mean {by_lower[close[0]]}?" if close else ""


def unknown(where: str, what: str, name: object, choices: Iterable[object]) -> str:
    """The message for a name that is none of the choices."""
    names = list(choices)
    valid = listing(names) if names else "none"
    return f"{where}: unknown {what} {shown(name)}; valid: {valid}{did_you_mean(name, names)}"
