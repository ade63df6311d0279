"""Building the model of one set of settings: backbone, head, and what of them is trained."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from search_spaces.dimensions import Scalar
from search_spaces.errors import SpaceError, first_line, shown
from search_spaces.pretrained import lora, state_models, timm_models, transformers_models
from search_spaces.pretrained.blocks import Blocks, find_blocks
from search_spaces.pretrained.checkpoint import Checkpoint, find, read_json
from search_spaces.pretrained.fine_tuned_module import (
    FineTuned,
    ImageModel,
    LanguageModel,
    TextModel,
)
from search_spaces.pretrained.pixels import read_pixels
from search_spaces.shape import TaskShape

_POOLING = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}


def build(shape: TaskShape, settings: Mapping[str, Scalar]) -> FineTuned:
    """The model, in training mode. Draws from PyTorch's global generator. Raises SpaceError."""
    model = _assemble(shape, settings, "pretrained")
    _tune(model, settings, "pretrained")
    _freeze_unused(model)
    return model.train()


def check(shape: TaskShape, settings: Mapping[str, Scalar], where: str) -> None:
    """Raises SpaceError for what would be wrong in `build` and in a first batch; draws nothing.

    Models of transformers are made without values, others with.
    """
    with torch.random.fork_rng(devices=[]):
        model = _assemble(shape, settings, where, check=True)
        _check_tuning(model, settings, where)


def _assemble(
    shape: TaskShape, settings: Mapping[str, Scalar], where: str, *, check: bool = False
) -> FineTuned:
    """The model with all of it trainable. To ``check`` it, values may be left out."""
    checkpoint = find(str(settings["checkpoint"]), f"{where}.checkpoint")
    reason = _unreadable(checkpoint, shape)
    if reason is not None:
        raise SpaceError(f"{where}.checkpoint: got {shown(settings['checkpoint'])}, which {reason}")
    if checkpoint.form != "folder":
        model = _plain(checkpoint, shape, settings, where)
    elif checkpoint.reads == "text":
        model = _of_texts(checkpoint, shape, settings, where, check)
    else:
        model = _of_images(checkpoint, shape, settings, where, check)
    model.scratch = checkpoint.scratch
    return model


def _unreadable(checkpoint: Checkpoint, shape: TaskShape) -> str | None:
    """Why the checkpoint's model can't read the task's examples, by their kind alone."""
    reads = checkpoint.reads
    if (reads == "text") == (shape.layout == "text") and (
        reads != "image" or shape.layout == "image"
    ):
        return None
    has = {"text": "texts", "image": "images"}.get(shape.layout, "numbers")
    what = {"text": "texts", "image": "images", "numbers": "numbers or images"}[reads]
    return f"reads {what}, and the task has {has}"


def _tune(model: FineTuned, settings: Mapping[str, Scalar], where: str) -> None:
    """Freeze what isn't trained, add adapters, and set the rest of what tunes a model."""
    _check_tuning(model, settings, where)
    depth, decay = settings["frozen_depth"], settings["layer_decay"]
    rank, momentum = settings["lora_rank"], settings["norm_momentum"]
    assert isinstance(depth, int)
    assert isinstance(decay, float)
    assert isinstance(rank, int)
    assert isinstance(momentum, float)
    backbone, blocks = model.backbone, model.blocks
    if settings["tune"] == "lora":
        lora.adapt(backbone, lora.adaptable(backbone, blocks, depth), rank)
    elif settings["tune"] == "head":
        backbone.requires_grad_(False)
        if model.head is None:
            backbone.get_output_embeddings().requires_grad_(True)  # type: ignore[operator]
    elif depth:
        levels = blocks.levels(backbone)
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(levels[name] > depth)
    model.layer_decay = decay
    for module in backbone.modules() if momentum else ():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum


def _freeze_unused(model: FineTuned) -> None:
    """Freeze what is outside the blocks and no output depends on, such as the stand-in for masked
    tokens. Parts of a block may be used by some inputs only, and stay.
    """
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        outputs = model.eval()(model.example)
    left, seen, used = [outputs.grad_fn], set(), set()
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        used.add(getattr(node, "variable", None))
        left += [before for before, _ in node.next_functions]
    levels = model.blocks.levels(model.backbone)
    for name, parameter in model.backbone.named_parameters():
        if parameter not in used and not 0 < levels[name] <= len(model.blocks):
            parameter.requires_grad_(False)


def _check_tuning(model: FineTuned, settings: Mapping[str, Scalar], where: str) -> None:
    """Raises SpaceError for settings of `tune` that the model doesn't allow."""
    depth, blocks = settings["frozen_depth"], model.blocks
    assert isinstance(depth, int)
    if depth > len(blocks):
        raise SpaceError(
            f"{where}.frozen_depth: got {depth}; must be at most {len(blocks)}: the blocks that "
            f"{settings['checkpoint']} has"
        )
    if settings["tune"] == "lora":
        lora.check()
        if settings["lora_rank"] == 0:
            raise SpaceError(f"{where}.lora_rank: got 0; must be at least 1 under lora")
        if blocks and depth == len(blocks):
            raise SpaceError(
                f"{where}.frozen_depth: got {depth}; must be at most {depth - 1} under lora, which "
                f"adapts the blocks that aren't frozen: {settings['checkpoint']} has {depth}"
            )
        if not lora.adaptable(model.backbone, blocks, depth):
            raise lora.nothing_to_adapt(f"{where}.tune")


