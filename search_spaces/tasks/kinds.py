"""Tasks on files of the user: ``{KIND: {setting: value, ...}}``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from search_spaces.dimensions import Scalar
from search_spaces.errors import SpaceError, listing, shown, unknown
from search_spaces.files import PACKAGE, locate
from search_spaces.setting import Setting
from search_spaces.tasks.image_classification import SETTINGS as IMAGES
from search_spaces.tasks.image_classification import image_classification
from search_spaces.tasks.language import LanguageTask
from search_spaces.tasks.language_modelling import SETTINGS as LANGUAGE
from search_spaces.tasks.language_modelling import language_modelling
from search_spaces.tasks.task import ClassificationTask, Metric, Task
from search_spaces.tasks.text_classification import SETTINGS as TEXTS
from search_spaces.tasks.text_classification import text_classification


@dataclass(frozen=True)
class TaskKind:
    """A kind of task on files of the user.

    ``settings``: the rule of each; the first names the file or folder. ``metric``: of all tasks of
    the kind, so that it is known where the files aren't. ``make(settings, path, where)``: the task.
    """

    name: str
    description: str
    settings: dict[str, Setting]
    metric: Metric
    make: Callable[[Mapping[str, Scalar], Path, str], Task]


_KINDS = {
    kind.name: kind
    for kind in (
        TaskKind(
            "text_classification",
            "the class of a text, from a table",
            TEXTS,
            ClassificationTask.metric,
            text_classification,
        ),
        TaskKind(
            "language_modelling",
            "the next token of a text, from a table or a .txt",
            LANGUAGE,
            LanguageTask.metric,
            language_modelling,
        ),
        TaskKind(
            "image_classification",
            "the class of an image, from a folder of folders",
            IMAGES,
            ClassificationTask.metric,
            image_classification,
        ),
    )
}


def task_kinds() -> list[TaskKind]:
    """The kinds of tasks on files of the user."""
    return list(_KINDS.values())


def kind_spec(value: Mapping[Any, Any]) -> dict[str, dict[str, Scalar]]:
    """``{KIND: settings}`` checked, with all defaults filled in; no file is looked at.

    Raises SpaceError with a line for each problem, by its key path.
    """
    if len(value) != 1:
        raise SpaceError(f"task: got {shown(dict(value))}; must have one key, of {listing(_KINDS)}")
    ((name, given),) = value.items()
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise SpaceError(unknown("task", "kind of task", name, _KINDS))
    where = f"task.{name}"
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise SpaceError(
            f"{where}: got {shown(given)}; must be a mapping with {listing(kind.settings)}"
        )
    problems = [
        unknown(f"{where}.{key}", f"setting of {name}", key, kind.settings)
        for key in given
        if key not in kind.settings
    ]
    settings: dict[str, Scalar] = {}
    for key, setting in kind.settings.items():
        if setting.required and key not in given:
            problems.append(f"{where}.{key}: missing; must be {setting.description}")
            continue
        try:
            settings[key] = setting.value(given.get(key, setting.default), f"{where}.{key}")
        except SpaceError as error:
            problems += error.problems
    if problems:
        raise SpaceError(*problems)
    return {name: settings}


def kind_files(value: Mapping[Any, Any]) -> dict[str, list[Path]]:
    """The files of ``{KIND: settings}``, as of `task_files`."""
    ((name, settings),) = kind_spec(value).items()
    source = next(iter(settings))
    given = str(settings[source])
    if PurePosixPath(given).is_absolute() or given.startswith(PACKAGE):
        return {given: []}
    path = locate(given, f"task.{name}.{source}")
    if path.is_dir():
        return {given: sorted(each for each in path.rglob("[!.]*") if each.is_file())}
    return {given: [path]}


_MADE: dict[tuple[str, Path], Task] = {}
_ADOPTED: dict[str, Task] = {}


def kind_metric(value: Mapping[Any, Any]) -> Metric:
    """The metric of ``{KIND: settings}``."""
    ((name, _),) = kind_spec(value).items()
    return _KINDS[name].metric


def kind_label(value: Mapping[Any, Any]) -> str:
    """What the task of ``{KIND: settings}`` is called where its files may not be at hand."""
    ((name, settings),) = kind_spec(value).items()
    source = PurePosixPath(str(settings[next(iter(settings))]))
    return f"{name} of {source.name}"


def kind_identity(value: Mapping[Any, Any], content: str = "") -> dict[str, Any]:
    """``{KIND: settings}`` with its files told by their ``content``, which is taken from the files
    where it isn't given. Raises SpaceError.
    """
    ((name, settings),) = kind_spec(value).items()
    source = next(iter(settings))
    return {name: {**settings, source: content or kind_task(value).content}}


def adopt_task(value: Mapping[Any, Any], task: Task) -> None:
    """Have `kind_task` answer with this task for ``{KIND: settings}``, from now on in this process,
    which then needs no files: another one has read them.
    """
    _ADOPTED[json.dumps(kind_spec(value), sort_keys=True)] = task


def forget_task(value: Mapping[Any, Any]) -> None:
    """Have `kind_task` read the files of ``{KIND: settings}`` anew when it is next asked: a process
    may live longer than what they hold.
    """
    told = json.dumps(kind_spec(value), sort_keys=True)
    _ADOPTED.pop(told, None)
    for key in [key for key in _MADE if key[0] == told]:
        del _MADE[key]


def kind_task(value: Mapping[Any, Any]) -> Task:
    """The task of ``{KIND: settings}``, with its data loaded: whatever is wrong with a file is said
    here. The same object for the same settings and path. Raises SpaceError.
    """
    spec = kind_spec(value)
    told = json.dumps(spec, sort_keys=True)
    if told in _ADOPTED:
        return _ADOPTED[told]
    ((name, settings),) = spec.items()
    kind = _KINDS[name]
    source = next(iter(kind.settings))
    path = locate(str(settings[source]), f"task.{name}.{source}")
    key = told, path
    if key not in _MADE:
        task = kind.make(settings, path, f"task.{name}")
        task.data()
        _MADE[key] = task
    return _MADE[key]
