from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import (
    CONVOLUTIONS,
    RECURRENT,
    batch,
    bert,
    build,
    image_task,
    language_task,
    number_task,
    text_task,
)
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from search_spaces import initialise
from search_spaces.architecture import fresh_parts, rate_scales
from search_spaces.pretrained.packages import quiet

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bert": (text_task(), {}),
    "gpt2": (text_task(), {}),
    "vit": (image_task(), {}),
    "resnet": (image_task(), {}),
    "convnext": (image_task(side=16), {}),
    "cnn": (image_task(), {"builder": CONVOLUTIONS}),
    "lstm": (number_task((6, 4)), {"builder": RECURRENT}),
}


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def trained(model: nn.Module) -> set[str]:
    return {name for name, one in model.named_parameters() if one.requires_grad}


@pytest.mark.parametrize("kind", KINDS)
def test_every_trained_parameter_has_a_gradient_and_all_are_float32(
    checkpoints: dict[str, Path], kind: str
) -> None:
    task, options = KINDS[kind]
    model = build(task, checkpoints[kind], **options)
    assert model.training
    outputs = model(batch(task, checkpoints[kind], **options))
    assert outputs.shape == (len(task.data().train), task.shape.outputs)
    outputs.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None, name
        assert name.startswith(("backbone.", "head."))


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_texts_are_pooled_as_each_alone_would_be(
    checkpoints: dict[str, Path], pooling: str
) -> None:
    task = text_task()
    model = build(task, checkpoints["bert"], pooling=pooling).eval()
    with quiet():
        plain = AutoModel.from_pretrained(checkpoints["bert"]).eval()
        tokenizer = AutoTokenizer.from_pretrained(checkpoints["bert"])
    found = model.features(batch(task, checkpoints["bert"]))
    for text, row in zip(task.data().train.inputs, found, strict=True):
        states = plain(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        pooled = {"mean": states.mean(0), "first": states[0], "last": states[-1]}[pooling]
        torch.testing.assert_close(row, pooled)


def test_a_folder_says_how_its_states_are_pooled(tmp_path: Path, checkpoints: Any) -> None:
    folder = bert(tmp_path / "bert")
    assert build(text_task(), folder).pooling == "mean"
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert build(text_task(), folder).pooling == "first"
    assert build(text_task(), checkpoints["gpt2"]).pooling == "last"


def test_language_is_the_models_own(checkpoints: dict[str, Path]) -> None:
    task = language_task(["the thing", "a cat"])
    model = build(task, checkpoints["gpt2"]).eval()
    tokens = batch(task, checkpoints["gpt2"])
    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(checkpoints["gpt2"]).eval()
    outputs = model(tokens)
    for row, found in zip(tokens, outputs, strict=True):
        alone = row[row >= 0][None]
        torch.testing.assert_close(found[: alone.shape[1]], plain(input_ids=alone).logits[0])
    padded = torch.nn.functional.pad(tokens, (0, 5), value=-1)
    assert model(padded).shape == (2, padded.shape[1], 258)
    torch.testing.assert_close(model(padded)[:, : tokens.shape[1]], outputs)
    assert fresh_parts(model) == []


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext"])
def test_images_are_pooled_as_transformers_does(checkpoints: dict[str, Path], kind: str) -> None:
    task, _ = KINDS[kind]
    pixels = batch(task, checkpoints[kind])
    with quiet():
        plain = AutoModel.from_pretrained(checkpoints[kind]).eval()
    told = plain(pixel_values=pixels)
    expected = told.last_hidden_state[:, 0] if kind == "vit" else told.pooler_output.flatten(1)
    found = build(task, checkpoints[kind]).eval().features(pixels)
    torch.testing.assert_close(found, expected)


def test_a_transformer_of_images_reads_other_sizes(checkpoints: dict[str, Path]) -> None:
    model = build(image_task(), checkpoints["vit"], image_size=16)
    assert model(batch(image_task(), checkpoints["vit"], image_size=16)).shape == (12, 3)


def test_a_users_model_gives_the_features_before_its_head(checkpoints: dict[str, Path]) -> None:
    from tiny_checkpoints import Convolutions

    task = image_task()
    pixels = batch(task, checkpoints["cnn"], builder=CONVOLUTIONS)
    model = build(task, checkpoints["cnn"], builder=CONVOLUTIONS).eval()
    plain = Convolutions().eval()
    plain.load_state_dict(torch.load(checkpoints["cnn"]))
    plain.classifier = nn.Sequential(plain.classifier[0])
    torch.testing.assert_close(model.features(pixels), plain(pixels))
    named = build(task, checkpoints["cnn"], builder=CONVOLUTIONS, head="classifier")
    assert named.head.in_features == 6
    assert isinstance(named.backbone.classifier, nn.Identity)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_head_and_what_is_from_scratch_are_drawn(
    checkpoints: dict[str, Path], kind: str
) -> None:
    task, options = KINDS[kind]
    one, two = (build(task, checkpoints[kind], seed, **options) for seed in (1, 2))
    for name, tensor in state(one).items():
        same = torch.equal(tensor, state(two)[name])
        assert same == name.startswith("backbone.")
    again = build(task, checkpoints[kind], 1, **options)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))

    scratch = f"scratch:{checkpoints[kind]}"
    control, same, other = (build(task, scratch, seed, **options) for seed in (1, 1, 2))
    assert state(control).keys() == state(one).keys()
    weights = [n for n, p in control.named_parameters() if p.dim() > 1]
    for name in weights:
        assert torch.equal(state(control)[name], state(same)[name])
        assert not torch.equal(state(control)[name], state(other)[name])
        if name.startswith("backbone."):
            assert not torch.equal(state(control)[name], state(one)[name])


