"""Models of timm, which is imported only where a checkpoint names it."""

from __future__ import annotations

import hashlib
import importlib
from functools import cache
from typing import Any

from torch import nn

from search_spaces.errors import SpaceError, first_line, shown
from search_spaces.pretrained.packages import needed


def _timm() -> Any:
    with needed("timm"):
        return importlib.import_module("timm")


def create(name: str, where: str, *, weights: bool, whole: bool) -> nn.Module:
    """The model of that name: with its own head if ``whole``, else it gives pooled features.

    Raises SpaceError.
    """
    timm = _timm()
    options = {} if whole else {"num_classes": 0}
    try:
        model: nn.Module = timm.create_model(name, pretrained=weights, **options)
    except Exception as error:
        # Unknown names, downloads that fail and models without weights come in many classes.
        raise SpaceError(
            f"{where}: timm doesn't make {shown(name)}: {type(error).__name__}: {first_line(error)}"
        ) from None
    return model.float()


def pixels(name: str, where: str) -> tuple[tuple[int, int, int], list[float], list[float]]:
    """What the model reads: (channels, height, width), and mean and deviation of each channel."""
    config = _timm().get_pretrained_cfg(name)
    if config is None:
        raise SpaceError(f"{where}: timm has no pretrained weights for {shown(name)}")
    channels, height, width = config.input_size
    return (channels, height, width), list(config.mean), list(config.std)


@cache
def weights_hash(name: str, where: str) -> str:
    """SHA-256, in hexadecimal, of the model's tensors. Raises SpaceError."""
    model = create(name, where, weights=True, whole=True)
    digest = hashlib.sha256()
    for key, tensor in model.state_dict().items():
        digest.update(f"{key}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
