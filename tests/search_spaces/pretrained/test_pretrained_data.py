from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_checkpoints import (
    CONVOLUTIONS,
    RECURRENT,
    SOURCE,
    TEXTS,
    bert,
    image_task,
    language_task,
    number_task,
    problems,
    settings,
    text_task,
)
from transformers import AutoTokenizer

from search_spaces import SpaceError, Splits, get_task
from search_spaces.pretrained.packages import quiet

CORPUS = [
    "the cat sat on the mat, and then the other thing; " * 4,
    "naïve café — 東京 🦉🦉 the end",
    "ab",
    "x",
    "",
    "  spaces  and\nlines\t",
]


def prepared(task: Any, checkpoint: Path, **changes: Any) -> Splits:
    found: Splits = SOURCE.prepare(task, settings(checkpoint, **changes))
    return found


def tokenizer(folder: Path) -> Any:
    with quiet():
        return AutoTokenizer.from_pretrained(folder)


def test_texts_are_token_ids_and_minus_one(checkpoints: dict[str, Path]) -> None:
    splits = prepared(text_task(), checkpoints["bert"])
    part = splits.train
    assert part.inputs.dtype == np.int32
    assert splits.pixels is None
    np.testing.assert_array_equal(part.targets, text_task().data().train.targets)
    whole = tokenizer(checkpoints["bert"])
    for text, row in zip(TEXTS, part.inputs, strict=True):
        ids = whole(text)["input_ids"]
        assert row[: len(ids)].tolist() == ids
        assert set(row[len(ids) :].tolist()) <= {-1}
    assert (part.inputs >= 0).any(axis=0).all()


def test_long_texts_are_cut_and_keep_their_last_token(checkpoints: dict[str, Path]) -> None:
    part = prepared(text_task(["abc " * 40, "a"]), checkpoints["bert"], max_length=8).train
    assert part.inputs.shape == (2, 8)
    assert part.inputs[0, -1] == 3


def test_an_empty_text_is_one_token(checkpoints: dict[str, Path]) -> None:
    part = prepared(text_task(["", "ab"]), checkpoints["gpt2"]).train
    assert part.inputs.tolist() == [[0, -1], part.inputs[1].tolist()]


