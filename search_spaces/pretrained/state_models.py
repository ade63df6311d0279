"""The user's own models: built by a function, with the weights of a state dict's file."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from search_spaces.errors import SpaceError, listing, shown
from search_spaces.plugins import load_object
from search_spaces.pretrained import weights
from search_spaces.pretrained.checkpoint import Checkpoint

_EXPECTED = "a function without arguments that returns the torch.nn.Module of the state dict"


def create(builder: str, where: str) -> nn.Module:
    """What the builder makes, in float32. ``where`` is the architecture's key path for messages.

    Raises SpaceError.
    """
    place = f"{where}.builder"
    if not builder:
        raise SpaceError(f"{place}: missing; a state dict's file needs {_EXPECTED}")
    if ":" not in builder:
        raise SpaceError(
            f"{place}: got {shown(builder)}; must be an import path package.module:build"
        )
    function = load_object(builder, place, _EXPECTED)
    try:
        model = function()
    except Exception as error:
        # The user's code may raise anything.
        raise SpaceError(f"{place}: {builder}: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise SpaceError(f"{place}: {builder} returned {shown(model)}; expected a torch.nn.Module")
    return model.float()


@cache
def image_channels(builder: str, where: str) -> int | None:
    """The channels of the images that the builder's models read: those of the first convolution.

    None where there is none. Draws nothing. Raises SpaceError.
    """
    with torch.random.fork_rng(devices=[]):
        modules = create(builder, where).modules()
    return next((m.in_channels for m in modules if isinstance(m, nn.Conv2d)), None)


def load(checkpoint: Checkpoint, builder: str, where: str) -> nn.Module:
    """The builder's model with the file's weights, or its own random ones from scratch.

    Only the latter draw from PyTorch's global generator. Raises SpaceError where the weights don't
    fit.
    """
    if checkpoint.scratch:
        return create(builder, where)
    with torch.random.fork_rng(devices=[]):
        model = create(builder, where)
    place = f"{where}.checkpoint"
    tensors = weights.read(checkpoint.weight_files(), place)
    problem = weights.misfits(tensors, model.state_dict())
    if problem is not None:
        raise SpaceError(f"{place}: {checkpoint.path}: {problem}")
    model.load_state_dict(tensors)
    return model


def take_head(model: nn.Module, name: str, where: str) -> int:
    """Put an identity where the head is, and tell how many features it read.

    The head is the module of that name, or the last Linear. Raises SpaceError.
    """
    modules = dict(model.named_modules())
    linear = [n for n, m in modules.items() if isinstance(m, nn.Linear) and n]
    place = f"{where}.head"
    if not name:
        if not linear:
            raise SpaceError(f"{place}: the model has no Linear to replace; must name its head")
        name = linear[-1]
    if name not in modules:
        raise SpaceError(
            f"{place}: got {shown(name)}; the model has no such module; its last Linear are "
            f"{listing(linear[-3:]) or 'none'}"
        )
    layers = [module for module in modules[name].modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise SpaceError(
            f"{place}: got {shown(name)}, a {type(modules[name]).__name__} without a Linear; must "
            f"be one, or hold one; the model's last Linear are {listing(linear[-3:]) or 'none'}"
        )
    parent, _, last = name.rpartition(".")
    setattr(modules[parent], last, nn.Identity())
    return layers[0].in_features
