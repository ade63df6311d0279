from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from search_spaces import INITIALISATIONS, SpaceError, get_architecture, get_task, initialise

NAMED = [name for name in INITIALISATIONS if name != "default"]

# Every layer type with the matrices that are drawn apart, each (out, in...) in shape.
LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], list[Tensor]]]] = {
    "linear": (lambda: nn.Linear(80, 120), lambda m: [m.weight]),
    "conv1d": (lambda: nn.Conv1d(16, 64, 5), lambda m: [m.weight]),
    "conv2d": (lambda: nn.Conv2d(8, 96, 3), lambda m: [m.weight]),
    "conv3d": (lambda: nn.Conv3d(4, 96, 3), lambda m: [m.weight]),
    "gru": (
        lambda: nn.GRU(90, 100),
        lambda m: [*m.weight_ih_l0.chunk(3), *m.weight_hh_l0.chunk(3)],
    ),
    "lstm": (
        lambda: nn.LSTM(90, 100, proj_size=70),
        lambda m: [*m.weight_ih_l0.chunk(4), *m.weight_hh_l0.chunk(4), m.weight_hr_l0],
    ),
    "rnn": (lambda: nn.RNN(90, 100), lambda m: [m.weight_ih_l0, m.weight_hh_l0]),
    "attention": (
        lambda: nn.MultiheadAttention(96, 4),
        lambda m: [*m.in_proj_weight.chunk(3), m.out_proj.weight],
    ),
    "attention, apart": (
        lambda: nn.MultiheadAttention(96, 4, kdim=60, vdim=70),
        lambda m: [m.q_proj_weight, m.k_proj_weight, m.v_proj_weight, m.out_proj.weight],
    ),
    "embedding": (lambda: nn.Embedding(150, 60), lambda m: [m.weight]),
    "embedding bag": (lambda: nn.EmbeddingBag(150, 60), lambda m: [m.weight]),
}


def fans(weight: Tensor) -> tuple[int, int]:
    field = weight[0][0].numel()
    return weight.shape[1] * field, weight.shape[0] * field


def check_normal(weight: Tensor, std: float) -> None:
    sigmas = weight.std(correction=0) / std
    tolerance = 5 / math.sqrt(2 * weight.numel())
    assert abs(sigmas - 1) < tolerance
    assert abs(weight.mean()) < 5 * std / math.sqrt(weight.numel())
    # A normal reaches beyond what a uniform of the same deviation can.
    assert weight.abs().max() > 2.5 * std


def check_uniform(weight: Tensor, bound: float) -> None:
    assert 0.98 * bound < weight.abs().max() <= bound
    assert abs(weight.std(correction=0) / (bound / math.sqrt(3)) - 1) < 0.05


def check_orthogonal(weight: Tensor) -> None:
    matrix = weight.flatten(1)
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(len(matrix)), atol=1e-5, rtol=0)


def check(name: str, weight: Tensor) -> None:
    fan_in, fan_out = fans(weight)
    if name == "xavier_uniform":
        check_uniform(weight, math.sqrt(6 / (fan_in + fan_out)))
    elif name == "xavier_normal":
        check_normal(weight, math.sqrt(2 / (fan_in + fan_out)))
    elif name == "kaiming_uniform":
        check_uniform(weight, math.sqrt(6 / fan_in))
    elif name == "kaiming_normal":
        check_normal(weight, math.sqrt(2 / fan_in))
    elif name == "normal_002":
        check_normal(weight, 0.02)
    elif name == "small":
        check_normal(weight, 0.1 / math.sqrt(fan_in))
    else:
        check_orthogonal(weight)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("layer", LAYERS)
def test_each_scheme_on_each_layer(name: str, layer: str) -> None:
    build, weights = LAYERS[layer]
    torch.manual_seed(0)
    module = build()
    initialise(module, name)
    for weight in weights(module):
        check(name, weight.detach())
    for parameter_name, parameter in module.named_parameters():
        if "bias" in parameter_name:
            assert not parameter.any(), parameter_name


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(6), nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.RMSNorm(6)]
)
@pytest.mark.parametrize("name", NAMED)
def test_norms_start_as_the_identity(norm: nn.Module, name: str) -> None:
    for parameter in norm.parameters():
        nn.init.constant_(parameter, 0.3)
    initialise(norm, name)
    assert torch.equal(norm.weight, torch.ones(6))
    assert not any(p.any() for n, p in norm.named_parameters() if n == "bias")


@pytest.mark.parametrize("norm", [nn.LayerNorm(6, elementwise_affine=False), nn.InstanceNorm1d(6)])
def test_norms_without_parameters(norm: nn.Module) -> None:
    initialise(norm, "orthogonal")


def test_layers_without_bias() -> None:
    for module in (
        nn.Linear(3, 4, bias=False),
        nn.GRU(3, 4, bias=False),
        nn.MultiheadAttention(4, 2, bias=False),
        nn.LayerNorm(4, bias=False),
    ):
        initialise(module, "small")


@pytest.mark.parametrize("architecture", ["mlp", "cnn", "gru", "transformer"])
def test_default_leaves_everything_and_draws_nothing(architecture: str) -> None:
    torch.manual_seed(0)
    model = get_architecture(architecture).build(get_task("digits").shape)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    state = torch.get_rng_state()
    initialise(model, "default")
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("architecture", ["mlp", "cnn", "gru", "transformer"])
def test_whole_models(architecture: str, name: str) -> None:
    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = get_architecture(architecture).build(get_task("digits").shape)
        initialise(model, name)
        return model

    one, again, other = build(0), build(0), build(1)
    for (parameter_name, a), b in zip(one.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), parameter_name
        assert a.requires_grad
    assert any(
        not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


def test_bare_parameters_are_left_as_built() -> None:
    torch.manual_seed(0)
    model = get_architecture("transformer").build(get_task("digits").shape)
    position = model.get_parameter("tokens.position")
    before = position.clone()
    initialise(model, "orthogonal")
    assert torch.equal(position, before)


def test_the_padding_row_of_an_embedding_is_zero() -> None:
    embedding = nn.Embedding(10, 4, padding_idx=3)
    initialise(embedding, "normal_002")
    assert not embedding.weight[3].any()
    assert embedding.weight[2].any()


def test_a_shared_tensor_is_drawn_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 20)
            self.head = nn.Linear(20, 50, bias=False)
            self.head.weight = self.embed.weight

    torch.manual_seed(0)
    tied = Tied()
    torch.manual_seed(1)
    initialise(tied, "normal_002")
    torch.manual_seed(1)
    assert torch.equal(tied.head.weight, torch.empty(50, 20).normal_(std=0.02))


def test_an_unknown_scheme() -> None:
    with pytest.raises(SpaceError, match=r"unknown initialisation 'xavier'; valid: default.*Did"):
        initialise(nn.Linear(1, 1), "xavier")
