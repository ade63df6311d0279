"""Every kind of model is traced while it trains, by its own names, and trains as if it weren't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
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
# Of each kind: what it is made of, and the blocks by which its trace is rolled up.
KINDS: dict[str, tuple[str, Any, dict[str, Any], set[str]]] = {
    "bert": (
        "bert",
        text_task(),
        {},
        {"backbone.embeddings", "backbone.encoder.layer.0", "backbone.encoder.layer.1", "head"},
    ),
    "bert, lora": (
        "bert",
        text_task(),
        {"tune": "lora", "lora_rank": 2, "frozen_depth": 1},
        {"backbone.encoder.layer.1", "head"},
    ),
    "gpt2": (
        "gpt2",
        text_task(),
        {"layer_decay": 0.5},
        {"backbone", "backbone.h.0", "backbone.h.1", "head"},
    ),
    "language": (
        "gpt2",
        language_task(["the thing", "and another"]),
        {},
        {"backbone.transformer", "backbone.transformer.h.0", "backbone.transformer.h.1"},
    ),
    "vit": (
        "vit",
        image_task(),
        {"frozen_depth": 1},
        {"backbone", "backbone.layers.1", "head"},
    ),
    "resnet": (
        "resnet",
        image_task(),
        {"norm_momentum": 0.2},
        {
            "backbone.embedder.embedder",
            "backbone.encoder.stages.0",
            "backbone.encoder.stages.1",
            "head",
        },
    ),
    "cnn": (
        "cnn",
        image_task(),
        {"builder": CONVOLUTIONS},
        {"backbone", "backbone.blocks.0", "backbone.blocks.1", "backbone.blocks.2", "head"},
    ),
    "lstm": ("lstm", number_task((6, 4)), {"builder": RECURRENT}, {"backbone", "head"}),
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
    folder, task, options, blocks = KINDS[kind]
    plain, _ = train(checkpoints[folder], task, options, watched=False)
    state, (model, trace) = train(checkpoints[folder], task, options, watched=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, state, strict=True))
    assert len(trace) == STEPS
    assert (trace.change_rate("rms") > 0).all()

    rolled = trace.by_block()
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    assert {block for block, part in rolled.items() if set(part.tensors) & trained} == blocks
    assert sum(part.sizes.sum() for part in rolled.values()) == trace.sizes.sum()
    for block in blocks:
        assert (rolled[block].change_rate("rms") > 0).all()
    scales = rate_scales(model)
    for name, rates in zip(trace.tensors, trace.learning_rates.T, strict=True):
        if name in trained:
            np.testing.assert_allclose(rates, 1e-3 * scales.get(name, 1.0))
    frozen = len(list(model.parameters())) > len(trained)
    assert frozen == ("tune" in options or "frozen_depth" in options)
