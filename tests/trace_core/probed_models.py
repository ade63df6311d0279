"""Probes, awkward models and a record of all that an estimate must leave as it was."""

import random
from types import SimpleNamespace

import numpy as np
import torch
from small_models import INPUTS, Conv, Recurrent, Tied, Transformer, mlp
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from trace_core.importance import Probe

MODELS = {"mlp": mlp, "conv": Conv, "gru": Recurrent, "transformer": Transformer, "tied": Tied}


def make(model, dtype=torch.float64, seed=0):
    """A model in training mode whose BatchNorm has seen data."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    built = model().to(dtype)
    with torch.no_grad():
        built(torch.randn(8, INPUTS, dtype=dtype))
    return built


def classify(outputs, batch):
    return cross_entropy(outputs, batch[1])


def make_probe(size=6, dtype=torch.float64, seed=1):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(size, INPUTS, generator=g, dtype=dtype)
    return Probe((x, torch.randint(3, (size,), generator=g)), classify)


class Noisy(nn.Module):
    """Dropout and BatchNorm, and every habit that leaves traces of a forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mask", torch.ones(5))
        self.register_buffer("grid", torch.ones(1, dtype=torch.long).expand(5))  # can't be written
        self.seen = 0
        self.cache = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.mask = self.mask * 2
        self.seen += 1
        x.mul_(1.0 + 0.1 * random.random() + 0.1 * np.random.rand())  # noqa: NPY002
        self.cache = torch.relu(self.norm(self.first(x)))
        return self.head(dropout(self.drop(self.cache), 0.1, training=True))


class Branching(nn.Module):
    """Looks at its values, which vmap can't trace."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(INPUTS, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x if x.sum() > 0 else 2 * x)


class Hiding(nn.Module):
    """Uses a weight by a way round that replaces none."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(INPUTS, 3)
        self.aside = [self.head.weight]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) + x @ self.aside[0].T


class Encoded(nn.Module):
    """Called as models of Hugging Face's are: keywords in, an object with logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.score = nn.Linear(6, 3)

    def forward(self, input_ids, attention_mask=None, labels=None):
        if labels is not None:
            raise AssertionError("the probe computes the loss")
        x = self.layer(self.embed(input_ids))
        weights = attention_mask.unsqueeze(-1).to(x.dtype)
        return SimpleNamespace(logits=self.score((x * weights).sum(1) / weights.sum(1)))


def encoded_probe(size=5):
    g = torch.Generator().manual_seed(2)
    batch = {
        "input_ids": torch.randint(11, (size, 4), generator=g),
        "attention_mask": torch.ones(size, 4, dtype=torch.long),
        "labels": torch.randint(3, (size,), generator=g),
    }
    return Probe(batch, lambda outputs, batch: cross_entropy(outputs.logits, batch["labels"]))


def record(model):
    """All that an estimate must not change, in comparable form."""
    return {
        "values": {n: t.detach().clone() for n, t in model.state_dict(keep_vars=True).items()},
        "identities": [id(t) for t in (*model.parameters(), *model.buffers())],
        "versions": [p._version for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "gradient identities": [id(p.grad) for p in model.parameters()],
        "trainable": [p.requires_grad for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "attributes": [{k: id(v) for k, v in vars(module).items()} for module in model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "python": random.getstate(),
    }


def assert_unchanged(before, after):
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert_equal(value, after[key], key)


def assert_equal(one, other, what):
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype, what
        assert one.numpy(force=True).tobytes() == other.numpy(force=True).tobytes(), what
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), what
        for key, value in one.items():
            assert_equal(value, other[key], f"{what}: {key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), what
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right, what)
    else:
        assert one == other, what


def assert_close(found, wanted, **tolerance):
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(
            found[name].numpy(force=True), value, err_msg=name, **({"rtol": 1e-9} | tolerance)
        )
