"""The architectures that models are built by, and their registry. Reading it needs no torch."""

from __future__ import annotations

from search_spaces.architecture import Architecture, Source
from search_spaces.architectures.cnn import CNN
from search_spaces.architectures.gru import GRU
from search_spaces.architectures.mlp import MLP
from search_spaces.architectures.transformer import TRANSFORMER
from search_spaces.errors import SpaceError, unknown
from search_spaces.plugins import is_import_path, load_builder, unread_builder
from search_spaces.pretrained import PRETRAINED

_BUILT_IN = {
    architecture.name: architecture for architecture in (MLP, CNN, GRU, TRANSFORMER, PRETRAINED)
}


def architecture_names() -> list[str]:
    """The names of the built-in architectures."""
    return list(_BUILT_IN)


def get_architecture(
    name: str, where: str = "architecture", *, as_data: bool = False
) -> Architecture:
    """The built-in architecture of that name, or the user's, by import path.

    An import path is ``package.module:build``, and its module is imported; not so if ``as_data``,
    which gives an architecture that takes any settings and builds nothing. ``where`` is the key
    path for messages. Raises SpaceError.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if is_import_path(name):
        return unread_builder(name) if as_data else load_builder(name, where)
    raise SpaceError(
        unknown(where, "architecture", name, [*_BUILT_IN, "an import path package.module:build"])
    )


def source_of(name: str) -> Source | None:
    """Where the models of the architecture of that name come from, if not from their settings
    alone. A user's own has none, and isn't loaded to tell.
    """
    return None if is_import_path(name) else get_architecture(name).source


__all__ = ["Architecture", "architecture_names", "get_architecture", "source_of"]
