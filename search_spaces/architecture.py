"""An architecture: its name, its settings, the tasks that it fits, its builder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.dimensions import Scalar
from search_spaces.errors import SpaceError, unknown
from search_spaces.setting import Setting
from search_spaces.shape import TaskShape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """A family of models that differ in their settings.

    ``fits(shape)`` is None, or the reason why no such model can serve the task. ``builder(shape,
    **settings)`` makes the model with PyTorch's global generator, so that the caller's seed
    determines it. ``open_settings``: settings beyond those listed are handed on as they are.
    """

    name: str
    description: str
    settings: dict[str, Setting]
    fits: Callable[[TaskShape], str | None]
    builder: Callable[..., nn.Module]
    open_settings: bool = False

    def settings_for(self, names: Iterable[str], where: str) -> dict[str, Setting]:
        """The settings that hold where ``names`` are given. Raises SpaceError for unknown ones."""
        extra = [name for name in names if name not in self.settings]
        if extra and not self.open_settings:
            what = f"setting of {self.name}"
            raise SpaceError(
                *(unknown(f"{where}.{name}", what, name, self.settings) for name in extra)
            )
        free = {name: Setting("any", None, "handed on as it is", required=True) for name in extra}
        return {**self.settings, **free}

    def build(self, shape: TaskShape, **settings: Scalar) -> nn.Module:
        """A new model: (batch, *input_shape) -> (batch, outputs), float32, in training mode.

        Settings that are not given take their defaults. Draws from PyTorch's global generator.
        Raises SpaceError for a setting or a task that doesn't fit.
        """
        reason = self.fits(shape)
        if reason is not None:
            raise SpaceError(f"architecture {self.name}: {reason}")
        known = self.settings_for(settings, self.name)
        complete: dict[str, Scalar] = {}
        for name, setting in known.items():
            if setting.required and name not in settings:
                raise SpaceError(f"{self.name}.{name}: missing; must be {setting.rule()}")
            value = settings.get(name, setting.default)
            complete[name] = setting.value(value, f"{self.name}.{name}")
        return self.builder(shape, **complete)


def fits_all(shape: TaskShape) -> str | None:
    """For an architecture that can serve every task."""
    return None
