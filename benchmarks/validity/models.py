"""Architectures whose weights begin alike for every seed, so that seeds differ in batches alone."""

from __future__ import annotations

import torch
from torch import nn

from search_spaces import TaskShape, get_architecture

FIXED = 1234


def mlp(shape: TaskShape, hidden: int = 32, depth: int = 1) -> nn.Module:
    """The built-in one, from fixed weights."""
    torch.manual_seed(FIXED)
    return get_architecture("mlp").build(shape, hidden=hidden, depth=depth, activation="relu")


def transformer(shape: TaskShape, width: int = 16, depth: int = 1) -> nn.Module:
    """The built-in one, from fixed weights."""
    torch.manual_seed(FIXED)
    return get_architecture("transformer").build(shape, width=width, depth=depth, heads=2)
