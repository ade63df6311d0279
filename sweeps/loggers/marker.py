"""Which trials a logger has written: a file that grows by a line before and after each of them."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from trace_core.durable import make_folder, owners

_LINE = re.compile(r"^(?:sweep [0-9a-f]{8}|begin [0-9]+|end [0-9]+)$", re.MULTILINE)


class Marker:
    """The file of one logger in one sweep.

    sweep: the sweep's id at the logger, 8 hexadecimal digits drawn when the file is made.
    ended: numbers of the trials that are written.
    begun: a trial that a killed driver was writing, or None.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            # A full disk, or one that lost its power, has torn the last line.
            os.truncate(path, len(whole))
        lines = [line.split() for line in _LINE.findall(whole.decode(errors="replace"))]
        named = [value for word, value in lines if word == "sweep"]
        self.sweep: str = named[0] if named else secrets.token_hex(4)
        self.ended = {int(value) for word, value in lines if word == "end"}
        last = next((int(value) for word, value in lines[::-1] if word == "begin"), None)
        self.begun = None if last in self.ended else last
        if not named:
            make_folder(path.parent)
            self._append(f"sweep {self.sweep}\n")

    def begin(self, number: int) -> None:
        """A trial is about to be written."""
        self._append(f"begin {number}\n")

    def end(self, number: int) -> None:
        """The trial is written."""
        self._append(f"end {number}\n")
        self.ended.add(number)

    def _append(self, text: str) -> None:
        with open(self._path, "a", opener=owners) as file:
            file.write(text)
