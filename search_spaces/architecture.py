"""An architecture: its name, its settings, the tasks that it fits, its builder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from search_spaces.dimensions import Dimension, Scalar
from search_spaces.errors import SpaceError, unknown
from search_spaces.setting import Setting
from search_spaces.shape import TaskShape

if TYPE_CHECKING:
    from torch import nn

    from search_spaces.tasks.task import Splits, Task


class Source(Protocol):
    """Where models come from that are not built from their settings alone: checkpoints."""

    def expanded(self, given: dict[str, Dimension], where: str) -> dict[str, Dimension]:
        """The settings as they are kept, from those of a configuration. Raises SpaceError."""

    def canonical(self, settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The settings with those that change nothing about this model at one fixed value."""

    def identity(self, settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The settings with what is named in them told by its content: a hash for a checkpoint's
        files, wherever they lie. Raises SpaceError where they are not found.
        """

    def files(self, given: Mapping[str, Dimension], where: str) -> dict[str, list[Path]]:
        """The files that these settings name, by their name in them: none for one named by an
        absolute path or in a package, which isn't looked at. Raises SpaceError for one that isn't
        there.
        """

    def contents(self, given: Mapping[str, Dimension]) -> dict[str, str]:
        """What tells the content of each file or folder that these settings name, by its name.
        Raises SpaceError.
        """

    def problems(self, task: Task, given: Mapping[str, Dimension], where: str) -> list[str]:
        """All that is wrong with these settings for the task and can be known before anything is
        trained, a line each with its key path.
        """

    def preparation(self, settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The settings, told by their content, on which `prepare` depends."""

    def prepare(self, task: Task, settings: Mapping[str, Scalar]) -> Splits:
        """The task's data as the model reads it. Raises SpaceError."""


@dataclass(frozen=True)
class Architecture:
    """A family of models that differ in their settings.

    ``fits(shape)`` is None, or the reason why no such model can serve the task. ``builder(shape,
    **settings)`` makes the model with PyTorch's global generator, so that the caller's seed
    determines it. ``open_settings``: settings beyond those listed are handed on as they are.
    ``source``: where its models come from, if not from their settings alone.
    """

    name: str
    description: str
    settings: dict[str, Setting]
    fits: Callable[[TaskShape], str | None]
    builder: Callable[..., nn.Module]
    open_settings: bool = False
    source: Source | None = None

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


def fits_numbers(shape: TaskShape) -> str | None:
    """For an architecture that can serve every task of numbers."""
    if shape.layout != "text":
        return None
    return "reads numbers, and the task has texts: take pretrained, which has a tokenizer"


def fresh_parts(model: nn.Module) -> list[nn.Module]:
    """The parts of a model that are drawn anew by an initialisation: all of it, unless it has a
    method ``fresh_parts()`` that returns those which don't come from a checkpoint.
    """
    told = getattr(model, "fresh_parts", None)
    return [model] if told is None else list(told())


def rate_scales(model: nn.Module) -> dict[str, float]:
    """By which factor each parameter's learning rate is another than the model's, by the names of
    ``model.named_parameters()``: as its method ``rate_scales()`` tells, if it has one; those that
    are not named have 1.
    """
    told = getattr(model, "rate_scales", None)
    return {} if told is None else dict(told())