def test_tokens_that_the_model_lacks(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert", vocab_size=31)
    added = tokenizer(folder)
    added.add_tokens(["zebra"])
    added.save_pretrained(folder)
    assert problems(text_task(), {"checkpoint": str(folder)}) == []
    prepared(text_task(), folder)
    with pytest.raises(SpaceError, match="gives token 31, and its model has embeddings for 31"):
        prepared(text_task(["a zebra", "no"]), folder)


def test_all_parts_have_rows_of_one_length(checkpoints: dict[str, Path]) -> None:
    task = text_task()
    long = text_task(["a" * 30, "b"]).data().train
    object.__setattr__(task.data(), "test", long)
    splits = prepared(task, checkpoints["bert"])
    assert splits.train.inputs.shape[1] == splits.test.inputs.shape[1] == 32


@pytest.mark.parametrize("length", [8, 16, 128])
def test_no_text_is_lost_in_blocks(checkpoints: dict[str, Path], length: int) -> None:
    part = prepared(language_task(CORPUS), checkpoints["gpt2"], max_length=length).train
    whole = tokenizer(checkpoints["gpt2"])
    expected = []
    for text in CORPUS:
        ids = whole(text)["input_ids"]
        blocks = [ids[at : at + length] for at in range(0, len(ids), length)]
        expected += [block for block in blocks if len(block) >= 2]
    found = [row[row >= 0].tolist() for row in part.inputs]
    assert found == expected
    assert part.targets.dtype == np.int64
    np.testing.assert_array_equal(part.targets[:, 1:], part.inputs)


def test_bytes_are_those_of_the_tokens_after_the_first(checkpoints: dict[str, Path]) -> None:
    plain = [CORPUS[0], "ab", "  spaces  and\nlines\t"]
    part = prepared(language_task(plain), checkpoints["gpt2"], max_length=16).train
    whole = tokenizer(checkpoints["gpt2"])
    # Its tokens are bytes, but for one pair.
    for row, count in zip(part.inputs, part.targets[:, 0], strict=True):
        assert count == len(whole.decode(row[row >= 0][1:]).encode())
    assert part.targets[:, 0].sum() < sum(map(len, plain))


def test_bytes_of_characters_that_are_several_tokens(checkpoints: dict[str, Path]) -> None:
    text = CORPUS[1]
    part = prepared(language_task([text]), checkpoints["gpt2"]).train
    assert part.targets[0, 0] == len(text.encode()) - 1
    # Each token is a byte, but for the pair: of a character that is cut each block has its own.
    for length in (8, 9, 10, 11):
        cut = prepared(language_task([text]), checkpoints["gpt2"], max_length=length).train
        names = tokenizer(checkpoints["gpt2"]).convert_ids_to_tokens
        for row, count in zip(cut.inputs, cut.targets[:, 0], strict=True):
            assert count == sum(map(len, names(row[row >= 0].tolist()[1:])))


def test_texts_are_read_from_their_beginning(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation_side": "left"}))
    row = prepared(text_task(["abcdefghijklmnop"]), folder, max_length=8).train.inputs[0]
    assert tokenizer(folder).convert_ids_to_tokens(row) == ["[CLS]", *"abcdef", "[SEP]"]


def test_special_tokens_stand_for_no_bytes(checkpoints: dict[str, Path]) -> None:
    from search_spaces.pretrained.tokens import _blocks

    # What it doesn't know is one token more, which stands for none either.
    texts = np.array(["abc", "abé"], object)
    found, read = _blocks(tokenizer(checkpoints["bert"]), texts, 128)
    assert [len(block) for block in found] == [5, 5]
    assert read == [3, 2]


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_images_at_the_checkpoints_size(checkpoints: dict[str, Path], kind: str) -> None:
    splits = prepared(image_task(side=8), checkpoints[kind])
    side = {"vit": 8, "resnet": 16}[kind]
    assert splits.train.inputs.shape == (12, 3, side, side)
    assert splits.train.inputs.dtype == np.uint8
    assert splits.pixels is not None
    np.testing.assert_allclose(splits.pixels[0], [0.5, 0.4, 0.3])
    np.testing.assert_allclose(splits.pixels[1], [0.5, 0.25, 0.2])
    if side == 8:
        np.testing.assert_array_equal(splits.train.inputs, image_task().data().train.inputs)


def test_images_shrink_as_pillow_shrinks_them(checkpoints: dict[str, Path]) -> None:
    from PIL import Image

    images = image_task(side=20).data().train.inputs
    found = prepared(image_task(side=20), checkpoints["cnn"], builder=CONVOLUTIONS, image_size=8)
    for image, ours in zip(images, found.train.inputs, strict=True):
        asked = Image.fromarray(image.transpose(1, 2, 0))
        theirs = np.asarray(asked.resize((8, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert np.abs(theirs.astype(int) - ours.astype(int)).max() <= 1


def test_digits_are_spread_over_bytes_and_three_channels(checkpoints: dict[str, Path]) -> None:
    task = get_task("digits")
    splits = prepared(task, checkpoints["cnn"], builder=CONVOLUTIONS)
    inputs = splits.train.inputs
    assert inputs.shape == (len(task.data().train), 3, 8, 8)
    assert (inputs.min(), inputs.max()) == (0, 255)
    np.testing.assert_array_equal(inputs[:, 0], inputs[:, 2])
    plain = task.data().train.inputs[:, 0]
    expected = (plain - plain.min()) / (plain.max() - plain.min()) * 255
    np.testing.assert_allclose(inputs[:, 1], expected, atol=0.51)
    assert splits.pixels is not None
    np.testing.assert_allclose(splits.pixels[0], [0.485, 0.456, 0.406])


def test_a_model_without_convolutions_reads_the_tasks_own_data(
    checkpoints: dict[str, Path],
) -> None:
    task = number_task((6, 4))
    assert prepared(task, checkpoints["lstm"], builder=RECURRENT) is task.data()


def test_a_users_model_of_grey_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_grey.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 9))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import own_grey  # type: ignore[import-not-found]

    torch.save(own_grey.build().state_dict(), tmp_path / "grey.pt")
    given = {"checkpoint": str(tmp_path / "grey.pt"), "builder": "own_grey:build"}
    digits = get_task("digits")
    assert problems(digits, given) == []
    splits = prepared(digits, tmp_path / "grey.pt", builder="own_grey:build")
    assert splits.train.inputs.shape[1:] == (1, 8, 8)
    assert "reads images of 1 channels, and the task's have 3" in problems(image_task(), given)[0]


def test_preparing_draws_nothing(checkpoints: dict[str, Path]) -> None:
    before = torch.get_rng_state()
    prepared(image_task(), checkpoints["cnn"], builder=CONVOLUTIONS)
    prepared(text_task(), checkpoints["bert"])
    assert torch.equal(before, torch.get_rng_state())
