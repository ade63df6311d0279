from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from search_spaces import (
    Space,
    SpaceError,
    TaskShape,
    get_architecture,
    get_task,
    is_import_path,
)
from search_spaces import code_hash as code_hash_of_the_process

# A process keeps the hash of the code it imported; these tests look at the files themselves.
code_hash = code_hash_of_the_process.__wrapped__

SHAPE = TaskShape((4,), 2, "classification")
_numbers = itertools.count()

BUILDER = '''
from torch import nn

def build(shape, width: int = 8, rate: float = 1, name="x", bias: bool = True, free=None):
    """A line of its own.

    More.
    """
    return nn.Linear(shape.features, shape.outputs)

def needs(shape, width: int):
    return nn.Linear(shape.features, shape.outputs)

def anything(shape, **settings):
    model = nn.Linear(shape.features, shape.outputs)
    model.settings = settings
    return model

def nothing():
    pass

def wrong(shape):
    return "a model"

number = 3
'''

TASK = """
import numpy as np
from search_spaces import ClassificationTask, Part, Splits, TaskShape

def load():
    part = Part(np.zeros((9, 4), np.float32), np.arange(9) % 2)
    return Splits(part, part, part)

def make():
    return ClassificationTask("mine", TaskShape((4,), 2, "classification"), load)

def wrong():
    return 3

def fails():
    raise RuntimeError("no data")
"""

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module of a name of its own and gives the name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write_module(text: str) -> str:
        name = f"own_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write_module


@pytest.mark.parametrize("path", ["a:b", "pack.module:build", "_a.b_1:c"])
def test_import_paths(path: str) -> None:
    assert is_import_path(path)


@pytest.mark.parametrize("path", ["mlp", "a.b", "a:", ":b", "a:b:c", "a-b:c", "a:b.c", "1a:b", 3])
def test_what_is_no_import_path(path: object) -> None:
    assert not is_import_path(path)


def test_settings_come_from_the_signature(write: Write) -> None:
    architecture = get_architecture(f"{write(BUILDER)}:build")
    kinds = {name: setting.kind for name, setting in architecture.settings.items()}
    assert kinds == {"width": "int", "rate": "float", "name": "str", "bias": "bool", "free": "any"}
    assert architecture.settings["width"].default == 8
    assert architecture.description == "A line of its own."
    assert architecture.build(SHAPE, width=3)(torch.zeros(2, 4)).shape == (2, 2)


def test_a_user_s_builder_in_a_space(write: Write) -> None:
    path = f"{write(BUILDER)}:build"
    space = Space.parse({"architecture": {path: {"width": [4, 8]}}})
    drawn = space.draw(lambda name, d: d.to_yaml() if d.size() == 1 else 4)
    assert drawn[f"{path}.width"] == 4
    assert drawn[f"{path}.rate"] == 1.0
    assert isinstance(drawn[f"{path}.rate"], float)
    assert Space.parse(space.to_yaml()) == space


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        ("build", {"widht": 3}, "unknown setting of {path} 'widht'; valid: width, rate"),
        ("build", {"width": "wide"}, "{path}.width: got 'wide'; must be an integer"),
        ("build", {"name": 3}, "{path}.name: got 3; must be text"),
        ("build", {"bias": 1}, "{path}.bias: got 1; must be true or false"),
        ("needs", {}, "{path}.width: missing; must be an integer"),
        ("nothing", {}, "{path} takes no shape; expected a function build(shape, **settings)"),
        ("number", {}, "{path} is 3; expected a function build(shape, **settings)"),
        ("biuld", {}, "has no biuld; expected a function build(shape, **settings) that returns"),
    ],
)
def test_bad_builders(
    write: Write, function: str, settings: dict[str, object], message: str
) -> None:
    path = f"{write(BUILDER)}:{function}"
    with pytest.raises(SpaceError) as caught:
        Space.parse({"architecture": {path: settings}})
    assert message.format(path=path) in str(caught.value)
    assert str(caught.value).startswith(f"space.architecture.{path}")


def test_a_builder_with_open_settings(write: Write) -> None:
    path = f"{write(BUILDER)}:anything"
    space = Space.parse({"architecture": {path: {"heads": [2, 4], "kind": "x"}}})
    assert list(space.architectures[path]) == ["heads", "kind"]
    model = get_architecture(path).build(SHAPE, heads=2, kind="x")
    assert model.settings == {"heads": 2, "kind": "x"}


def test_a_builder_that_returns_no_module(write: Write) -> None:
    path = f"{write(BUILDER)}:wrong"
    with pytest.raises(SpaceError, match=r"returned 'a model'; expected a torch\.nn\.Module"):
        get_architecture(path).build(SHAPE)


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(SpaceError) as caught:
        get_architecture("nowhere.models:build")
    assert "cannot import module nowhere.models of nowhere.models:build" in str(caught.value)
    assert "put that on PYTHONPATH" in str(caught.value)
    assert "expected a function build(shape, **settings)" in str(caught.value)


def test_a_module_that_fails(write: Write) -> None:
    name = write("raise RuntimeError('not today')")
    with pytest.raises(SpaceError, match="RuntimeError: not today; expected a function"):
        get_architecture(f"{name}:build")


def test_a_user_s_task(write: Write) -> None:
    path = f"{write(TASK)}:make"
    task = get_task(path)
    assert task is get_task(path)
    assert task.train_size == 9
    assert task.baseline() == 5 / 9


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("wrong", "returned 3; expected a function without arguments that returns a search_spa"),
        ("fails", "raised RuntimeError: no data; expected a function without arguments"),
        ("mkae", "has no mkae; expected a function without arguments that returns"),
        ("load", "returned Splits("),
    ],
)
def test_bad_tasks(write: Write, function: str, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        get_task(f"{write(TASK)}:{function}")
    assert str(caught.value).startswith("task: ")
    assert message in str(caught.value)


def test_the_hash_of_a_module_is_that_of_its_file(tmp_path: Path, write: Write) -> None:
    name = write(BUILDER)
    before = code_hash(f"{name}:build")
    assert before == code_hash(f"{name}:needs")
    (tmp_path / "unrelated.py").write_text("")
    assert code_hash(f"{name}:build") == before
    (tmp_path / f"{name}.py").write_text(BUILDER + "\n")
    assert code_hash(f"{name}:build") != before


def test_the_hash_of_a_package_is_that_of_all_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(BUILDER)
    (package / "layers.py").write_text("")
    before = code_hash("own_package.models:build")
    assert before == code_hash("own_package.layers:other")
    (package / "notes.txt").write_text("nothing")
    assert code_hash("own_package.models:build") == before
    (package / "layers.py").write_text("x = 1")
    after = code_hash("own_package.models:build")
    assert after != before
    (package / "layers.py").rename(package / "blocks.py")
    assert code_hash("own_package.models:build") not in (before, after)


@pytest.mark.parametrize("path", ["nowhere:build", "nowhere.models:build", "sys:exit"])
def test_code_without_a_source(path: str) -> None:
    with pytest.raises(SpaceError, match="no module"):
        code_hash(path)
