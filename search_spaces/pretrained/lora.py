"""Adapters of low rank beside linear layers (Hu et al. 2021), by peft."""

from __future__ import annotations

import importlib

from torch import nn

from search_spaces.errors import SpaceError
from search_spaces.pretrained.blocks import Blocks
from search_spaces.pretrained.packages import needed, quiet


def adaptable(model: nn.Module, blocks: Blocks, frozen_depth: int) -> list[str]:
    """The linear layers of a model's blocks that aren't frozen; of all of it without blocks."""
    within = f"{blocks.name}." if blocks.name else ""
    kept = set(blocks.children[:frozen_depth])
    # Attention of PyTorch's own reads the weight of its layer, past an adapter.
    past = {
        f"{n}.out_proj" for n, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)
    }
    return [
        name
        for name, module in model.named_modules()
        if name.startswith(within)
        and (not blocks or name.removeprefix(within).partition(".")[0] not in kept)
        and name not in past
        and (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")
    ]


def check() -> None:
    """Raises SpaceError where peft is missing."""
    with needed("peft"):
        importlib.import_module("peft")


def adapt(model: nn.Module, targets: list[str], rank: int) -> None:
    """Put adapters beside these layers, in place; they alone can be trained then.

    They scale by 2: alpha is twice the rank. Draws from PyTorch's global generator.
    """
    with needed("peft", "transformers"):
        from peft import LoraConfig, inject_adapter_in_model
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets)
    with quiet():
        inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def nothing_to_adapt(where: str) -> SpaceError:
    """For a model whose blocks have no linear layers."""
    return SpaceError(
        f"{where}: got lora, which adapts linear layers, and the blocks that aren't frozen have "
        "none (convolutions and recurrent layers are not adapted); must be full or head"
    )