def _of_texts(
    checkpoint: Checkpoint,
    shape: TaskShape,
    settings: Mapping[str, Scalar],
    where: str,
    check: bool,
) -> FineTuned:
    place = f"{where}.checkpoint"
    language = shape.kind == "language"
    config = transformers_models.read_config(checkpoint, place)
    causal = transformers_models.is_causal(config)
    if language and not causal:
        raise SpaceError(
            f"{place}: got {shown(settings['checkpoint'])}, whose model, {config.model_type}, sees "
            "the tokens it would predict; must be causal, such as gpt2, for language"
        )
    make = transformers_models.on_meta if check else transformers_models.load
    backbone = make(checkpoint, config, place, language=language)
    if "attention_mask" not in inspect.signature(backbone.forward).parameters:
        raise SpaceError(
            f"{place}: got {shown(settings['checkpoint'])}, whose model, {config.model_type}, "
            "takes no attention mask: it would read what short texts are filled up with"
        )
    _check_positions(backbone, config, settings, where)
    padding = config.pad_token_id if isinstance(config.pad_token_id, int) else 0
    blocks = find_blocks(backbone)
    if language:
        return LanguageModel(backbone, blocks, padding=padding)
    pooling: Any = settings["pooling"]
    if pooling == "auto":
        pooling = _own_pooling(checkpoint) or ("last" if causal else "mean")
    width = getattr(config, "hidden_size", None)
    if not isinstance(width, int):
        raise SpaceError(
            f"{place}: {checkpoint.folder / 'config.json'}: model_type {config.model_type} has "
            f"states of size {shown(width)}; must be one hidden_size"
        )
    if not check:
        # Some models project their states to another size.
        read = TextModel(backbone, None, blocks, pooling=pooling, padding=padding).eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            width = int(read.features(read.example).shape[1])
    head = nn.Linear(width, shape.outputs)
    return TextModel(backbone, head, blocks, pooling=pooling, padding=padding)


def _own_pooling(checkpoint: Checkpoint) -> str | None:
    """What a folder of sentence-transformers says."""
    path = checkpoint.folder / "1_Pooling" / "config.json"
    told = read_json(path, checkpoint.where) if path.is_file() else {}
    return next((name for key, name in _POOLING.items() if told.get(key) is True), None)


def _check_positions(
    backbone: nn.Module, config: Any, settings: Mapping[str, Scalar], where: str
) -> None:
    length = settings["max_length"]
    positions = getattr(config, "max_position_embeddings", None)
    for name, module in backbone.named_modules():
        # Such tables begin after the padding's place (RoBERTa).
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            offset = -1 if module.padding_idx is None else module.padding_idx
            positions = module.num_embeddings - offset - 1
    if isinstance(positions, int) and isinstance(length, int) and 0 < positions < length:
        raise SpaceError(
            f"{where}.max_length: got {length}; must be at most {positions}: the positions that "
            f"{settings['checkpoint']} has"
        )


def _of_images(
    checkpoint: Checkpoint,
    shape: TaskShape,
    settings: Mapping[str, Scalar],
    where: str,
    check: bool,
) -> FineTuned:
    place = f"{where}.checkpoint"
    config = transformers_models.read_config(checkpoint, place)
    pixels = read_pixels(checkpoint, settings, where)
    assert pixels is not None
    size = pixels.side(shape)
    bare = transformers_models.on_meta(checkpoint, config, place, language=False)
    own = getattr(config, "image_size", None)
    resized = own is not None and size != own
    interpolate = resized and transformers_models.interpolates(bare)
    width = _width(
        ImageModel(bare, None, Blocks(None, ()), interpolate=interpolate),
        torch.zeros(2, pixels.channels, size, size, device="meta"),
        where,
    )
    backbone = bare
    if not check:
        backbone = transformers_models.load(checkpoint, config, place, language=False)
    head = nn.Linear(width, shape.outputs)
    model = ImageModel(backbone, head, find_blocks(backbone), interpolate=interpolate)
    model.example = torch.zeros(1, pixels.channels, size, size)
    return model


def _plain(
    checkpoint: Checkpoint, shape: TaskShape, settings: Mapping[str, Scalar], where: str
) -> FineTuned:
    """Of timm, or of the user's builder: the model's inputs are handed on as they are."""
    named = str(settings["head"])
    if checkpoint.form == "timm":
        backbone = timm_models.create(
            checkpoint.timm,
            f"{where}.checkpoint",
            weights=not checkpoint.scratch,
            whole=bool(named),
        )
    else:
        backbone = state_models.load(checkpoint, checkpoint.builder_of(settings), where)
    read = None
    if named or checkpoint.form == "state":
        read = state_models.take_head(backbone, named, where)
    inputs = torch.zeros(2, *shape.input_shape)
    pixels = read_pixels(checkpoint, settings, where) if shape.layout == "image" else None
    if pixels is not None:
        side = pixels.side(shape)
        inputs = torch.zeros(2, pixels.channels, side, side)
    width = _width(backbone, inputs, where)
    if read is not None and width != read:
        raise SpaceError(
            f"{where}.head: got {shown(named)}; without it the model gives {width} features, and "
            f"it reads {read}, so that it isn't the last part; must name the head"
        )
    model = FineTuned(backbone, nn.Linear(width, shape.outputs), find_blocks(backbone))
    model.example = inputs[:1]
    return model


def _width(model: nn.Module, inputs: torch.Tensor, where: str) -> int:
    """How many features a model without its head gives of each input, which it is made to read."""
    shape = tuple(inputs.shape[1:])
    try:
        with torch.no_grad():
            found = model.eval()(inputs)
    except Exception as error:
        # The model's own code may raise anything.
        raise SpaceError(
            f"{where}.checkpoint: its model can't read inputs of shape {shape}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from None
    if not isinstance(found, torch.Tensor) or found.dim() != 2:
        got = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise SpaceError(
            f"{where}.checkpoint: its model without the head gives {got} for a batch of 2; must be "
            "(2, features)"
        )
    return int(found.shape[1])
