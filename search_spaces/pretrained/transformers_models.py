"""The models of Hugging Face folders: built, loaded strictly, and read about without loading."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.errors import SpaceError, first_line, shown
from search_spaces.pretrained import weights
from search_spaces.pretrained.checkpoint import Checkpoint
from search_spaces.pretrained.packages import needed, quiet


def read_config(checkpoint: Checkpoint, where: str) -> Any:
    """The folder's configuration as transformers has it. Raises SpaceError."""
    folder = checkpoint.folder
    with quiet(), needed("transformers"):
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:
            # Classes of all kinds: config.json is handed to the model's own code.
            kind = checkpoint.config.get("model_type")
            raise SpaceError(
                f"{where}: {folder / 'config.json'}: transformers doesn't read model_type "
                f"{shown(kind)}: {first_line(error)}"
            ) from None
    if getattr(config, "quantization_config", None) is not None:
        raise SpaceError(
            f"{where}: {folder}: its weights are quantised, and can't be trained; take the "
            "checkpoint in full precision"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise SpaceError(
            f"{where}: {folder}: {config.model_type} is an encoder with a decoder; must be one of "
            "the two"
        )
    # A name in these would be taken for a package of code on the hub, which would be run.
    config._attn_implementation = None
    config._experts_implementation = None
    config.use_cache = config.output_attentions = config.output_hidden_states = False
    config.return_dict = True
    return config


def is_causal(config: Any) -> bool:
    """Whether a state depends on no later token."""
    from transformers.models.auto import modeling_auto as auto

    kind = config.model_type
    if kind not in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return False
    return kind not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES or bool(config.is_decoder)


def load(checkpoint: Checkpoint, config: Any, where: str, *, language: bool) -> nn.Module:
    """The model in float32, with its weights or, from scratch, its architecture's own random ones.

    Only the latter draw from PyTorch's global generator. Raises SpaceError where names or shapes of
    the weights don't fit.
    """
    with quiet():
        kind, options = _class(checkpoint, config, language, where)
        if checkpoint.scratch:
            return _made(kind, checkpoint, config, options, where)
        tensors = weights.read(_files(checkpoint, where), where)
        with torch.random.fork_rng(devices=[]):
            return _loaded(kind, checkpoint, config, tensors, options, where)


def on_meta(checkpoint: Checkpoint, config: Any, where: str, *, language: bool) -> nn.Module:
    """The model without values, its weights compared by names and shapes. Raises SpaceError."""
    with quiet(), torch.random.fork_rng(devices=[]):
        kind, options = _class(checkpoint, config, language, where)
        with torch.device("meta"):
            model = _made(kind, checkpoint, config, options, where)
        if not checkpoint.scratch:
            tensors = weights.read(_files(checkpoint, where), where, values=False)
            options = {**options, "device_map": {"": "meta"}}
            _loaded(kind, checkpoint, config, tensors, options, where)
            weights.require_finite(_files(checkpoint, where), where)
        return model


def interpolates(model: nn.Module) -> bool:
    """Whether a model of images can spread its positions over another size."""
    return "interpolate_pos_encoding" in inspect.signature(model.forward).parameters


def _files(checkpoint: Checkpoint, where: str) -> list[Any]:
    files = checkpoint.weight_files()
    if not files:
        raise SpaceError(
            f"{where}: {checkpoint.folder} has no weights: model.safetensors or pytorch_model.bin, "
            "whole or in parts with their index; scratch: takes the architecture alone"
        )
    return files


def _class(
    checkpoint: Checkpoint, config: Any, language: bool, where: str
) -> tuple[Any, dict[str, Any]]:
    """The class of the model, and what it is to be made with."""
    from transformers.models.auto import modeling_auto as auto

    mapping = auto.MODEL_FOR_CAUSAL_LM_MAPPING if language else auto.MODEL_MAPPING
    try:
        kind = mapping[type(config)]
    except KeyError:
        raise SpaceError(
            f"{where}: transformers has no model of type {shown(config.model_type)} for this task"
        ) from None
    kind = kind[0] if isinstance(kind, tuple) else kind
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            pooler = getattr(_made(kind, checkpoint, config, {}, where), "pooler", None)
        # A pooler with a layer of its own was trained for another task, or not at all.
        layers = [] if pooler is None else list(pooler.modules())
        if any(isinstance(layer, nn.Linear) for layer in layers):
            options["add_pooling_layer"] = False
    return kind, options


def _made(
    kind: Any, checkpoint: Checkpoint, config: Any, options: dict[str, Any], where: str
) -> nn.Module:
    try:
        model: nn.Module = kind._from_config(config, dtype=torch.float32, **options)
    except Exception as error:
        # config.json may hold anything, and is handed to the model's own code.
        raise SpaceError(
            f"{where}: {checkpoint.folder / 'config.json'}: {kind.__name__} isn't made of it: "
            f"{first_line(error)}"
        ) from None
    return model.float()


def _loaded(
    kind: Any,
    checkpoint: Checkpoint,
    config: Any,
    tensors: dict[str, Tensor],
    options: dict[str, Any],
    where: str,
) -> nn.Module:
    model, info = kind.from_pretrained(
        None,
        config=config,
        state_dict=tensors,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **options,
    )
    # What belongs to no part of the model is a head of another task's.
    parts = {name for name, _ in model.base_model.named_children()}
    base = f"{model.base_model_prefix}."
    found = list(info["unexpected_keys"])
    own = [name for name in found if name.removeprefix(base).partition(".")[0] in parts]
    shapes = {name: (tuple(got), tuple(must)) for name, got, must in info["mismatched_keys"]}
    missing = info["missing_keys"]
    nothing = all(name in missing for name, _ in model.named_parameters())
    prefix = weights.other_prefix(missing, found) if nothing else None
    problem = prefix or weights.misfit_message(missing, own, shapes)
    if problem is not None:
        raise SpaceError(f"{where}: {checkpoint.folder}: {problem}")
    loaded: nn.Module = model
    return loaded
