"""Names of layers and blocks, from the dotted names that `torch.nn.Module` gives to tensors."""

from __future__ import annotations

from functools import lru_cache


def layer_of(tensor: str) -> str:
    """Return the path of the module that owns a tensor: ``"net.0.weight"`` → ``"net.0"``.

    A tensor of the model itself has the layer ``""``.
    """
    return tensor.rpartition(".")[0]


@lru_cache(maxsize=1 << 16)
def block_of(layer: str) -> str:
    """Return the block that a layer belongs to: one of a model's repeated or top-level parts.

    It is the path through the first component that is all digits, where PyTorch's containers number
    their parts: ``"transformer.h.3.attn.c_attn"`` → ``"transformer.h.3"``. Without such a component
    it is the module that holds the layer, ``"bert.pooler.dense"`` → ``"bert.pooler"``, and at the
    top level the layer itself: ``"conv1"`` → ``"conv1"``.
    """
    path = layer.split(".")
    for depth, component in enumerate(path, start=1):
        if component.isdecimal():
            return ".".join(path[:depth])
    return ".".join(path[:-1]) or layer


_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def plain_name(tensor: str) -> str:
    """Return the name that a tensor had before PyTorch's compiler, FSDP or activation checkpointing
    wrapped its modules: ``"net._orig_mod.0.weight"`` → ``"net.0.weight"``.
    """
    return ".".join(part for part in tensor.split(".") if part not in _WRAPPERS)
