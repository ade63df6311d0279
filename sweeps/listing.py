"""What there is: architectures and initialisations, tasks, run directories, as rows for ``tracerank
list``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces import (
    INITIALISATIONS,
    Setting,
    architecture_names,
    get_architecture,
    get_task,
    task_kinds,
    task_names,
)

_READ = "texts, images or numbers, by what the checkpoint reads"


def listing(what: str, runs: Path) -> list[dict[str, Any]]:
    """Rows for ``spaces``, ``tasks`` or ``runs`` (the run directories under ``runs``)."""
    if what == "spaces":
        return _spaces()
    return _tasks() if what == "tasks" else _runs(runs)


def _spaces() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in architecture_names():
        architecture = get_architecture(name)
        fits = [task for task in task_names() if architecture.fits(get_task(task).shape) is None]
        rows.append(
            {
                "kind": "architecture",
                "name": name,
                "settings": _settings(architecture.settings),
                "tasks": ", ".join(fits) if architecture.source is None else _READ,
                "description": architecture.description,
            }
        )
    return rows + [
        {"kind": "init", "name": name, "settings": "", "tasks": ""} for name in INITIALISATIONS
    ]


def _settings(settings: Mapping[str, Setting]) -> str:
    """Each with its default; those without one have to be given."""
    return ", ".join(
        f"{name} (required)" if each.required else f"{name}={_plain(each.default)}"
        for name, each in settings.items()
    )


def _plain(value: object) -> str:
    return str(value) if value != "" else "''"


def _tasks() -> list[dict[str, Any]]:
    rows = []
    for name in task_names():
        task = get_task(name)
        rows.append(
            {
                "name": name,
                "kind": task.kind,
                "input": "×".join(map(str, task.shape.input_shape)) or "texts",
                "outputs": task.shape.outputs,
                "metric": f"{task.metric.name} ({task.metric.direction})",
                "description": task.description,
            }
        )
    for kind in task_kinds():
        rows.append(
            {
                "name": f"{{{kind.name}: ...}}",
                "kind": "files of yours",
                "metric": f"{kind.metric.name} ({kind.metric.direction})",
                "settings": _settings(kind.settings),
                "description": kind.description,
            }
        )
    return rows


def _runs(runs: Path) -> list[dict[str, Any]]:
    from sweeps.run_directory import RunDirectory, RunDirectoryError
    from sweeps.selection import read_trials

    rows = []
    for path in sorted(runs.glob("*/sweep.yaml")):
        run = RunDirectory(path.parent)
        note = ""
        states: list[str] | None = None
        try:
            run.require_plain()
            states = [trial.state for trial in read_trials(run)]
        except (ConnectionError, RunDirectoryError) as error:
            # The other runs may be elsewhere, or sound.
            note = str(error)
        counted = {
            state.lower(): None if states is None else states.count(state)
            for state in ("COMPLETE", "FAILED", "INTERRUPTED")
        }
        rows.append(
            {
                "run": str(run.path),
                "trials": None if states is None else len(states),
                **counted,
                "report": str(run.report / "index.html")
                if (run.report / "index.html").exists()
                else "",
                "note": note,
            }
        )
    return rows