@pytest.mark.parametrize("kind", KINDS)
def test_an_initialisation_draws_what_is_new(checkpoints: dict[str, Path], kind: str) -> None:
    task, options = KINDS[kind]
    model = build(task, checkpoints[kind], **options)
    before = state(model)
    for part in fresh_parts(model):
        initialise(part, "orthogonal")
    changed = {n for n, t in state(model).items() if not torch.equal(t, before[n])}
    assert changed == {"head.weight", "head.bias"}
    control = build(task, f"scratch:{checkpoints[kind]}", **options)
    assert fresh_parts(control) == [control]


def test_adapters_start_as_nothing_also_from_scratch(checkpoints: dict[str, Path]) -> None:
    model = build(text_task(), f"scratch:{checkpoints['bert']}", tune="lora")
    before = state(model)
    for part in fresh_parts(model):
        initialise(part, "normal_002")
    after = state(model)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert "backbone.embeddings.word_embeddings.weight" in changed
    assert "backbone.encoder.layer.0.attention.self.query.base_layer.weight" in changed
    assert not any("lora_" in name for name in changed)


def test_blocks_that_are_frozen_and_what_precedes_them(checkpoints: dict[str, Path]) -> None:
    model = build(text_task(), checkpoints["bert"], frozen_depth=1)
    told = trained(model)
    everything = {name for name, _ in model.named_parameters()}
    frozen = everything - told
    assert frozen == {
        n for n in everything if n.startswith(("backbone.embeddings", "backbone.encoder.layer.0."))
    }
    assert trained(build(text_task(), checkpoints["bert"])) == everything
    head = build(text_task(), checkpoints["bert"], tune="head")
    assert trained(head) == {"head.weight", "head.bias"}


def test_the_head_of_language_is_its_own(checkpoints: dict[str, Path]) -> None:
    model = build(language_task(["some text"]), checkpoints["gpt2"], tune="head")
    # It is tied to the embeddings.
    assert trained(model) == {"backbone.transformer.wte.weight"}


def test_learning_rates_fall_towards_the_input(checkpoints: dict[str, Path]) -> None:
    assert rate_scales(build(text_task(), checkpoints["gpt2"])) == {}
    model = build(text_task(), checkpoints["gpt2"], layer_decay=0.5)
    scales = rate_scales(model)
    assert scales["backbone.wte.weight"] == scales["backbone.wpe.weight"] == 0.125
    assert scales["backbone.h.0.ln_1.weight"] == 0.25
    assert scales["backbone.h.1.mlp.c_fc.weight"] == 0.5
    assert "backbone.ln_f.weight" not in scales
    assert "head.weight" not in scales
    assert scales.keys() <= {name for name, _ in model.named_parameters()}
    recurrent = build(number_task((6, 4)), checkpoints["lstm"], builder=RECURRENT, layer_decay=0.5)
    assert set(rate_scales(recurrent).values()) == {0.5}


@pytest.mark.parametrize(("kind", "blocks"), [("bert", "encoder.layer"), ("gpt2", "h")])
def test_adapters_beside_the_linear_layers_of_later_blocks(
    checkpoints: dict[str, Path], kind: str, blocks: str
) -> None:
    task = text_task()
    plain = build(task, checkpoints[kind]).eval()
    model = build(
        task, checkpoints[kind], tune="lora", lora_rank=3, frozen_depth=1, layer_decay=0.5
    )
    told = trained(model)
    assert told == {n for n, _ in model.named_parameters() if "lora_" in n or n.startswith("head.")}
    assert all(n.startswith((f"backbone.{blocks}.1.", "head.")) for n in told)
    shapes = {tuple(p.shape) for n, p in model.named_parameters() if "lora_A" in n}
    assert {rank for rank, _ in shapes} == {3}
    assert rate_scales(model) == {name: 0.5 for name in told if name.startswith("backbone.")}
    inputs = batch(task, checkpoints[kind])
    with torch.no_grad():
        torch.testing.assert_close(model.eval().features(inputs), plain.features(inputs))
    model.train()(inputs).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_what_no_output_depends_on_is_frozen(tmp_path: Path) -> None:
    from tiny_checkpoints import _save
    from transformers import Dinov2Config, Dinov2ForImageClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Dinov2Config(image_size=8, patch_size=4, **sizes)
    _save(Dinov2ForImageClassification, config, tmp_path / "dino", 0)
    model = build(image_task(), tmp_path / "dino")
    everything = {name for name, _ in model.named_parameters()}
    assert everything - trained(model) == {"backbone.embeddings.mask_token"}
    assert model.training
    again = build(image_task(), tmp_path / "dino", tune="head")
    assert trained(again) == {"head.weight", "head.bias"}


def test_momentum_of_batch_norms(checkpoints: dict[str, Path]) -> None:
    def momenta(**changes: Any) -> set[float]:
        model = build(image_task(), checkpoints["resnet"], **changes)
        return {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)}

    assert momenta(norm_momentum=0.25) == {0.25}
    assert momenta() == {0.1}
