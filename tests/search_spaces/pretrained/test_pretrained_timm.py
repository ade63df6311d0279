"""timm is made up here: what stands for it answers as its create_model and configurations do."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_checkpoints import SOURCE, batch, build, image_task, problems, settings
from torch import nn

from search_spaces.pretrained import timm_models


class Net(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 1)) for _ in range(2)))
        self.norm = nn.BatchNorm2d(4)
        self.classifier = nn.Linear(4, classes) if classes else nn.Identity()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found = self.norm(self.blocks(self.conv_stem(pixels)))
        result: torch.Tensor = self.classifier(found.mean((2, 3)))
        return result


@pytest.fixture(autouse=True)
def _timm(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(name: str, pretrained: bool, num_classes: int = 10) -> nn.Module:
        if name != "tiny_net":
            raise RuntimeError(f"Unknown model ({name})")
        if not pretrained:
            return Net(num_classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return Net(num_classes)

    def configuration(name: str) -> Any:
        told = SimpleNamespace(input_size=(3, 12, 12), mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.2))
        return told if name == "tiny_net" else None

    timm: Any = ModuleType("timm")
    timm.create_model, timm.get_pretrained_cfg = create_model, configuration
    monkeypatch.setitem(sys.modules, "timm", timm)
    timm_models.weights_hash.cache_clear()


def test_a_model_of_timm() -> None:
    task = image_task()
    assert problems(task, {"checkpoint": "timm:tiny_net", "from_scratch": True}) == []
    pixels = batch(task, "timm:tiny_net")
    assert pixels.shape == (12, 3, 12, 12)
    assert batch(task, "timm:tiny_net", image_size=6).shape == (12, 3, 6, 6)
    one, two = (build(task, "timm:tiny_net", seed) for seed in (1, 2))
    assert one(pixels).shape == (12, 3)
    assert torch.equal(one.features(pixels), two.features(pixels))
    assert not torch.equal(one.head.weight, two.head.weight)
    control = build(task, "scratch:timm:tiny_net")
    assert not torch.equal(control.backbone.conv_stem.weight, one.backbone.conv_stem.weight)
    frozen = build(task, "timm:tiny_net", frozen_depth=1)
    told = [name for name, one in frozen.named_parameters() if one.requires_grad]
    assert told[0] == "backbone.blocks.1.0.weight"
    assert "backbone.norm.weight" in told


def test_a_head_by_name() -> None:
    model = build(image_task(), "timm:tiny_net", head="classifier")
    assert isinstance(model.backbone.classifier, nn.Identity)
    assert model.head.in_features == 4


def test_what_timm_lacks() -> None:
    found = problems(image_task(), {"checkpoint": "timm:tinny_net"})
    assert found == [
        "space.architecture.pretrained.checkpoint: timm doesn't make 'tinny_net': RuntimeError: "
        "Unknown model (tinny_net)"
    ]


def test_its_content_is_its_weights() -> None:
    one, control = (SOURCE.identity(settings(f"{p}timm:tiny_net")) for p in ("", "scratch:"))
    assert one != control
    assert SOURCE.preparation(settings("timm:tiny_net"))["pixels"]
