"""Reading the tensors of a checkpoint's files, and saying how they don't fit a model."""

from __future__ import annotations

import os
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from search_spaces.errors import SpaceError, first_few, first_line, shown
from search_spaces.pretrained.packages import needed

Shape = tuple[int, ...]
_TYPES = {
    "I8": torch.int8,
    "U8": torch.uint8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
"""What safetensors calls the types that aren't of floating point."""
# Under which a training's checkpoint keeps the model's state, beside the optimiser's.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# Also in trace_core/checkpoints/opened.py: neither package imports the other.
_LONGEST_NAME = 1000
"""Characters of an object's name in a pickle."""
_TOO_LONG = f"it names an object by more than {_LONGEST_NAME:,} characters"


def read(files: Iterable[Path], where: str, *, values: bool = True) -> dict[str, Tensor]:
    """The tensors of these files by name; those of floating point in float32.

    Without ``values`` they are on the meta device: names and shapes alone, for which no more is
    read than must be. Nothing in a file is run: pickles may hold tensors and plain values only.
    Raises SpaceError naming the file that can't be read so.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        found = _safetensors(file, where, values) if _is_safe(file) else _pickled(file, where)
        for name, tensor in found.items():
            _require_trainable(file, where, name, tensor)
            kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
            if values:
                # A copy: trained in place, and independent of the file.
                tensors[name] = tensor.detach().to(kind, copy=True)
            else:
                tensors[name] = torch.empty(tensor.shape, dtype=kind, device="meta")
    return tensors


def _require_trainable(file: Path, where: str, name: str, tensor: Tensor) -> None:
    """Raise SpaceError for weights that aren't real numbers: they would be taken for such."""
    kind, last = str(tensor.dtype).removeprefix("torch."), name.rpartition(".")[2]
    if tensor.is_complex() or (last == "weight" and not tensor.is_floating_point()):
        raise SpaceError(
            f"{where}: {file}: {shown(name)} is of type {kind}; must be of floating point: complex "
            "and quantised weights can't be trained"
        )
    numbers = tensor.is_floating_point() and not tensor.is_meta
    # A sum is NaN or infinite where one of them is.
    if numbers and last in ("weight", "bias") and not _sum(tensor).isfinite():
        raise SpaceError(
            f"{where}: {file}: {shown(name)} holds NaN or infinity; take a checkpoint from before "
            "that, or download it again"
        )


def _sum(tensor: Tensor) -> Tensor:
    # Of float16 a sum alone may overflow, and float8 has none.
    return tensor.detach().float().sum(dtype=torch.float64)


def require_finite(files: Iterable[Path], where: str) -> None:
    """Raise SpaceError for weights among which are NaN or infinity, and for all else that `read`
    refuses; each file is read once, unless it changes.
    """
    for file in files:
        status = file.stat()
        problem = _unfit(str(file), status.st_size, status.st_mtime_ns)
        if problem is not None:
            raise SpaceError(f"{where}: {problem}")


@cache
def _unfit(path: str, size: int, mtime_ns: int) -> str | None:
    file = Path(path)
    try:
        found = _safetensors(file, "", True) if _is_safe(file) else _pickled(file, "")
        for name, tensor in found.items():
            _require_trainable(file, "", name, tensor)
    except SpaceError as error:
        return str(error).removeprefix(": ")
    return None


def _is_safe(file: Path) -> bool:
    return file.suffix == ".safetensors"


def _safetensors(file: Path, where: str, values: bool) -> dict[str, Tensor]:
    with needed("safetensors"):
        from safetensors import SafetensorError, safe_open
    found: dict[str, Tensor] = {}
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                if values:
                    found[name] = opened.get_tensor(name)
                else:
                    part = opened.get_slice(name)
                    kind = _TYPES.get(part.get_dtype(), torch.float32)
                    found[name] = torch.empty(part.get_shape(), dtype=kind, device="meta")
    except (SafetensorError, OSError, ValueError) as error:
        raise SpaceError(f"{where}: {_broken(file, error)}") from None
    return found


def _pickled(file: Path, where: str) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The format before PyTorch 1.6 is no archive, and can't be mapped.
            mapped = zipfile.is_zipfile(file)
            _require_short_names(file)
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise SpaceError(
            f"{where}: {file} isn't read: it is broken, or holds more than tensors and plain "
            f"values and so might run code ({shown(first_line(error), 120)}); save the model's "
            "state_dict(), best as safetensors"
        ) from None
    except Exception as error:
        # Bytes that mean nothing raise whatever they happen to lead to.
        raise SpaceError(f"{where}: {_broken(file, error)}") from None
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    good = isinstance(content, Mapping) and all(isinstance(key, str) for key in content)
    if not good or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise SpaceError(f"{where}: {file} holds {shown(content)}; must be a state dict of tensors")
    return dict(content)


def _require_short_names(file: Path) -> None:
    """Raise UnpicklingError for a pickle that names an object at such length that PyTorch would
    take minutes to tell of it. What else is wrong with a pickle, PyTorch tells.
    """
    try:
        for code, name, _ in chain.from_iterable(map(pickletools.genops, _pickles(file))):
            if code.name == "GLOBAL" and len(str(name)) > _LONGEST_NAME:
                raise pickle.UnpicklingError(_TOO_LONG)
    except pickle.UnpicklingError:
        raise
    except UnicodeDecodeError as error:
        # Only names are ASCII.
        if error.encoding == "ascii" and len(error.object) > _LONGEST_NAME:
            raise pickle.UnpicklingError(_TOO_LONG) from None
    except Exception:
        return


def _pickles(file: Path) -> Iterator[bytes | IO[bytes]]:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            yield from (archive.read(e) for e in archive.infolist() if "data.pkl" in e.filename)
    else:
        # Before PyTorch 1.6 a file began with five, one after the other.
        with file.open("rb") as opened:
            yield from [opened] * 5


def _broken(file: Path, error: BaseException) -> str:
    size = os.path.getsize(file) if file.is_file() else 0
    return f"{file} is broken or cut off at {size:,} bytes: {first_line(error)}"


def misfits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """How a state dict doesn't fit a model's own, in one line; None if it does."""
    missing, unexpected = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    common = found.keys() & wanted.keys()
    prefix = None if common else other_prefix(missing, unexpected)
    # Counts of batches are newer than many checkpoints, and nothing depends on them.
    missing = {name for name in missing if not name.endswith("num_batches_tracked")}
    shapes = {
        name: (tuple(found[name].shape), tuple(wanted[name].shape))
        for name in common
        if found[name].shape != wanted[name].shape
    }
    return prefix or misfit_message(missing, unexpected, shapes)


def misfit_message(
    missing: Iterable[str], unexpected: Iterable[str], shapes: Mapping[str, tuple[Shape, Shape]]
) -> str | None:
    """One line about names that are missing or unexpected and shapes, the file's and the model's,
    that differ; None if there are none.
    """
    missing, unexpected = sorted(missing), sorted(unexpected)
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({first_few(missing, 3)})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({first_few(unexpected, 3)})")
    if shapes:
        few = [
            f"{name} is {got} and must be {must}" for name, (got, must) in sorted(shapes.items())
        ]
        parts.append(f"{len(shapes)} of another shape ({first_few(few, 3)})")
    return f"its weights don't fit the model: {'; '.join(parts)}" if parts else None


def other_prefix(missing: Iterable[str], unexpected: Iterable[str]) -> str | None:
    """For names of which none is the model's: one line where all of them are, with one prefix more
    or less.
    """
    lacking, extra = set(missing), set(unexpected)
    for short, long, words in (
        (lacking, extra, "every key has the prefix {} that the model lacks"),
        (extra, lacking, "every key lacks the prefix {} that the model has"),
    ):
        first = min(short, default="")
        for name in sorted(long) if first else ():
            prefix = name.removesuffix(first)
            if prefix not in ("", name) and {prefix + each for each in short} <= long:
                return f"its weights don't fit the model: {words.format(repr(prefix))}"
    return None
