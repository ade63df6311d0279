"""What checkpoints are called: as short as they can be told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from search_spaces.files import PACKAGE
from search_spaces.pretrained.checkpoint import SCRATCH, STATE_SUFFIXES


def short_names(checkpoints: Iterable[str]) -> dict[str, str]:
    """A name for each checkpoint, by how a configuration names it: that of its package, its folder
    or its file; and where this is another one's too, the whole.
    """
    names = {name: _short(name) for name in checkpoints}
    times = Counter(names.values())
    return {name: short if times[short] == 1 else name for name, short in names.items()}


def _short(name: str) -> str:
    scratch = SCRATCH if name.startswith(SCRATCH) else ""
    plain = name.removeprefix(SCRATCH).partition("@")[0]
    path = PurePosixPath(plain.removeprefix(PACKAGE))
    if path.suffix in STATE_SUFFIXES:
        return f"{scratch}{path.stem}"
    if plain.startswith(PACKAGE):
        return f"{scratch}{path.parts[0]}" if path.parts else name
    is_path = path.is_absolute() or len(path.parts) > 2 or plain.startswith(".")
    return f"{scratch}{path.name if is_path and path.name else plain}"
