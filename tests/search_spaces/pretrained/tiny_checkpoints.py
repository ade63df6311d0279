"""Checkpoints of a few thousand parameters, saved as the real ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    ConvNextConfig,
    ConvNextForImageClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from search_spaces import (
    ClassificationTask,
    LanguageTask,
    Part,
    RegressionTask,
    Scalar,
    Splits,
    Task,
    TaskShape,
    get_architecture,
)
from search_spaces.pretrained.packages import quiet

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = ["good film", "a bad film, truly", "i liked it", "awful", "fine", "great, great, great"]
PRETRAINED = get_architecture("pretrained")
assert PRETRAINED.source is not None
SOURCE = PRETRAINED.source


def text_task(texts: list[str] | None = None) -> ClassificationTask:
    found = np.array(TEXTS if texts is None else texts, dtype=object)
    part = Part(found, np.arange(len(found)) % 2)
    return ClassificationTask(
        "texts", TaskShape((), 2, "classification"), lambda: Splits(part, part, part)
    )


def language_task(texts: list[str]) -> LanguageTask:
    part = Part(np.array(texts, dtype=object), np.zeros((len(texts), 0), np.int64))
    return LanguageTask("corpus", TaskShape((), 0, "language"), lambda: Splits(part, part, part))


def image_task(channels: int = 3, side: int = 8, dtype: Any = np.uint8) -> ClassificationTask:
    drawn = np.random.default_rng(0)
    images = drawn.integers(0, 256, (12, channels, side, side)).astype(dtype)
    part = Part(images, np.arange(12) % 3)
    return ClassificationTask(
        "images",
        TaskShape((channels, side, side), 3, "classification"),
        lambda: Splits(part, part, part),
    )


def number_task(shape: tuple[int, ...]) -> RegressionTask:
    inputs = np.random.default_rng(0).normal(size=(12, *shape)).astype(np.float32)
    part = Part(inputs, inputs.reshape(12, -1)[:, :2].copy())
    return RegressionTask(
        "numbers", TaskShape(shape, 2, "regression"), lambda: Splits(part, part, part)
    )


def settings(checkpoint: object, **changes: Scalar) -> dict[str, Scalar]:
    """All settings, by their defaults and these."""
    defaults = {name: one.default for name, one in PRETRAINED.settings.items()}
    return {**defaults, "checkpoint": str(checkpoint), **changes}


def build(task: Task, checkpoint: object, seed: int = 0, **changes: Scalar) -> Any:
    torch.manual_seed(seed)
    return PRETRAINED.build(task.shape, **settings(checkpoint, **changes))


def batch(task: Task, checkpoint: object, **changes: Scalar) -> torch.Tensor:
    """The training part as a model is given it."""
    splits = SOURCE.prepare(task, settings(checkpoint, **changes))
    inputs = torch.from_numpy(splits.train.inputs)
    if splits.pixels is not None:
        mean, deviation = (torch.from_numpy(one)[:, None, None] for one in splits.pixels)
        return (inputs.float() / 255 - mean) / deviation
    return inputs.long() if task.shape.layout == "text" else inputs


def problems(task: Task, given: dict[str, Any]) -> list[str]:
    """What a configuration with these settings is told."""
    from search_spaces import Space, SpaceError

    where = "space.architecture.pretrained"
    try:
        space = Space.parse({"architecture": {"pretrained": given}, "learning_rate": 0.1})
    except SpaceError as error:
        return list(error.problems)
    return SOURCE.problems(task, space.architectures["pretrained"], where)


def bert(folder: Path, seed: int = 0, **changes: Any) -> Path:
    kept = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    kept |= {"intermediate_size": 48, "max_position_embeddings": 128, **changes}
    _save(BertForMaskedLM, BertConfig(**kept), folder, seed)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, ","]
    vocabulary = {word: index for index, word in enumerate(words)}
    # Letters within a word have a name of their own, and share the numbers of the first ones.
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, sep_token="[SEP]", **special)
    fast.save_pretrained(folder)
    return folder


def gpt2(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Its tokenizer is the bytes, without a merge but of ``t`` and ``h``."""
    kept = {"vocab_size": 258, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
    kept |= {"bos_token_id": 0, "eos_token_id": 0, **changes}
    _save(GPT2LMHeadModel, GPT2Config(**kept), folder, seed)
    names = ["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "th"]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("t", "h")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    return folder


def vit(folder: Path, seed: int = 0, **changes: Any) -> Path:
    kept = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    kept |= {"intermediate_size": 48, "image_size": 8, "patch_size": 4, **changes}
    _save(ViTForImageClassification, ViTConfig(**kept), folder, seed)
    _preprocessor(folder, {"height": 8, "width": 8})
    return folder


def resnet(folder: Path, seed: int = 0, **changes: Any) -> Path:
    kept = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], **changes}
    _save(ResNetForImageClassification, ResNetConfig(layer_type="basic", **kept), folder, seed)
    _preprocessor(folder, {"shortest_edge": 16})
    return folder


def convnext(folder: Path, seed: int = 0) -> Path:
    config = ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 2], num_stages=2, image_size=16)
    _save(ConvNextForImageClassification, config, folder, seed)
    return folder


def _preprocessor(folder: Path, size: dict[str, int]) -> None:
    told = {"size": size, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2]}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))


def _save(kind: Any, config: Any, folder: Path, seed: int) -> None:
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        kind(config).save_pretrained(folder)


class Convolutions(nn.Module):
    """A user's own: a stem, three blocks with batch norms, a Linear and one more before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        block = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)) for _ in range(3)]
        self.blocks = nn.ModuleList(block)
        self.between = nn.Linear(4, 6)
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(6, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.stem(images)
        for block in self.blocks:
            found = found + block(found).relu()
        result: torch.Tensor = self.classifier(self.between(found.mean((2, 3))).relu())
        return result


class Wrapped(nn.Module):
    """As a training's class holds a model."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Convolutions()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.net(images)
        return result


class Astray(Convolutions):
    """Its last Linear by name is not the last to be called."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.scale(self.stem(images).mean((2, 3)))
        result: torch.Tensor = self.classifier(self.between(found))
        return result


class Recurrent(nn.Module):
    """A user's own: an LSTM over the steps of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, num_layers=2, batch_first=True)
        self.fc = nn.Linear(8, 5)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc(self.lstm(steps)[0][:, -1])
        return result


def saved(module: nn.Module, path: Path) -> Path:
    torch.save(module.state_dict(), path)
    return path


CONVOLUTIONS, RECURRENT = "tiny_checkpoints:Convolutions", "tiny_checkpoints:Recurrent"
