"""What can be told of a configured task without reading its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.tasks import get_task
from search_spaces.tasks.task import Metric


def task_metric(spec: str | Mapping[str, Any]) -> Metric:
    """What the models of a task are judged by."""
    return get_task(spec).metric


def task_name(spec: str | Mapping[str, Any]) -> str:
    """What a task is called."""
    return get_task(spec).name


def task_identity(spec: str | Mapping[str, Any]) -> Any:
    """A task as it determines its models: files by their content, wherever they lie."""
    return spec
