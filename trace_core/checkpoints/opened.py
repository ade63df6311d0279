"""One checkpoint, opened: its tensors by name, mapped into memory and read only where touched.

It is a ``.safetensors`` file, a ``.pt``, ``.pth``, ``.bin`` or ``.ckpt`` file of ``torch.save``, a
folder that holds one of them as ``model`` or ``pytorch_model``, or one cut into shards beside its
``.index.json``. What ``torch.save`` wrote is read with ``weights_only=True``: a file that holds
other objects than tensors and plain data is refused, and nothing of it runs.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import pickletools
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trace_core.errors import TraceError
from trace_core.names import plain_name

SAFE, PICKLED = (".safetensors",), (".pt", ".pth", ".bin", ".ckpt")
STEMS = ("model", "pytorch_model", "adapter_model", "diffusion_pytorch_model")
"""What the file, or the index, of a folder is called."""
_NESTED = ("state_dict", "model_state_dict", "model", "module", "params")
"""Keys behind which trainers keep the parameters beside other things."""
_STATES = re.compile(r"(^|\.)(running_mean|running_var|num_batches_tracked|inv_freq)$")
"""Buffers that are saved with the parameters and aren't learned."""
_LONGEST = 2000
"""Characters of a message: an error of PyTorch's may hold what it has read."""
# Also in search_spaces/pretrained/weights.py: neither package imports the other.
_LONGEST_NAME = 1000
"""Characters of an object's name in a pickle."""
_TOO_LONG = f"WeightsUnpickler error: it names an object by more than {_LONGEST_NAME:,} characters"
_MADV_DONTNEED = 4
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class CheckpointError(TraceError):
    """A file or folder that is no readable checkpoint, or checkpoints that don't belong together.

    The message names the file, and is cut where what others say in it has no end.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…")


class Checkpoint:
    """The parameters of one checkpoint: flat tensors by name, tied ones once.

    Raises FileNotFoundError if there is nothing at ``path``, CheckpointError if it isn't a
    checkpoint, is damaged, or holds anything that would have to be run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.tensors: dict[str, Tensor] = {}
        """(n,) each: views of what is mapped, or copies where a tensor isn't contiguous."""
        self.left_out: dict[str, str] = {}
        """Why each of the other tensors isn't read, by name."""
        self.extra: dict[str, Any] = {}
        """Whole numbers that stand beside the parameters, such as ``global_step``."""
        self._mapped: list[tuple[int, int]] = []
        self._loaded: list[Tensor] = []
        """All tensors as they were loaded: while they live, what is mapped stays where it is."""
        for file, expected in _files(path).items():
            tensors = self._of_file(file, expected)
            self._mapped += _mappings(file)
            self._add(file, tensors)
        if not self.tensors:
            raise CheckpointError(f"{path}: holds no floating-point parameters")

    def _of_file(self, file: Path, expected: set[str] | None) -> list[tuple[str, Tensor]]:
        found = _safe(file) if file.suffix in SAFE else self._pickled(file)
        if expected is not None and not expected <= found.keys():
            missing = sorted(expected - found.keys())
            raise CheckpointError(
                f"{file}: lacks {missing[0]!r}, which its index says is in it "
                f"({len(missing)} of {len(expected)} tensors are missing)"
            )
        return [(plain_name(name), tensor) for name, tensor in found.items()]

    def _pickled(self, file: Path) -> Mapping[str, Tensor]:
        loaded = _load(file)
        if not isinstance(loaded, Mapping):
            raise CheckpointError(
                f"{file}: holds a {type(loaded).__name__}; expected a state_dict, the tensors of a "
                "model by name"
            )
        self.extra |= {
            key: value for key, value in loaded.items() if isinstance(value, int | float)
        }
        return _state_dict(file, loaded)

    def _add(self, file: Path, tensors: list[tuple[str, Tensor]]) -> None:
        """Take over what is a parameter, tied ones under the first of their names in sorted order:
        the order in which a file holds them may be another one in the next checkpoint.
        """
        self._loaded += [tensor for _, tensor in tensors]
        tied: dict[object, list[tuple[str, Tensor]]] = {}
        for name, tensor in tensors:
            if (reason := _no_parameter(name, tensor)) is not None:
                self.left_out[name] = reason
                continue
            _require_readable(file, name, tensor)
            # A tensor and its transpose are the same parameter, other views of its memory aren't.
            layout = sorted(zip(tensor.shape, tensor.stride(), strict=True))
            tied.setdefault((tensor.data_ptr(), *layout), []).append((name, tensor))
        for each in tied.values():
            (name, tensor), *others = sorted(each, key=lambda named: named[0])
            if name in self.shapes or any(name == other for other, _ in others):
                raise CheckpointError(f"{file}: holds {name!r} twice, but for what wraps modules")
            self.left_out |= {other: f"the same tensor as {name}" for other, _ in others}
            self.shapes[name] = tuple(tensor.shape)
            self.tensors[name] = tensor.detach().resolve_neg().contiguous().reshape(-1)
            if self.tensors[name].data_ptr() != tensor.data_ptr():
                storage = tensor.untyped_storage()
                self._let_go(storage.data_ptr(), storage.nbytes())

    def let_go(self, tensor: Tensor) -> None:
        """Give back the memory that a mapped tensor, or a part of one, has taken while it was read;
        it is read from the file again if it is touched again.
        """
        self._let_go(tensor.data_ptr(), tensor.nbytes)

    def _let_go(self, start: int, size: int) -> None:
        for low, high in self._mapped:
            if low <= start and start + size <= high:
                first = start // _PAGE * _PAGE
                length = -(-(start + size - first) // _PAGE) * _PAGE
                _libc().madvise(
                    ctypes.c_void_p(first), ctypes.c_size_t(length), ctypes.c_int(_MADV_DONTNEED)
                )
                return


def _no_parameter(name: str, tensor: Tensor) -> str | None:
    """Why a tensor is no parameter that can be followed, None if it is one."""
    if _STATES.search(name):
        return "a buffer, which isn't learned"
    if not tensor.is_floating_point():
        return f"of type {str(tensor.dtype).removeprefix('torch.')}"
    return None if tensor.numel() else "without elements"


def _require_readable(file: Path, name: str, tensor: Tensor) -> None:
    """Raise CheckpointError for a parameter that isn't there in numbers that PyTorch can read."""
    layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
    if layout != "strided":
        raise CheckpointError(f"{file}: {name!r} is a {layout} tensor; only dense ones are read")
    if tensor.is_meta or tensor.untyped_storage().nbytes() < tensor.nbytes:
        raise CheckpointError(f"{file}: {name!r} holds less than its shape says")
    if not _convertible(tensor.dtype):
        raise CheckpointError(
            f"{file}: {name!r} is of type {str(tensor.dtype).removeprefix('torch.')}, which "
            "PyTorch can't convert to numbers of another type; save it as bfloat16 or float32"
        )


@lru_cache
def _convertible(dtype: torch.dtype) -> bool:
    try:
        torch.empty(1, dtype=dtype).double()
    except (NotImplementedError, RuntimeError):
        return False
    return True


def _files(path: Path) -> dict[Path, set[str] | None]:
    """The files of a checkpoint, and the tensors that each of them must hold, where that is said.

    Raises FileNotFoundError and CheckpointError.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    if path.is_dir():
        candidates = [
            path / f"{stem}{suffix}{index}"
            for suffix in (*SAFE, ".bin", ".pt", ".pth")
            for stem in STEMS
            for index in ("", ".index.json")
        ]
        found = next((each for each in candidates if each.is_file()), None)
        if found is None:
            raise CheckpointError(
                f"{path}: holds no checkpoint; expected one of model.safetensors, "
                "pytorch_model.bin, model.safetensors.index.json and the like in the folder"
            )
        path = found
    if not path.is_file():
        raise CheckpointError(f"{path}: is neither a file nor a folder")
    if path.name.endswith(".index.json"):
        return _shards(path)
    if path.suffix not in (*SAFE, *PICKLED):
        raise CheckpointError(
            f"{path}: is no checkpoint that is known; expected a folder, or a file that ends in "
            f"{', '.join((*SAFE, *PICKLED))} or .index.json"
        )
    return {path: None}


def _shards(index: Path) -> dict[Path, set[str] | None]:
    """The files that an index names, each in the index's folder."""
    try:
        named = json.loads(index.read_text())["weight_map"]
        shards: dict[Path, set[str] | None] = {}
        for tensor, file in named.items():
            place = index.parent / file
            if place.parent != index.parent:
                raise ValueError(f"it names {file!r}, which is not in its folder")
            of_file = shards.setdefault(place, set())
            assert of_file is not None
            of_file.add(tensor)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{index}: is no index of shards, or is damaged ({error}); expected "
            '{"weight_map": {tensor: file}}'
        ) from None
    for file in shards:
        if not file.is_file():
            raise CheckpointError(f"{index}: names the shard {file.name}, which is not beside it")
    return shards


