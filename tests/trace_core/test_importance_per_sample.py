"""Fisher and MAS against gradients taken one sample at a time."""

import copy

import numpy as np
import pytest
import torch
from probed_models import (
    MODELS,
    Branching,
    Encoded,
    Hiding,
    assert_close,
    classify,
    encoded_probe,
    make,
    make_probe,
)
from small_models import INPUTS, Recurrent, mlp
from torch import nn
from torch.nn.functional import mse_loss

from trace_core import TraceError
from trace_core.importance import PROBED, Probe
from trace_core.importance import per_sample as per_sample_module

ESTIMATORS = ("fisher", "mas")


def by_hand(estimator, model, probe, logits=lambda outputs: outputs):
    """Mean over samples of g² or |g|, with backward() and numpy on a copy of the model."""
    model = copy.deepcopy(model).eval()
    sums = {name: np.zeros(parameter.shape) for name, parameter in model.named_parameters()}
    for sample in range(probe.size):
        batch = probe.samples(sample, sample + 1)
        outputs = probe.forward(model, batch)
        value = (
            probe.loss(outputs, batch) if estimator == "fisher" else (logits(outputs) ** 2).sum()
        )
        model.zero_grad()
        value.backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                gradient = parameter.grad.numpy()
                sums[name] += gradient**2 if estimator == "fisher" else np.abs(gradient)
    return {name: total / probe.size for name, total in sums.items()}


def logits_of(outputs):
    return outputs.logits


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("method", ["auto", "loop"])
@pytest.mark.parametrize("name", MODELS)
def test_the_mean_is_over_single_samples(estimator, method, name):
    model, probe = make(MODELS[name]), make_probe()
    found = PROBED[estimator](model, probe, method=method)
    assert_close(found, by_hand(estimator, model, probe), rtol=1e-8, atol=1e-14)
    # torch has no batching rule for a GRU: there the loop steps in by itself.
    assert found.method == ("loop" if name == "gru" or method == "loop" else "vmap")


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("method", ["vmap", "loop"])
def test_a_dict_batch(estimator, method):
    torch.manual_seed(0)
    model, probe = Encoded().double(), encoded_probe()
    found = PROBED[estimator](model, probe, method=method)
    assert_close(found, by_hand(estimator, model, probe, logits_of), rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_samples_may_be_permuted_chunked_and_split(estimator):
    model, probe = make(MODELS["conv"]), make_probe(8)
    x, y = probe.batch
    wanted = {name: c.numpy() for name, c in PROBED[estimator](model, probe).items()}
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    assert_close(PROBED[estimator](model, Probe((x[order], y[order]), classify)), wanted)
    for chunk in (1, 3, 8, 100):
        found = PROBED[estimator](model, probe, method="vmap", chunk=chunk)
        assert_close(found, wanted)
    halves = [
        PROBED[estimator](model, Probe((x[part], y[part]), classify))
        for part in (slice(4), slice(4, None))
    ]
    assert_close({name: (halves[0][name] + halves[1][name]) / 2 for name in wanted}, wanted)


def test_by_default_chunks_bound_the_gradients_that_are_held(monkeypatch):
    model, sizes = make(mlp), []
    elements = sum(parameter.numel() for parameter in model.parameters())
    probe = make_probe(11)
    original = Probe.samples

    def counted(self, start, stop):
        part = original(self, start, stop)
        sizes.append(len(part[0]))
        return part

    monkeypatch.setattr(Probe, "samples", counted)
    monkeypatch.setattr(per_sample_module, "GRADIENTS_HELD", 8 * elements)
    assert PROBED["fisher"](model, probe).method == "vmap"
    assert sizes == [8, 3]
    monkeypatch.setattr(per_sample_module, "GRADIENTS_HELD", 8 * elements - 1)
    assert PROBED["fisher"](model, probe).method == "loop"
    assert PROBED["fisher"](model, probe, chunk=2).method == "vmap"


def test_tied_weights_count_once_with_both_uses():
    model, probe = make(MODELS["tied"]), make_probe()
    found = PROBED["fisher"](model, probe)
    assert "second.weight" not in found
    untied = copy.deepcopy(model)
    untied.second.weight = nn.Parameter(model.first.weight.detach().clone())
    apart = PROBED["fisher"](untied, probe)
    assert not torch.allclose(found["first.weight"], apart["first.weight"])


def test_fisher_is_not_the_square_of_the_mean_gradient():
    """At zero weights a logistic model predicts ½, and both labels of each x are as likely as they
    occur: Fisher's information is x²/4 exactly, and the mean gradient is 0.
    """
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batch = (torch.cat([x, x]), torch.tensor([0.0, 1.0], dtype=torch.float64).repeat_interleave(5))
    model = nn.Linear(4, 1, dtype=torch.float64)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)

    def loss(outputs, batch):
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], batch[1])

    found = PROBED["fisher"](model, Probe(batch, loss))
    loss(model(batch[0]), batch).backward()
    assert model.weight.grad.abs().max() < 1e-15
    wanted = {"weight": (x**2).mean(0, keepdim=True).numpy() / 4, "bias": [0.25]}
    assert_close(found, wanted)


