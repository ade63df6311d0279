"""Checkpoints on the Hugging Face hub: taken from its cache, else downloaded into it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from search_spaces.errors import SpaceError, first_line, shown

_READ = ["*.json", "*.txt", "*.model"]


@cache
def from_hub(name: str, where: str, *, weights: bool) -> Path:
    """The folder of a hub's model in the local cache, where it is looked for first.

    Downloads it if it isn't there: config, tokenizer and, with ``weights``, those (safetensors if
    the model has them). Raises SpaceError where neither is possible.
    """
    from search_spaces.pretrained.packages import needed, quiet

    with needed("huggingface_hub"):
        from huggingface_hub import snapshot_download

    def snapshot(patterns: list[str], offline: bool) -> Path:
        return Path(
            snapshot_download(name, allow_patterns=[*_READ, *patterns], local_files_only=offline)
        )

    def complete(folder: Path) -> bool:
        has = any(folder.glob("model*.safetensors")) or any(folder.glob("pytorch_model*.bin"))
        return (folder / "config.json").is_file() and (has or not weights)

    # Whatever goes wrong on the way to the hub comes in many classes of several packages.
    try:
        cached: Path | None = snapshot([], True)
    except Exception:
        cached = None
    if cached is not None and complete(cached):
        return cached
    try:
        with quiet():
            folder = snapshot(["model*.safetensors"] if weights else [], False)
            if not complete(folder):
                folder = snapshot(["pytorch_model*.bin"], False)
    except Exception as error:
        raise SpaceError(
            f"{where}: got {shown(name)}; no such folder here, it isn't in Hugging Face's cache, "
            f"and the hub doesn't give it: {type(error).__name__}: {first_line(error)}"
        ) from None
    if not complete(folder):
        raise SpaceError(
            f"{where}: got {shown(name)}; what the hub has of that name isn't a model of "
            "transformers: it needs config.json, and model.safetensors or pytorch_model.bin"
        )
    return folder
