"""The settings of `pretrained`, and which of them a model doesn't depend on."""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.dimensions import Scalar
from search_spaces.pretrained.checkpoint import find
from search_spaces.setting import Setting

SETTINGS: dict[str, Setting] = {
    "checkpoint": Setting(
        "str",
        None,
        "a Hugging Face folder or hub name, timm:NAME, a state dict's file (FILE, or "
        "FILE@BUILDER), or scratch: and one of these for the same architecture with random weights",
        required=True,
    ),
    "builder": Setting(
        "str", "", "import path of the function that returns the module of a state dict"
    ),
    "head": Setting(
        "str", "", "name of the module to replace in a builder's model; its last Linear if empty"
    ),
    "tune": Setting(
        "str",
        "full",
        "what is trained: all, the head, or adapters",
        choices=("full", "head", "lora"),
    ),
    "lora_rank": Setting("int", 8, "rank of the adapters under lora", low=0, high=1024),
    "frozen_depth": Setting(
        "int", 0, "blocks from the input that stay, with all before them", low=0, high=1000
    ),
    "layer_decay": Setting(
        "float",
        1.0,
        "factor of the learning rate from one block to the next below",
        low=0.0,
        high=1.0,
        low_open=True,
    ),
    "max_length": Setting("int", 128, "tokens read of a text", low=8, high=8192),
    "pooling": Setting(
        "str",
        "auto",
        "which tokens' states the head reads; auto: the checkpoint's own, else last for causal "
        "models and mean for others",
        choices=("auto", "mean", "first", "last"),
    ),
    "image_size": Setting(
        "int",
        0,
        "pixels a side of images; 0: the checkpoint's own, or the task's",
        low=0,
        high=4096,
    ),
    "norm_momentum": Setting(
        "float", 0.0, "momentum of batch norms; 0: as in the checkpoint", low=0.0, high=1.0
    ),
}


def canonical(settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The settings with those that change nothing about this model at one fixed value.

    Raises SpaceError where the checkpoint isn't found.
    """
    checkpoint = find(str(settings["checkpoint"]))
    idle: dict[str, Scalar] = {}
    if settings["tune"] != "lora":
        idle["lora_rank"] = 0
    if settings["tune"] == "head":
        idle |= {"frozen_depth": 0, "layer_decay": 1.0}
    idle["builder"] = checkpoint.builder_of(settings) if checkpoint.form == "state" else ""
    if checkpoint.form == "folder":
        idle["head"] = ""
    unread = ("image_size", "norm_momentum") if checkpoint.reads == "text" else ()
    unread = unread or ("max_length", "pooling")
    idle |= {name: SETTINGS[name].default for name in unread}
    return {**settings, **idle}
