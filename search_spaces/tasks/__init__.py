"""The tasks that models are trained on, and their registry. Reading it loads no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from search_spaces.errors import SpaceError, shown, unknown
from search_spaces.plugins import is_import_path, load_object
from search_spaces.tasks.digits import DIGITS
from search_spaces.tasks.kinds import (
    TaskKind,
    adopt_task,
    forget_task,
    kind_files,
    kind_identity,
    kind_label,
    kind_metric,
    kind_spec,
    kind_task,
    task_kinds,
)
from search_spaces.tasks.language import LanguageTask
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
from search_spaces.tasks.verses import verses_language, verses_text

_BUILT_IN: dict[str, Callable[[], Task]] = {
    "digits": lambda: DIGITS,
    "breast_cancer": lambda: BREAST_CANCER,
    "wine": lambda: WINE,
    "diabetes": lambda: DIABETES,
    "verses_text": verses_text,
    "verses_language": verses_language,
}


def task_names() -> list[str]:
    """The names of the built-in tasks."""
    return list(_BUILT_IN)


def task_spec(value: object) -> str | dict[str, Any]:
    """A task as a configuration names it, checked and with every default filled in.

    A name or an import path is itself; ``{KIND: settings}`` has all its settings. No file is looked
    at and no module imported. Raises SpaceError with a line for each problem.
    """
    if isinstance(value, Mapping):
        return dict(kind_spec(value))
    if isinstance(value, str) and (value in _BUILT_IN or is_import_path(value)):
        return value
    ways = [*_BUILT_IN, "an import path package.module:make", "a mapping {KIND: settings}"]
    raise SpaceError(unknown("task", "task", value, ways))


def get_task(spec: str | Mapping[str, Any]) -> Task:
    """The built-in task of that name, the user's by import path (``package.module:make``), or one
    on the user's files, ``{KIND: settings}``, whose data is loaded at once.

    The same object at every call, so that data is loaded once a process. Raises SpaceError.
    """
    checked = task_spec(spec)
    if not isinstance(checked, str):
        return kind_task(checked)
    return _BUILT_IN[checked]() if checked in _BUILT_IN else _user_task(checked)


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


def task_metric(spec: str | Mapping[str, Any]) -> Metric:
    """What the models of a task are judged by; no file is looked at."""
    return get_task(spec).metric if isinstance(spec, str) else kind_metric(spec)


def task_name(spec: str | Mapping[str, Any]) -> str:
    """What a task is called; no file is looked at."""
    return spec if isinstance(spec, str) else kind_label(spec)


def task_files(spec: str | Mapping[str, Any]) -> dict[str, list[Path]]:
    """The files that a task names, by their name in it: none for one named by an absolute path
    or in a package, which isn't looked at. Raises SpaceError for one that isn't there.
    """
    return {} if isinstance(spec, str) else kind_files(spec)


def task_identity(spec: str | Mapping[str, Any], content: str = "") -> Any:
    """A task as it determines its models, as plain data: files by their content, wherever they lie.

    With ``content``, the `Task.content` that they had, no file is looked at. Raises SpaceError
    where they are not found.
    """
    return spec if isinstance(spec, str) else kind_identity(spec, content)


__all__ = [
    "ClassificationTask",
    "LanguageTask",
    "Metric",
    "Part",
    "RegressionTask",
    "Splits",
    "Task",
    "TaskKind",
    "adopt_task",
    "classification_splits",
    "forget_task",
    "get_task",
    "regression_splits",
    "task_files",
    "task_identity",
    "task_kinds",
    "task_metric",
    "task_name",
    "task_names",
    "task_spec",
]
