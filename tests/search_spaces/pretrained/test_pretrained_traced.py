"""Every kind of model is traced while it trains, by its own names, and trains as if it weren't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import (
    CONVOLUTIONS,
    RECURRENT,
    batch,
    build,
    image_task,
    language_task,
    number_task,
    text_task,
)
from torch.nn.functional import cross_entropy, mse_loss

from search_spaces.architecture import rate_scales
from trace_core import Tracer

STEPS = 4
KINDS: dict[str, tuple[str, Any, dict[str, Any], set[str]]] = {
    "bert": ("bert", text_task(), {}, {"backbone.encoder.layer.1.output.dense", "head"}),
    "bert, lora": (
        "bert",
        text_task(),
        {"tune": "lora", "lora_rank": 2, "frozen_depth": 1},
        {"backbone.encoder.layer.1.output.dense.lora_A.default", "head"},
    ),
    "gpt2": ("gpt2", text_task(), {"layer_decay": 0.5}, {"backbone.h.0.mlp.c_fc", "head"}),
    "language": (
        "gpt2",
        language_task(["the thing", "and another"]),
        {},
        {"backbone.transformer.h.1.attn.c_attn", "backbone.transformer.wte"},
    ),
    "vit": ("vit", image_task(), {"frozen_depth": 1}, {"backbone.layernorm", "head"}),
    "resnet": ("resnet", image_task(), {"norm_momentum": 0.2}, {"backbone.embedder", "head"}),
    "cnn": ("cnn", image_task(), {"builder": CONVOLUTIONS}, {"backbone.blocks.2.0", "head"}),
    "lstm": ("lstm", number_task((6, 4)), {"builder": RECURRENT}, {"backbone.lstm", "head"}),
}


def loss(task: Any, outputs: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    if task.kind == "language":
        return cross_entropy(
            outputs[:, :-1].flatten(0, 1), inputs[:, 1:].flatten(), ignore_index=-1
        )
    targets = torch.from_numpy(task.data().train.targets)
    return (
        cross_entropy(outputs, targets)
        if task.kind == "classification"
        else mse_loss(outputs, targets)
    )


def train(checkpoint: Path, task: Any, options: dict[str, Any], watched: bool) -> tuple[Any, Any]:
    model = build(task, checkpoint, **options)
    inputs = batch(task, checkpoint, **options)
    scales = rate_scales(model)
    groups = [
        {"params": [parameter], "lr": 1e-3 * scales.get(name, 1.0)}
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    optimizer = torch.optim.AdamW(groups)
    tracer = Tracer(model, optimizer) if watched else None
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(task, model(inputs), inputs).backward()
        optimizer.step()
    state = [*model.state_dict().values(), torch.get_rng_state()]
    return state, None if tracer is None else (model, tracer.trace())


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_is_traced_by_name_and_undisturbed(
    checkpoints: dict[str, Path], kind: str
) -> None:
    folder, task, options, layers = KINDS[kind]
    plain, _ = train(checkpoints[folder], task, options, watched=False)
    state, (model, trace) = train(checkpoints[folder], task, options, watched=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, state, strict=True))
    assert len(trace) == STEPS
    rates = trace.change_rate("rms")
    assert rates.shape == (STEPS,)
    assert (rates > 0).all()
    told = trace.by_layer()
    found = set(told["layer"]) if "layer" in getattr(told, "columns", ()) else set(told)
    assert any(any(name.startswith(layer) for name in found) for layer in layers)
    tops = {name.partition(".")[0] for name in found}
    assert tops == ({"backbone"} if task.kind == "language" else {"backbone", "head"})
    frozen = [name for name, one in model.named_parameters() if not one.requires_grad]
    assert bool(frozen) == ("lora" in kind or "frozen_depth" in options)