def test_mas_of_a_linear_model_in_closed_form():
    torch.manual_seed(0)
    model = nn.Linear(4, 3, dtype=torch.float64)
    x = torch.randn(7, 4, dtype=torch.float64)

    def no_loss(outputs, batch):
        raise AssertionError("needs no labels")

    found = PROBED["mas"](model, Probe(x, no_loss))
    w, b, inputs = model.weight.detach().numpy(), model.bias.detach().numpy(), x.numpy()
    outputs = inputs @ w.T + b
    wanted = {
        "weight": np.mean(np.abs(2 * outputs[:, :, None] * inputs[:, None, :]), axis=0),
        "bias": np.mean(np.abs(2 * outputs), axis=0),
    }
    assert_close(found, wanted)


def test_a_mean_square_error_needs_no_classes():
    torch.manual_seed(0)
    model, x = nn.Linear(3, 1, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    y = torch.randn(6, 1, dtype=torch.float64)
    probe = Probe((x, y), lambda outputs, batch: mse_loss(outputs, batch[1]))
    residual = (model(x) - y).detach()
    wanted = {
        "weight": ((2 * residual * x) ** 2).mean(0, keepdim=True).numpy(),
        "bias": ((2 * residual) ** 2).mean(0).numpy(),
    }
    assert_close(PROBED["fisher"](model, probe), wanted)


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 3, sparse=True)

    def forward(self, x):
        return self.embed((x.abs() * 4).long().clamp(max=8)).mean(1)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", [Branching, Hiding, Sparse, Recurrent])
def test_the_loop_steps_in_where_vmap_cannot(estimator, kind):
    torch.manual_seed(0)
    model, probe = kind().double(), make_probe()
    found = PROBED[estimator](model, probe)
    model = model if kind is not Sparse else dense(model)
    assert_close(found, by_hand(estimator, model, probe), rtol=1e-8, atol=1e-14)
    if kind is not Sparse:
        assert found.method == "loop"
        with pytest.raises(TraceError, match=r"vmap can't trace this model .*take method 'loop'"):
            PROBED[estimator](model, probe, method="vmap")


def dense(model):
    model = copy.deepcopy(model)
    model.embed.sparse = False
    return model


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("estimator", PROBED)
def test_a_scripted_model(estimator):
    model, probe = make(mlp), make_probe()
    wanted = {name: c.numpy() for name, c in PROBED[estimator](model, probe).items()}
    scripted = torch.jit.script(model)
    list(scripted.children())[2].eval()
    assert_close(PROBED[estimator](scripted, probe), wanted)
    assert [module.training for module in scripted.modules()] == [True, True, True, False, True]


def test_an_unused_parameter_has_none():
    model = make(mlp)
    model.register_parameter("idle", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    for method in ("vmap", "loop"):
        assert not PROBED["fisher"](model, make_probe(), method=method)["idle"].any()


def test_short_floats_are_summed_in_single_precision():
    """Squares of gradients of 2⁻¹⁰ are lost beside 1 in bfloat16, and their sum is not."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    x = torch.full((65, 1), 2.0**-5, dtype=torch.bfloat16)
    x[0] = 1
    probe = Probe(x, lambda outputs, batch: outputs.sum())
    for method in ("vmap", "loop"):
        found = PROBED["fisher"](model, probe, method=method)["weight"]
        assert found.item() == pytest.approx((1 + 64 * 2.0**-10) / 65, rel=1e-6)


def test_settings_are_checked():
    model, probe = make(mlp), make_probe()
    with pytest.raises(TraceError, match=r"unknown method 'vmapp' .*did you mean 'vmap'"):
        PROBED["fisher"](model, probe, method="vmapp")
    for chunk in (0, -1, 2.5):
        with pytest.raises(TraceError, match=r"chunk is .*; it must be a whole number from 1"):
            PROBED["mas"](model, probe, chunk=chunk)


@pytest.mark.parametrize("method", ["auto", "loop"])
def test_a_loss_that_depends_on_nothing_is_told(method):
    probe = Probe(make_probe().batch, lambda outputs, batch: classify(outputs.detach(), batch))
    with pytest.raises(TraceError, match="depends on no trainable parameter"):
        PROBED["fisher"](make(mlp), probe, method=method)


def test_a_fault_of_the_model_is_told_in_its_own_words():
    probe = Probe(
        (torch.zeros(3, 5, dtype=torch.float64), torch.zeros(3, dtype=torch.long)), classify
    )
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        PROBED["fisher"](make(mlp), probe)


def test_mas_needs_one_output_tensor():
    model = nn.LSTM(INPUTS, 3, dtype=torch.float64)
    probe = Probe(make_probe().batch[0], classify)
    with pytest.raises(TraceError, match="a tuple without logits; give the probe a forward"):
        PROBED["mas"](model, probe)
    named = Probe(probe.batch, classify, lambda model, batch: {"logits": model(batch)[0]})
    plain = Probe(probe.batch, classify, lambda model, batch: model(batch)[0])
    wanted = {name: c.numpy() for name, c in PROBED["mas"](model, plain).items()}
    assert_close(PROBED["mas"](model, named), wanted)
