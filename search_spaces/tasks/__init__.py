"""The tasks that models are trained on, and their registry. Reading it loads no data."""

from __future__ import annotations

from functools import cache

from search_spaces.errors import SpaceError, shown, unknown
from search_spaces.plugins import is_import_path, load_object
from search_spaces.tasks.digits import DIGITS
from search_spaces.tasks.splits import classification_splits, regression_splits
from search_spaces.tasks.tables import BREAST_CANCER, DIABETES, WINE
from search_spaces.tasks.task import (
    ClassificationTask,
    Metric,
    Part,
    RegressionTask,
    Splits,
    Task,
)

_BUILT_IN: dict[str, Task] = {task.name: task for task in (DIGITS, BREAST_CANCER, WINE, DIABETES)}


def task_names() -> list[str]:
    """The names of the built-in tasks."""
    return list(_BUILT_IN)


def get_task(name: str) -> Task:
    """The built-in task of that name, or the user's by import path (``package.module:make``).

    The same object at every call, so that data is loaded once a process. Raises SpaceError.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if is_import_path(name):
        return _user_task(name)
    raise SpaceError(
        unknown("task", "task", name, [*_BUILT_IN, "an import path package.module:make"])
    )


@cache
def _user_task(path: str) -> Task:
    expected = "a function without arguments that returns a search_spaces.Task"
    make = load_object(path, "task", expected)
    try:
        task = make()
    except (Exception, SystemExit) as error:
        # The user's function may raise anything.
        raise SpaceError(
            f"task: {path}() raised {type(error).__name__}: {error}; expected {expected}"
        ) from error
    if not isinstance(task, Task):
        raise SpaceError(f"task: {path}() returned {shown(task)}; expected {expected}")
    return task


def task_spec(value):
    return value


__all__ = [
    "ClassificationTask",
    "Metric",
    "Part",
    "RegressionTask",
    "Splits",
    "Task",
    "classification_splits",
    "get_task",
    "regression_splits",
    "task_names",
]
