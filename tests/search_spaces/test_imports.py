from __future__ import annotations

import subprocess
import sys

import pytest

PARSE = """
import search_spaces
space = search_spaces.Space.parse({"architecture": ["mlp", "cnn", "gru", "transformer"]})
for name in search_spaces.task_names():
    task = search_spaces.get_task(name)
    for architecture in search_spaces.architecture_names():
        search_spaces.get_architecture(architecture).fits(task.shape)
    task.metric, task.train_size
"""


def loaded(code: str) -> set[str]:
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_reading_a_space_needs_nothing_heavy() -> None:
    heavy = {"torch", "sklearn", "scipy", "pandas", "ray", "optuna", "sweeps", "pydantic", "yaml"}
    heavy |= {"PIL", "pyarrow", "bible"}
    assert not loaded(PARSE) & heavy


def test_models_need_neither_ray_nor_optuna_nor_sweeps() -> None:
    build = "\ntask = search_spaces.get_task('digits'); task.data()\n"
    build += "search_spaces.initialise("
    build += "search_spaces.get_architecture('transformer').build(task.shape), 'orthogonal')"
    modules = loaded(PARSE + build)
    assert {"torch", "sklearn"} <= modules
    assert not modules & {"ray", "optuna", "sweeps"}


@pytest.mark.parametrize(
    "module",
    [
        "plugins",
        "setting",
        "tasks",
        "architectures",
        "initialisations",
        "common",
        "space",
        "files",
        "cache",
        "tasks.verses",
    ],
)
def test_every_module_can_be_imported_first(module: str) -> None:
    assert "search_spaces" in loaded(f"import search_spaces.{module}")
