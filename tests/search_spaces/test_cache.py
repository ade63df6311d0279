from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from search_spaces import Part, Splits
from search_spaces.cache import cache_folder, cached
from search_spaces.tasks.task import Array


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACERANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Makes the same splits at every call, and counts the calls."""

    def __init__(self, splits: Splits) -> None:
        self.splits, self.calls = splits, 0

    def __call__(self) -> Splits:
        self.calls += 1
        return self.splits


def splits_of(inputs: Array, pixels: tuple[Array, Array] | None = None) -> Splits:
    parts = [Part(inputs + number, np.arange(len(inputs))) for number in range(3)]
    return Splits(*parts, target_scale=0.1, pixels=pixels)  # type: ignore[misc]


def images() -> Maker:
    mean, deviation = np.full(3, 0.1, np.float32), np.full(3, 0.7, np.float32)
    return Maker(splits_of(np.arange(48, dtype=np.uint8).reshape(4, 3, 2, 2), (mean, deviation)))


def assert_same(one: Splits, other: Splits) -> None:
    for name in ("train", "validation", "test"):
        for array in ("inputs", "targets"):
            pair = [getattr(getattr(splits, name), array) for splits in (one, other)]
            assert pair[0].dtype == pair[1].dtype
            np.testing.assert_array_equal(*pair)
    assert one.target_scale == other.target_scale
    assert (one.pixels is None) == (other.pixels is None)
    for ours, theirs in zip(one.pixels or (), other.pixels or (), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_it_is_made_once_and_comes_back_the_same(folder: Path) -> None:
    make = images()
    for _ in range(3):
        assert_same(cached("key", make), make.splits)
    assert make.calls == 1
    assert [entry.name for entry in folder.iterdir()] == [next(folder.iterdir()).name]


def test_every_key_has_its_own(folder: Path) -> None:
    one, other = images(), Maker(splits_of(np.zeros((2, 2), np.float32)))
    assert_same(cached("one", one), one.splits)
    assert_same(cached("other", other), other.splits)
    assert_same(cached("one", other), one.splits)
    assert len(list(folder.iterdir())) == 2


NUMBER = itertools.count()
NUMBERS = st.sampled_from([np.uint8, np.int32, np.int64, np.float32, np.float64, np.bool_])


@settings(deadline=None, max_examples=25)
@given(
    NUMBERS.flatmap(lambda dtype: arrays(dtype, array_shapes(max_dims=4, max_side=3))),
    st.floats(1e-300, 1e300),
)
def test_any_numbers_come_back(inputs: Array, scale: float) -> None:
    part = Part(inputs, np.zeros((len(inputs), 0), np.int64))
    whole = Part(inputs, inputs)
    make = Maker(Splits(whole, whole, part, scale))
    key = f"number {next(NUMBER)}"
    for _ in range(2):
        assert_same(cached(key, make), make.splits)
    assert make.calls == 1


def test_arrays_are_mapped_and_writing_to_them_changes_no_file() -> None:
    make = images()
    first = cached("key", make)
    first.train.inputs[:] = 255
    assert torch.from_numpy(cached("key", make).train.inputs)[0, 0, 0, 0] == 0
    assert isinstance(first.train.inputs.base, np.memmap)


def test_texts_are_not_kept(folder: Path) -> None:
    part = Part(np.array(["a", "b"], object), np.zeros(2, np.int64))
    make = Maker(Splits(part, part, part))
    for _ in range(2):
        assert_same(cached("key", make), make.splits)
    assert make.calls == 2
    assert not folder.exists()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def spoil_key(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"key": "other"}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train_inputs.npy", Path.unlink),
        ("train_inputs.npy", cut),
        ("test_targets.npy", lambda file: file.write_bytes(b"")),
        ("test_targets.npy", lambda file: file.write_bytes(b"nothing of the kind")),
        ("test_targets.npy", lambda file: np.save(file, np.zeros(3))),
        ("test_targets.npy", lambda file: np.save(file, np.array([{}]), allow_pickle=True)),
        ("pixels_mean.npy", Path.unlink),
        ("splits.json", Path.unlink),
        ("splits.json", cut),
        ("splits.json", spoil_key),
        ("splits.json", lambda file: file.write_text("[]")),
        ("splits.json", lambda file: file.write_text('{"key": "key", "arrays": 3}')),
        ("splits.json", lambda file: file.write_bytes(b"\xff")),
    ],
)
def test_what_is_damaged_is_made_anew(
    folder: Path, name: str, damage: Callable[[Path], object]
) -> None:
    make = images()
    cached("key", make)
    (entry,) = folder.iterdir()
    damage(entry / name)
    for _ in range(2):
        assert_same(cached("key", make), make.splits)
    assert make.calls == 2
    assert [one.name for one in folder.iterdir()] == [entry.name]
    assert not (entry / "damaged").exists()


def test_a_file_in_the_place_of_an_entry_is_replaced(folder: Path) -> None:
    make = images()
    cached("key", make)
    (entry,) = folder.iterdir()
    for file in entry.iterdir():
        file.unlink()
    entry.rmdir()
    entry.write_text("")
    for _ in range(2):
        assert_same(cached("key", make), make.splits)
    assert make.calls == 2


def test_a_folder_that_can_t_be_written_means_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRACERANK_CACHE", str(tmp_path / "file" / "below"))
    make = images()
    for _ in range(2):
        assert_same(cached("key", make), make.splits)
    assert make.calls == 2


def test_a_disk_that_is_full_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    make = images()
    assert_same(cached("key", make), make.splits)
    assert not list(folder.iterdir())


def test_of_several_makers_the_first_wins(folder: Path) -> None:
    made = images().splits
    barrier = threading.Barrier(8)
    results: list[Splits] = []

    def make() -> Splits:
        barrier.wait(30)
        return made

    def work() -> None:
        results.append(cached("key", make))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for result in results:
        assert_same(result, made)
    assert len(list(folder.iterdir())) == 1


def test_what_the_maker_raises_is_raised(folder: Path) -> None:
    def make() -> Splits:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cached("key", make)
    assert not folder.exists()


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TRACERANK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "tracerank"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "tracerank"

    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)
    make = images()
    assert_same(cached("key", make), make.splits)
