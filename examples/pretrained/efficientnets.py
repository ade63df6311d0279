"""The modules of the EfficientNet-lite checkpoints: builders for images.yaml beside this file."""

from __future__ import annotations

from torch import nn


def lite0() -> nn.Module:
    """EfficientNet-lite 0, of 4.7 million parameters."""
    return _named("efficientnet-lite0")


def lite1() -> nn.Module:
    """EfficientNet-lite 1, of 5.4 million parameters."""
    return _named("efficientnet-lite1")


def lite2() -> nn.Module:
    """EfficientNet-lite 2, of 6.1 million parameters."""
    return _named("efficientnet-lite2")


def _named(name: str) -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    model: nn.Module = EfficientNet.from_name(name)
    return model
