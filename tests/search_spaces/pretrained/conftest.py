from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_checkpoints
import torch

MAKERS: dict[str, Callable[[Path], Path]] = {
    "bert": tiny_checkpoints.bert,
    "gpt2": tiny_checkpoints.gpt2,
    "vit": tiny_checkpoints.vit,
    "resnet": tiny_checkpoints.resnet,
    "convnext": tiny_checkpoints.convnext,
    "cnn": lambda path: tiny_checkpoints.saved(_seeded(tiny_checkpoints.Convolutions), path),
    "lstm": lambda path: tiny_checkpoints.saved(_seeded(tiny_checkpoints.Recurrent), path),
}


def _seeded(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return make()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind, not to be written to."""
    folder = tmp_path_factory.mktemp("checkpoints")
    made = {}
    for name, make in MAKERS.items():
        path = folder / (f"{name}.pth" if name in ("cnn", "lstm") else name)
        made[name] = make(path)
    return made
