from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search_spaces import ClassificationTask, SpaceError, get_task
from search_spaces.tasks.images import channel_statistics, read_images

Folder = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACERANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def save(path: Path, seed: int, size: tuple[int, int] = (12, 10), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images of cats and five of dogs, each another."""
    for i in range(10):
        save(tmp_path / "photos" / ("cat" if i % 2 else "dog") / f"{i}.png", i)
    return tmp_path / "photos"


def task_of(folder: Path, size: int = 8) -> ClassificationTask:
    task = get_task({"image_classification": {"folder": str(folder), "size": size}})
    assert isinstance(task, ClassificationTask)
    return task


def problems_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(SpaceError) as caught:
        task_of(folder)
    assert all(p.startswith("task.image_classification.folder: ") for p in caught.value.problems)
    return caught.value.problems


def test_a_folder_for_each_class(photos: Path) -> None:
    (photos / ".DS_Store").write_text("")
    (photos / "cat" / ".DS_Store").write_text("")
    (photos / "cat" / "Thumbs.db").write_text("")
    (photos / ".git").mkdir()
    (photos / "README.txt").write_text("mine")
    task = task_of(photos)
    assert task.name == "photos: 8 pixels"
    assert task.classes == ("cat", "dog")
    assert task.shape.input_shape == (3, 8, 8)
    data = task.data()
    assert task.train_size == 6
    for part, size in ((data.train, 6), (data.validation, 2), (data.test, 2)):
        assert part.inputs.dtype == np.uint8
        assert part.inputs.shape == (size, 3, 8, 8)
        assert np.bincount(part.targets).tolist() == [size // 2, size // 2]
    assert data.pixels is not None
    values = data.train.inputs / 255
    np.testing.assert_allclose(data.pixels[0], values.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(data.pixels[1], values.std((0, 2, 3)), rtol=1e-6)
    assert data.pixels[0].dtype == np.float32


def test_every_image_is_in_one_part(photos: Path) -> None:
    data = task_of(photos).data()
    there = [
        (image.tobytes(), number)
        for part in (data.train, data.validation, data.test)
        for image, number in zip(part.inputs, part.targets, strict=True)
    ]
    files = sorted(photos.glob("*/*.png"))
    pixels = read_images(files, 8, photos, "here")
    expected = [
        (p.tobytes(), int(f.parent.name == "dog")) for p, f in zip(pixels, files, strict=True)
    ]
    assert sorted(there) == sorted(expected)


def test_the_same_image_is_in_one_part(photos: Path) -> None:
    for file in sorted(photos.glob("*/*.png")):
        shutil.copy(file, file.with_stem(f"{file.stem}-again"))
    data = task_of(photos).data()
    sets = [{p.tobytes() for p in part.inputs} for part in (data.train, data.validation, data.test)]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 10


def test_folders_for_the_parts(tmp_path: Path) -> None:
    counts = {"train": 4, "validation": 2, "test": 1}
    for part, count in counts.items():
        for i in range(count):
            save(tmp_path / "set" / part / "a b" / f"{i}.png", i)
            save(tmp_path / "set" / part / "c" / f"{i}.jpg", i)
    data = task_of(tmp_path / "set").data()
    assert [len(p) for p in (data.train, data.validation, data.test)] == [8, 4, 2]
    assert np.bincount(data.test.targets).tolist() == [1, 1]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for i in range(6):
        save(tmp_path / "vehicles" / ("train" if i % 2 else "bus") / f"{i}.png", i)
    assert task_of(tmp_path / "vehicles").classes == ("bus", "train")


def test_what_is_told_of_the_content(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "copy")
    first = task_of(photos)
    assert task_of(tmp_path / "copy").content == first.content
    assert task_of(photos, 9).content == first.content
    (tmp_path / "copy" / "cat" / "1.png").rename(tmp_path / "copy" / "dog" / "1.png")
    (tmp_path / "other").symlink_to(tmp_path / "copy")
    assert task_of(tmp_path / "other").content != first.content


def test_images_are_decoded_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search_spaces.tasks import image_classification, kinds

    first = task_of(photos).data()
    monkeypatch.setattr(kinds, "_MADE", {})
    monkeypatch.setattr(image_classification, "read_images", None)
    again = task_of(photos).data()
    assert again is not first
    np.testing.assert_array_equal(again.train.inputs, first.train.inputs)


def test_without_a_cache_it_is_all_the_same(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = task_of(photos).data()
    (tmp_path / "link").symlink_to(photos)
    monkeypatch.setenv("TRACERANK_CACHE", "/proc/none")
    again = task_of(tmp_path / "link").data()
    np.testing.assert_array_equal(again.train.inputs, first.train.inputs)


def pixels_of(path: Path, size: int = 8) -> np.ndarray:
    return read_images([path], size, path.parent, "here")[0]


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (8, 8), (5, 90), (30, 30)])
def test_the_shorter_side_is_brought_to_size_and_the_middle_cut_out(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "a.png"
    width, height = size
    # A gradient: what is interpolated beyond the edge of the middle square hardly matters.
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 // width, y * 255 // height, (x + y) * 127 // (width + height)], -1)
    Image.fromarray(rgb.astype(np.uint8)).save(path)
    scale = 8 / min(size)
    whole = Image.open(path).resize(
        (round(width * scale), round(height * scale)), Image.Resampling.BILINEAR
    )
    left, top = (whole.width - 8) // 2, (whole.height - 8) // 2
    middle = np.asarray(whole.crop((left, top, left + 8, top + 8))).transpose(2, 0, 1)
    tolerance = 1 + 255 / min(whole.size) if size == (5, 90) else 12
    assert np.abs(pixels_of(path).astype(int) - middle).max() <= tolerance


def test_a_sliver_takes_no_more_memory_than_a_square(tmp_path: Path) -> None:
    Image.new("RGB", (1, 60_000), "red").save(tmp_path / "a.png")
    pixels = pixels_of(tmp_path / "a.png", 64)
    assert pixels.shape == (3, 64, 64)
    assert pixels[0].min() == 255


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 90, (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (1, 2, 3, 128), (1, 2, 3)),
        ("LA", (9, 128), (9, 9, 9)),
        ("P", 0, (0, 0, 0)),
        ("I;16", 0x8000, (128, 128, 128)),
    ],
)
def test_every_mode_is_read_as_rgb(
    tmp_path: Path, mode: str, colour: Any, expected: tuple[int, ...]
) -> None:
    Image.new(mode, (9, 9), colour).save(tmp_path / "a.png")
    assert pixels_of(tmp_path / "a.png")[:, 4, 4].tolist() == list(expected)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp", ".gif", ".tif", ".png"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (9, 9), (200, 10, 10)).save(tmp_path / f"a{suffix}")
    assert np.abs(pixels_of(tmp_path / f"a{suffix}")[:, 4, 4].astype(int) - [200, 10, 10]).max() < 6


def test_an_image_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16))
    image.paste("white", (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise brings the top to the right
    image.save(tmp_path / "a.png", exif=exif)
    pixels = pixels_of(tmp_path / "a.png")
    assert pixels[0, 4].tolist()[0] == 0
    assert pixels[0, 4].tolist()[-1] == 255


def test_channels_that_do_not_vary() -> None:
    pixels = np.zeros((2, 2, 3, 3), np.uint8)
    pixels[:, 1] = 255
    mean, deviation = channel_statistics(pixels)
    assert mean.tolist() == [0, 1]
    assert deviation.tolist() == [1, 1]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    save(path.with_suffix(".jpg"), 3, (60, 60))
    path.write_bytes(path.with_suffix(".jpg").read_bytes()[:900])
    path.with_suffix(".jpg").unlink()


def flipped(path: Path) -> None:
    content = bytearray(save(path, 3, (60, 60)).read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)


def bomb(path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(path)


def big_bomb(path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(path)


def deep(path: Path) -> None:
    Image.new("F", (9, 9)).save(path.with_suffix(".tif"))
    path.with_suffix(".tif").rename(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty, "cat/x.png is empty; must be an image"),
        (lambda path: path.write_text("a text, ü"), "cat/x.png is text; must be an image"),
        (lambda path: path.write_bytes(b"\0\1\2\3"), "cat/x.png is no image; must be an image"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "cat/x.png is no image; must"),
        (truncated, "cat/x.png is damaged: "),
        (flipped, "cat/x.png is damaged: "),
        (bomb, "cat/x.png has too many pixels; must have at most 89478485"),
        (big_bomb, "cat/x.png has too many pixels; must have at most 89478485"),
        (deep, "cat/x.png has pixels of 32 bits (mode F); must have 8 or 16"),
    ],
)
def test_what_is_no_image(photos: Path, make: Callable[[Path], Any], message: str) -> None:
    make(photos / "cat" / "x.png")
    problems = problems_of(photos)
    assert len(problems) == 1
    assert message in problems[0]


def test_of_many_files_the_first_are_named(photos: Path) -> None:
    for i in range(25):
        (photos / "dog" / f"x{i:02}.txt").write_text(f"a text {i}")
    problems = problems_of(photos)
    assert any("dog/x" in problem for problem in problems)
    assert "more files that are no whole image" in problems[-1]
    assert len(problems) == 11


def test_what_is_wrong_with_a_folder(tmp_path: Path, photos: Path) -> None:
    def told(what: Callable[[Path], Any], message: str) -> None:
        folder = tmp_path / "changed"
        shutil.copytree(photos, folder)
        what(folder)
        assert message in "\n".join(problems_of(folder))
        shutil.rmtree(folder)

    def only(part: str) -> Callable[[Path], Any]:
        return lambda folder: (folder / "dog").rename(folder / part)

    def parts(folder: Path) -> None:
        for part in ("train", "validation", "test"):
            shutil.copytree(photos, folder / part)
        shutil.rmtree(folder / "cat")
        shutil.rmtree(folder / "dog")

    def new_class(folder: Path) -> None:
        parts(folder)
        shutil.rmtree(folder / "train" / "cat")

    def no_images(folder: Path) -> None:
        parts(folder)
        for file in (folder / "test").glob("*/*"):
            file.unlink()

    def train_and(name: str) -> Callable[[Path], Any]:
        return lambda folder: [
            (folder / "dog").rename(folder / "train"),
            (folder / "cat").rename(folder / name),
        ]

    told(lambda folder: shutil.rmtree(folder / "dog"), "has one class, 'cat'; must have at least 2")
    told(train_and("test"), "holds the folders test, train; must be train, validation, test and")
    told(train_and("val"), "holds the folders train, val; must be train, validation, test and")
    told(new_class, "has classes of which train has no image: 'cat'; must have one of each")
    told(no_images, "has no image in test; must have one in each")
    told(lambda f: (f / "none").mkdir(), "fewer than 3 different images: 'none' (0); must have one")
    told(lambda f: save(f / "x.PNG", 1), "changed holds x.PNG; an image must be in its class's")
    told(lambda f: (f / "cat" / "in").mkdir(), "cat holds the folders in; a class's folder must")
    (tmp_path / "none").mkdir()
    assert "holds no folders; must hold one for each class" in problems_of(tmp_path / "none")[0]
    assert "is a file; must be a folder" in problems_of(photos / "cat" / "1.png")[0]
    assert "no file or folder" in problems_of(tmp_path / "nowhere")[0]
    (photos / "cat" / "link.png").symlink_to(photos / "nowhere.png")
    os.mkfifo(photos / "cat" / "pipe.png")
    assert [
        "cat/link.png is no file" in p or "cat/pipe.png is no file" in p
        for p in problems_of(photos)
    ] == [True, True]


def test_a_file_that_may_not_be_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("search_spaces.tasks.image_classification.content_hash", refused)
    assert "photos can't be read: [Errno 13] Permission denied" in problems_of(photos)[0]


def test_two_images_of_a_class_are_too_few(photos: Path) -> None:
    for i in range(4):
        shutil.copy(photos / "cat" / "1.png", save(photos / "fox" / f"{i}.png", 70))
    save(photos / "fox" / "9.png", 71)
    assert "fewer than 3 different images: 'fox' (1); must" in problems_of(photos)[0]


def test_without_pillow(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    (problem,) = problems_of(photos)
    assert (
        "images need Pillow, which isn't installed: pip install 'tracerank[pretrained]'" in problem
    )