def _safe(file: Path) -> dict[str, Tensor]:
    """Its tensors with layer 2 before layer 10: the file's own order, by letters, tells nothing."""
    name = None
    try:
        with safe_open(file, framework="pt") as opened:
            found = {}
            for name in sorted(opened.keys(), key=_numbers_as_such):
                found[name] = opened.get_tensor(name)
            return found
    except SafetensorError as error:
        if name is not None and "Dtype" in str(error):
            raise CheckpointError(
                f"{file}: {name!r} is of a type that PyTorch doesn't have ({error}); save it as "
                "bfloat16 or float32"
            ) from None
        raise CheckpointError(
            f"{file}: is no whole .safetensors file ({error}); copy or download it again"
        ) from None


def _numbers_as_such(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() and len(part) < 16 else (-1, part)
        for part in name.split(".")
    ]


def _load(file: Path) -> object:
    """What ``torch.save`` wrote, if it is tensors and plain data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _require_short_names(file)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=_as_in_memory(file))
        except pickle.UnpicklingError as error:
            refused = re.search(r"(?:GLOBAL|global|class) ([\w.]+)", str(error))
            if refused is None:
                detail = str(error).partition("WeightsUnpickler error: ")[2].partition("\n")[0]
                raise CheckpointError(
                    f"{file}: is no whole file of torch.save, or holds more than tensors and plain "
                    f"data ({detail.strip() or 'unreadable'}); nothing of it was run"
                ) from None
            raise CheckpointError(
                f"{file}: holds {refused[1]} beside tensors, which could run code when it is "
                "loaded, so it was refused, and nothing of it was run; save the model's "
                "state_dict() alone, best as .safetensors"
            ) from None
        except OSError:
            raise
        # Damaged bytes may make the reader raise anything.
        except Exception as error:
            said = str(error).splitlines()
            raise CheckpointError(
                f"{file}: is no whole file of torch.save ({said[0] if said else error!r}); copy or "
                "download it again"
            ) from None


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


def _as_in_memory(file: Path) -> bool:
    """Whether the numbers stand in the file as they do in memory, so that it can be mapped: not in
    files from before PyTorch 1.6, which are no archives, compressed ones, or another byte order's.
    """
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        orders = [archive.read(e) for e in entries if e.filename.endswith("/byteorder")]
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    return stored and all(order == sys.byteorder.encode() for order in orders)


def _state_dict(file: Path, loaded: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The mapping from names to tensors in what was loaded: itself, or one behind a usual key."""
    direct = {k: v for k, v in loaded.items() if isinstance(k, str) and isinstance(v, Tensor)}
    for key in _NESTED:
        inner = loaded.get(key)
        if isinstance(inner, Mapping) and any(isinstance(v, Tensor) for v in inner.values()):
            return {str(k): v for k, v in inner.items() if isinstance(v, Tensor)}
    if not direct:
        keys = ", ".join(map(repr, list(loaded)[:8])) or "nothing"
        raise CheckpointError(
            f"{file}: no tensors by name were found in it; it has {keys}, and they were looked for "
            f"there and under {', '.join(_NESTED)}"
        )
    return direct


def _mappings(file: Path) -> list[tuple[int, int]]:
    """Where in this process's memory a file is mapped, privately: only there may pages be dropped.

    None where the system doesn't say (it is Linux's to).
    """
    try:
        lines = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    real, found = os.path.realpath(file), []
    for line in lines:
        addresses, flags, _, _, _, *name = line.split(maxsplit=5)
        if name and name[0] == real and flags.endswith("p"):
            start, _, stop = addresses.partition("-")
            found.append((int(start, 16), int(stop, 16)))
    return found


@lru_cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
