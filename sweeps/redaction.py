"""What a training printed, without the secrets of its environment.

A model's own code may print anything; its last lines are kept with a failed training, and shown in
a report that is passed on. Secrets that are known by the name of their variable are taken out of
them. That is a net and no wall: a secret that is read from a file, or printed in another form,
stays.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping

SHORTEST = 8
"""Characters of a value that is looked for: a shorter one stands in texts by chance."""

SHORTEST_LINE = 16
"""Of a line of one with several, such as a key's, that is looked for by itself."""

_SECRET = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|ACCESS_KEY|PRIVATE_KEY)"
    r"(_|$)|^PGPASSWORD$",
    re.IGNORECASE,
)


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with each secret of the environment (this process's by default) replaced by its
    variable's name: ``<WANDB_API_KEY>``.
    """
    if not text:
        return text
    return _replaced(text, _secrets(os.environ if environment is None else environment))


class Redaction:
    """The same for a text that comes piece by piece, which may part a secret."""

    def __init__(self) -> None:
        self.held = ""
        """The end of the text so far, where it may be the beginning of a secret."""
        self._variables = -1
        self._secrets: dict[str, str] = {}
        self._joined = ""
        self._beginnings: tuple[str, ...] = ()

    def of(self, text: str) -> str:
        """What can be told once ``text`` has come too."""
        self._look()
        text = _replaced(self.held + text, self._secrets)
        told = len(text) - self._begun(text)
        self.held = text[told:]
        return text[:told]

    def _look(self) -> None:
        # A training's own code may load more of them. To read them all for each piece of a text
        # would take longer than all else, and a variable's value is seldom changed.
        if len(os.environ) == self._variables:
            return
        self._variables = len(os.environ)
        self._secrets = _secrets(os.environ)
        self._joined = "\0".join(self._secrets)
        self._beginnings = tuple({s[:size] for s in self._secrets for size in range(1, SHORTEST)})

    def _begun(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of a secret."""
        most, last = 0, text[-SHORTEST:]
        if not text:
            return 0
        if text.endswith(self._beginnings):
            most = max(len(each) for each in self._beginnings if text.endswith(each))
        # A key has many lines: most often one look at all of them is enough.
        for secret in self._secrets if last in self._joined else ():
            at = secret.find(last)
            while at >= 0:
                size = at + len(last)
                if most < size < len(secret) and text.endswith(secret[:size]):
                    most = size
                at = secret.find(last, at + 1)
        return most


def _replaced(text: str, secrets: Mapping[str, str]) -> str:
    for secret, name in secrets.items():
        text = text.replace(secret, f"<{name}>")
    return text


def _secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What is looked for, and of which variable; the longer first, as one may be a part of
    another.
    """
    found = {
        form: name
        for name, value in environment.items()
        # A path to a file with the secret isn't one.
        if _SECRET.search(name) and not (os.path.isabs(value) and os.path.lexists(value))
        for form in _forms(value)
    }
    return {form: found[form] for form in sorted(found, key=len, reverse=True)}


def _forms(value: str) -> Iterator[str]:
    """How a secret may stand in a text: whole or line by line, as it is or as Python and JSON
    write it.
    """
    lines = [line.strip() for line in value.splitlines()]
    for part in (value, *(line for line in lines if len(line) >= SHORTEST_LINE)):
        if len(part) >= SHORTEST:
            yield part
            yield repr(part)[1:-1]
            yield json.dumps(part)[1:-1]
            yield json.dumps(part, ensure_ascii=False)[1:-1]
