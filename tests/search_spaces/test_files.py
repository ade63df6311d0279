from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from search_spaces import SpaceError
from search_spaces.files import content_hash, locate


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    assert locate(str(tmp_path / "a.csv"), "here") == tmp_path / "a.csv"


def test_the_current_folder_comes_before_those_of_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, modules = tmp_path / "here", tmp_path / "modules"
    for folder in (here, modules):
        folder.mkdir()
        (folder / "both.csv").write_text("")
    (modules / "one.csv").write_text("")
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(modules)
    assert locate("both.csv", "here") == here / "both.csv"
    assert locate("one.csv", "here") == modules / "one.csv"
    assert locate("one.csv", "here").is_absolute()


def test_folders_of_installed_packages_are_not_looked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    installed = Path(pytest.__file__).parent.parent
    assert str(installed) in sys.path
    with pytest.raises(SpaceError) as caught:
        locate("pytest", "here")
    assert "looked for in" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "site-packages" not in str(caught.value)


def test_a_path_inside_a_package_that_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "no_import"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError")
    (package / "data.csv").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert locate("pkg:no_import/data.csv", "here") == package / "data.csv"
    assert locate("pkg:no_import", "here") == package
    assert "no_import" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "got ''; must be the path of a file or folder"),
        ("a\0b", "must be the path of a file or folder"),
        ("nothing.csv", "no file or folder 'nothing.csv'; looked for in"),
        ("/nowhere/nothing.csv", "no file or folder '/nowhere/nothing.csv'"),
        ("/" + "x" * 5000, "no file or folder '/xx"),
        ("pkg:", "must be pkg:PACKAGE/PATH"),
        ("pkg:/etc/passwd", "must be pkg:PACKAGE/PATH"),
        ("pkg:numpy//etc/passwd", "must be pkg:PACKAGE/PATH"),
        ("pkg:numpy/../torch", "must be pkg:PACKAGE/PATH"),
        ("pkg:numpy.linalg/x", "must be pkg:PACKAGE/PATH"),
        ("pkg:nowhere_at_all/x", "no package nowhere_at_all is installed for"),
        ("pkg:sys/x", "no package sys is installed"),
        ("pkg:__main__/x", "no package __main__ is installed"),
        ("pkg:numpy/nothing.csv", "no file or folder "),
    ],
)
def test_what_is_not_found(name: str, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        locate(name, "task.file")
    assert str(caught.value).startswith("task.file: ")
    assert message in str(caught.value)


def write(folder: Path, **files: str) -> list[Path]:
    paths = []
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path)
    return paths


def test_the_hash_tells_names_and_bytes_and_not_the_place(tmp_path: Path) -> None:
    files = write(tmp_path / "one", cat__x="1", dog__x="2")
    known = content_hash(files)
    assert content_hash(files[::-1]) == known
    assert content_hash(write(tmp_path / "two", cat__x="1", dog__x="2")) == known
    assert content_hash(write(tmp_path / "three", cat__x="2", dog__x="1")) != known
    assert content_hash(write(tmp_path / "four", cat__x="1", fox__x="2")) != known
    assert content_hash(write(tmp_path / "five", a="1")) != content_hash([])


def test_a_file_that_changes_has_another_hash(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a="1")
    first = content_hash([path])
    path.write_text("2")
    os.utime(path, ns=(1, 1))
    assert content_hash([path]) != first


def test_a_file_is_read_once(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a="1")
    os.utime(path, ns=(7, 7))
    first = content_hash([path])
    path.write_text("2")
    os.utime(path, ns=(7, 7))
    assert content_hash([path]) == first
