"""A checkpoint by its name: where it lies, what it reads, and what tells its content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from search_spaces.dimensions import Scalar
from search_spaces.errors import SpaceError, first_few, listing, shown
from search_spaces.files import content_hash, locate
from search_spaces.plugins import is_import_path
from search_spaces.pretrained.hub import from_hub

SCRATCH = "scratch:"
"""What the name begins with of a checkpoint of which the architecture alone is taken."""
TIMM = "timm:"
PLACE = "pretrained.checkpoint"
"""The key path for messages where the configuration's is not at hand."""
STATE_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
RULE = (
    "must be a folder with config.json, a name on the Hugging Face hub, timm:NAME, a state dict's "
    f"file ({listing(STATE_SUFFIXES)}) with builder or @ and its own, or scratch: and one of these"
)

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
_READING = ("1_Pooling/config.json", "preprocessor_config.json")
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
# What tools note down in a config.json, and what only heads and generation depend on.
_BOOKKEEPING = {
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "classifier_dropout",
    "dtype",
    "finetuning_task",
    "gradient_checkpointing",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found.

    ``form``: a Hugging Face "folder", the file of a "state" dict, or a model of "timm".
    ``path``: of the folder or file; None for timm. ``scratch``: random weights instead of its own.
    ``timm``: the name there. ``builder``: that of this state dict, where its name tells one.
    ``where``: the key path for messages.
    """

    form: Literal["folder", "state", "timm"]
    path: Path | None
    scratch: bool
    timm: str = ""
    builder: str = ""
    where: str = field(default=PLACE, compare=False, kw_only=True)

    def builder_of(self, settings: Mapping[str, Scalar]) -> str:
        """The import path of what builds a state dict's model: its own, else the setting's."""
        return self.builder or str(settings["builder"])

    @property
    def folder(self) -> Path:
        """Where a Hugging Face checkpoint lies."""
        assert self.form == "folder"
        assert self.path is not None
        return self.path

    @property
    def config(self) -> dict[str, Any]:
        """What stands in a folder's config.json."""
        return read_json(self.folder / "config.json", self.where)

    @property
    def reads(self) -> Literal["text", "image", "numbers"]:
        """What it is a model of: texts, images, or whatever numbers a state dict's builder takes.

        Raises SpaceError where a config.json tells neither texts nor images.
        """
        if self.form != "folder":
            return "image" if self.form == "timm" else "numbers"
        config = self.config
        if {"image_size", "num_channels", "patch_size"} & config.keys():
            return "image"
        if "vocab_size" in config:
            return "text"
        kind = shown(config.get("model_type"))
        raise SpaceError(
            f"{self.where}: {self.folder / 'config.json'}: model_type {kind} is "
            "neither of texts (vocab_size) nor of images (image_size, num_channels)"
        )

    @property
    def vocabulary(self) -> int:
        """How many tokens a model of texts has embeddings for. Raises SpaceError."""
        told = self.config["vocab_size"]
        if isinstance(told, int) and not isinstance(told, bool):
            return told
        raise SpaceError(
            f"{self.where}: {self.folder / 'config.json'}: vocab_size is {shown(told)}; must be an "
            "integer"
        )

    def weight_files(self) -> list[Path]:
        """The files of a folder's weights; none where it has none, or they aren't used.

        Raises SpaceError for an index that can't be read or names files outside the folder.
        """
        if self.form == "timm" or self.scratch:
            return []
        if self.form == "state":
            assert self.path is not None
            return [self.path]
        for name in _WEIGHTS:
            path = self.folder / name
            if path.is_file():
                return _shards(path, self.where) if name.endswith(".index.json") else [path]
        return []

    def files(self) -> list[Path]:
        """All files that it is read from; none of timm's."""
        if self.form != "folder":
            return self.weight_files()
        index = [self.folder / name for name in _WEIGHTS if name.endswith(".index.json")]
        others = [self.folder / name for name in ("config.json", *_READING)]
        kept = [path for path in (*others, *index) if path.is_file()]
        return [*kept, *self.weight_files(), *self.tokenizer_files()]

    def tokenizer_files(self) -> list[Path]:
        """The files that a folder's tokenizer is read from."""
        return sorted(path for name in _TOKENIZER for path in self.folder.glob(name))

    def architecture(self) -> str:
        """What tells its architecture: equal for models that differ in their weights alone."""
        if self.form == "folder":
            kept = {
                key: value
                for key, value in self.config.items()
                if key not in _BOOKKEEPING and value is not None
            }
            return json.dumps(kept, sort_keys=True)
        return f"{TIMM}{self.timm}" if self.form == "timm" else f"builder {self.builder}"

    def content(self) -> str:
        """What tells its content, wherever it lies. Raises SpaceError for what can't be read."""
        prefix = SCRATCH if self.scratch else ""
        if self.form == "timm":
            from search_spaces.pretrained.timm_models import weights_hash

            tensors = "" if self.scratch else weights_hash(self.timm, self.where)
            return f"{prefix}{TIMM}{self.timm}{tensors}"
        if self.form == "state":
            return prefix or _hash(self.weight_files())
        files = [*self.weight_files(), *self.tokenizer_files()]
        files += [self.folder / name for name in _READING if (self.folder / name).is_file()]
        told = f"{self.architecture()}\0{_hash(files)}"
        return prefix + hashlib.sha256(told.encode()).hexdigest()

    def tokenizer_content(self) -> str:
        """What tells its tokenizer's content."""
        return _hash(self.tokenizer_files())


def find(name: str, where: str = PLACE) -> Checkpoint:
    """The checkpoint of that name. ``where`` is the key path for messages. Raises SpaceError."""
    scratch = name.startswith(SCRATCH)
    plain = name.removeprefix(SCRATCH)
    if plain.startswith(TIMM):
        if not plain.removeprefix(TIMM):
            raise SpaceError(f"{where}: got {shown(name)}; {RULE}")
        return Checkpoint("timm", None, scratch, plain.removeprefix(TIMM), where=where)
    file, at, builder = plain.rpartition("@")
    if not at or not is_import_path(builder):
        file, builder = plain, ""
    try:
        path = locate(file, where)
    except SpaceError as error:
        if is_path(plain):
            raise SpaceError(f"{error}; {RULE}") from None
        folder = from_hub(plain, where, weights=not scratch)
        return Checkpoint("folder", folder, scratch, where=where)
    if path.is_dir():
        if builder:
            raise SpaceError(
                f"{where}: got {shown(name)}; {path} is a folder, and needs no builder"
            )
        if not (path / "config.json").is_file():
            raise SpaceError(f"{where}: got {shown(name)}; {path} has no config.json; {RULE}")
        read_json(path / "config.json", where)
        return Checkpoint("folder", path, scratch, where=where)
    if path.suffix not in STATE_SUFFIXES:
        raise SpaceError(f"{where}: got {shown(name)}; {path} is another kind of file; {RULE}")
    return Checkpoint("state", path, scratch, builder=builder, where=where)


def is_path(name: str) -> bool:
    """Whether a checkpoint's name, without ``scratch:``, is that of a file or folder, not one of
    timm or of the hub: those are looked for only where there is no such path.
    """
    if name.startswith(TIMM):
        return False
    try:
        locate(name, "checkpoint")
    except SpaceError:
        return not _HUB_NAME.fullmatch(name) or name.endswith(STATE_SUFFIXES)
    return True


def read_json(path: Path, where: str) -> dict[str, Any]:
    """The object in a JSON file, read once unless the file changes. Raises SpaceError."""
    try:
        status = path.stat()
        return _read_json(str(path), status.st_size, status.st_mtime_ns)
    except (OSError, ValueError) as error:
        raise SpaceError(f"{where}: {path} can't be read as a JSON object: {error}") from None


@cache
def _read_json(path: str, size: int, mtime_ns: int) -> dict[str, Any]:
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"got {shown(content)}")
    return content


def _shards(index: Path, where: str) -> list[Path]:
    names = read_json(index, where).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise SpaceError(f"{where}: {index} has no weight_map of tensors to files")
    files = sorted({str(name) for name in names.values()})
    outside = [name for name in files if Path(name).name != name]
    if outside:
        raise SpaceError(f"{where}: {index} names {shown(outside[0])}; must be files beside it")
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing:
        raise SpaceError(
            f"{where}: {index} names {first_few(missing, 3)}, which {index.parent} hasn't"
        )
    return [index.parent / name for name in files]


def _hash(files: Iterable[Path]) -> str:
    try:
        return content_hash(files)
    except OSError as error:
        raise SpaceError(f"{error.filename}: can't be read: {error.strerror}") from None
