"""The files that a configuration names: its data and its checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces import source_of, task_files
from search_spaces.files import PACKAGE
from sweeps.jobs.errors import some

if TYPE_CHECKING:
    from sweeps.config import SweepConfig


@dataclass(frozen=True)
class Named:
    """``relative``: the files that belong to each relative name, here. ``absolute``: names of what
    isn't sent. What installed packages hold, and what a hub has, needs nothing.
    """

    relative: Mapping[str, list[Path]] = field(default_factory=dict)
    absolute: tuple[str, ...] = ()

    def tell_nodes(self, note: Callable[[str], None]) -> None:
        """Say what isn't sent."""
        if self.absolute:
            note(
                "not sent, as named by an absolute path, under which every node of the cluster "
                f"must have it: {some(self.absolute)}"
            )

    def tell_image(self, note: Callable[[str], None]) -> None:
        """Say what an image has to hold, as nothing is sent."""
        if self.absolute:
            note(f"must be in the image, or mounted, by that path: {some(self.absolute)}")
        if self.relative:
            note(
                "must be in the image, in its working directory or in a folder of its PYTHONPATH: "
                f"{some(self.relative)}"
            )


def named_files(config: SweepConfig) -> Named:
    """The files that a configuration names. Raises SpaceError where one named relatively isn't
    here.
    """
    found = dict(task_files(config.task))
    for name, given in config.space.architectures.items():
        source = source_of(name)
        if source is not None:
            found |= source.files(given, f"space.architecture.{name}")
    absolute = tuple(name for name in found if os.path.isabs(name))
    kept = {
        name: files
        for name, files in found.items()
        if name not in absolute and not name.startswith(PACKAGE)
    }
    return Named(kept, absolute)
