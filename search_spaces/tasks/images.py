"""Image files as pixels of one size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from search_spaces.errors import SpaceError
from search_spaces.tasks.task import Array

if TYPE_CHECKING:
    from PIL import Image

SHOWN = 10
"""Of how many files a message tells what is wrong."""


def pillow_version(place: str) -> str:
    """Of the package that decodes images. Raises SpaceError where it isn't installed."""
    try:
        import PIL
    except ImportError:
        raise SpaceError(
            f"{place}: images need Pillow, which isn't installed: "
            "pip install 'tracerank[pretrained]'"
        ) from None
    return PIL.__version__


def read_images(paths: Sequence[Path], size: int, root: Path, place: str) -> Array:
    """The images as (n, 3, size, size) uint8.

    Each is turned as its camera says, read as RGB, and its middle square brought to ``size`` by
    bilinear interpolation with antialiasing: the same as bringing its shorter side to ``size`` and
    cutting out the middle. Of several pictures in a file it is the first. Raises SpaceError with a
    line for each of the first files, named from ``root``, that are no whole image.
    """
    from PIL import Image

    pixels = np.empty((len(paths), 3, size, size), np.uint8)

    def read(index: int) -> str | None:
        try:
            pixels[index] = _pixels(paths[index], size)
        except Exception as error:
            # The decoders of Pillow raise anything for a file that is damaged.
            return f"{place}: {paths[index].relative_to(root)} {_fault(paths[index], error)}"
        return None

    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")
        # Far below the size that Pillow refuses by itself it warns.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        problems = [problem for problem in pool.map(read, range(len(paths))) if problem]
    if len(problems) > SHOWN:
        more = f"{place}: {len(problems) - SHOWN} more files that are no whole image"
        problems = [*problems[:SHOWN], more]
    if problems:
        raise SpaceError(*problems)
    return pixels


def _pixels(path: Path, size: int) -> Array:
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        image: Image.Image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I;16"):
            # Pillow would cut off all above 255.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise _UnfitError(f"has pixels of 32 bits (mode {image.mode}); must have 8 or 16")
        image = image.convert("RGB")
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    small = image.resize((size, size), Image.Resampling.BILINEAR, box)
    return np.asarray(small).transpose(2, 0, 1)


class _UnfitError(Exception):
    """An image that can be read and not used; the message says why."""


def _fault(path: Path, error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, _UnfitError):
        return str(error)
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"has too many pixels; must have at most {Image.MAX_IMAGE_PIXELS}"
    if isinstance(error, UnidentifiedImageError):
        return f"is {_what(path)}; must be an image"
    return f"is damaged: {type(error).__name__}: {error}"


def _what(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        return "empty"
    return "no image" if b"\0" in start or not _is_text(start) else "text"


def _is_text(start: bytes) -> bool:
    try:
        # The last character may be cut.
        start[:-3].decode()
    except UnicodeDecodeError:
        return False
    return True


def channel_statistics(pixels: Array) -> tuple[Array, Array]:
    """Mean and deviation of each channel of (n, channels, height, width) uint8, on a scale from 0
    to 1, (channels,) float32; a deviation of 0 counts as 1.
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(pixels.shape[1]):
        counts = np.zeros(256, np.int64)
        for image in pixels[:, channel]:
            counts += np.bincount(image.ravel(), minlength=256)
        mean = (counts * values).sum() / counts.sum()
        deviation = np.sqrt((counts * np.square(values - mean)).sum() / counts.sum())
        means.append(mean)
        deviations.append(deviation if deviation else 1.0)
    return np.array(means, np.float32), np.array(deviations, np.float32)
