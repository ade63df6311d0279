from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search_spaces import SpaceError, get_task, task_kinds, task_spec


@pytest.mark.parametrize(
    ("spec", "problems"),
    [
        (
            {},
            ["task: got {}; must have one key, of text_classification, language_modelling, image"],
        ),
        ({"text_classification": {}, "x": {}}, ["; must have one key, of text_classification"]),
        (
            {"text_clasification": {}},
            [
                "task: unknown kind of task 'text_clasification'; valid: "
                "text_classification, language_modelling, image_classificat"
            ],
        ),
        ({3: {}}, ["task: unknown kind of task 3; valid"]),
        (
            {"text_classification": 3},
            ["task.text_classification: got 3; must be a mapping with file"],
        ),
        (
            {"text_classification": None},
            ["task.text_classification.file: missing; must be a file end"],
        ),
        (
            {"text_classification": {"fil": "a.csv", "text": 3, 4: 5}},
            [
                "task.text_classification.fil: unknown setting of text_classification 'fil'; "
                "valid: file, text, label, split. Did you mean file?",
                "task.text_classification.4: unknown setting",
                "task.text_classification.file: missing",
                "task.text_classification.text: got 3; must be text",
            ],
        ),
        (
            {"image_classification": {"folder": "x", "size": 4}},
            ["task.image_classification.size: got 4; must be an integer from 8 to 1024"],
        ),
        (
            "digist",
            ["task: unknown task 'digist'; valid: digits, breast_cancer, wine, diabetes, verses"],
        ),
        (5, ["task: unknown task 5; valid"]),
        (None, ["task: unknown task None; valid"]),
        (["digits"], ["task: unknown task ['digits']; valid"]),
    ],
)
def test_bad_specifications(spec: Any, problems: list[str]) -> None:
    for read in (task_spec, get_task):
        with pytest.raises(SpaceError) as caught:
            read(spec)
        assert len(caught.value.problems) == len(problems)
        for problem, start in zip(caught.value.problems, problems, strict=True):
            assert start in problem


def test_the_plain_form_has_every_default() -> None:
    spec = task_spec({"text_classification": {"label": "stars", "file": "nowhere.csv"}})
    assert spec == {
        "text_classification": {
            "file": "nowhere.csv",
            "text": "text",
            "label": "stars",
            "split": "",
        }
    }
    assert task_spec(spec) == spec
    assert task_spec("digits") == "digits"
    assert task_spec("nowhere.tasks:make") == "nowhere.tasks:make"


def test_the_same_specification_gives_the_same_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(6))
    (tmp_path / "a.csv").write_text(rows)
    task = get_task({"text_classification": {"file": "a.csv"}})
    assert task is get_task({"text_classification": {"text": "text", "file": "a.csv"}})
    below = tmp_path / "below"
    below.mkdir()
    (below / "a.csv").write_text(rows)
    monkeypatch.chdir(below)
    assert get_task({"text_classification": {"file": "a.csv"}}) is not task


def test_kinds_tell_their_settings() -> None:
    kinds = {kind.name: kind for kind in task_kinds()}
    assert list(kinds) == ["text_classification", "language_modelling", "image_classification"]
    assert list(kinds["text_classification"].settings) == ["file", "text", "label", "split"]
    assert kinds["language_modelling"].metric.name == "bits_per_byte"
    assert all(kind.description for kind in kinds.values())
