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
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
_MADV_DONTNEED = 4


class CheckpointError(TraceError):
    """A file or folder that is no readable checkpoint, or checkpoints that don't belong together.

    The message names the file.
    """


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
        self.left_out: list[str] = []
        """Names of what is no floating-point parameter."""
        self.extra: dict[str, Any] = {}
        """Whole numbers that stand beside the parameters, such as ``global_step``."""
        self._mapped: list[tuple[int, int]] = []
        self._loaded: list[Tensor] = []
        """All tensors as they were loaded: while they live, what is mapped stays where it is."""
        for file, expected in _files(path).items():
            tied: set[object] = set()
            for name, tensor in self._of_file(file, expected):
                self._add(plain_name(name), tensor, tied)
            self._mapped += _mappings(file)
        if not self.tensors:
            raise CheckpointError(f"{path}: holds no floating-point parameters")

    def _of_file(self, file: Path, expected: set[str] | None) -> Iterator[tuple[str, Tensor]]:
        found = _safe(file) if file.suffix in SAFE else self._pickled(file)
        if expected is not None and not expected <= found.keys():
            missing = sorted(expected - found.keys())
            raise CheckpointError(
                f"{file}: lacks {missing[0]!r}, which its index says is in it "
                f"({len(missing)} of {len(expected)} tensors are missing)"
            )
        yield from found.items()

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

    def _add(self, name: str, tensor: Tensor, tied: set[object]) -> None:
        self._loaded.append(tensor)
        if not tensor.is_floating_point() or _STATES.search(name) or not tensor.numel():
            self.left_out.append(name)
            return
        if tensor.layout != torch.strided:
            raise CheckpointError(f"{self.path}: {name!r} is {tensor.layout}; only dense is read")
        if name in self.shapes:
            raise CheckpointError(f"{self.path}: holds {name!r} twice, but for what wraps modules")
        if tensor.is_meta or tensor.untyped_storage().nbytes() < tensor.nbytes:
            raise CheckpointError(f"{self.path}: {name!r} holds less than its shape says")
        # A tensor and its transpose are the same parameter, other views of its memory aren't.
        place = tensor.data_ptr(), *sorted(zip(tensor.shape, tensor.stride(), strict=True))
        if place in tied:
            return
        tied.add(place)
        self.shapes[name] = tuple(tensor.shape)
        self.tensors[name] = tensor.detach().resolve_neg().contiguous().reshape(-1)

    def let_go(self, tensor: Tensor) -> None:
        """Give back the memory that a mapped tensor, or a part of one, has taken while it was read;
        it is read from the file again if it is touched again.
        """
        start, stop = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        for low, high in self._mapped:
            if low <= start and stop <= high:
                page = os.sysconf("SC_PAGE_SIZE")
                start = start // page * page
                length = -(-(stop - start) // page) * page
                _libc().madvise(
                    ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_int(_MADV_DONTNEED)
                )
                return


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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index}: is no index of shards, or is damaged ({error}); expected "
            '{"weight_map": {tensor: file}}'
        ) from None
    for file in shards:
        if not file.is_file():
            raise CheckpointError(f"{index}: names the shard {file.name}, which is not beside it")
    return shards


def _safe(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{file}: is no whole .safetensors file ({error}); copy or download it again"
        ) from None


def _load(file: Path) -> object:
    """What ``torch.save`` wrote, if it is tensors and plain data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
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


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
