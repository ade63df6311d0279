from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from search_spaces import (
    SpaceError,
    TaskShape,
    architecture_names,
    get_architecture,
    get_task,
    task_names,
)

SHAPES = {
    "table": TaskShape((5,), 3, "classification"),
    "sequence": TaskShape((6, 4), 2, "classification"),
    "image": TaskShape((3, 9, 7), 1, "regression"),
}
FITS = {
    "mlp": {"table", "sequence", "image"},
    "cnn": {"image"},
    "gru": {"sequence", "image"},
    "transformer": {"table", "sequence", "image"},
}
# Those whose models need nothing but settings.
OWN = [name for name in architecture_names() if get_architecture(name).source is None]
EXTREMES = {
    "mlp": [{"hidden": 1, "depth": 1}, {"hidden": 7, "depth": 5, "activation": "gelu"}],
    "cnn": [{"channels": 1, "depth": 1}, {"channels": 3, "depth": 4}],
    "gru": [{"hidden": 1, "layers": 1}, {"hidden": 5, "layers": 3}],
    "transformer": [{"width": 8, "depth": 1, "heads": 1}, {"width": 18, "depth": 3, "heads": 8}],
}


def output(name: str, shape: TaskShape, seed: int = 0, **settings: object) -> torch.Tensor:
    torch.manual_seed(seed)
    model = get_architecture(name).build(shape, **settings)  # type: ignore[arg-type]
    inputs = torch.randn(4, *shape.input_shape, generator=torch.Generator().manual_seed(1))
    result: torch.Tensor = model(inputs)
    return result


@pytest.mark.parametrize(("name", "layout"), list(itertools.product(FITS, SHAPES)))
def test_every_architecture_serves_what_it_fits(name: str, layout: str) -> None:
    shape = SHAPES[layout]
    architecture = get_architecture(name)
    if layout not in FITS[name]:
        reason = architecture.fits(shape)
        assert reason is not None
        assert str(shape.input_shape) in reason
        with pytest.raises(SpaceError, match=f"architecture {name}: needs images"):
            architecture.build(shape)
        return
    assert architecture.fits(shape) is None
    for settings in ({}, *EXTREMES[name]):
        result = output(name, shape, **settings)
        assert result.shape == (4, shape.outputs)
        assert result.dtype == torch.float32
        result.sum().backward()


@pytest.mark.parametrize(
    ("name", "task"),
    [
        (name, task)
        for name, task in itertools.product(OWN, task_names())
        if get_architecture(name).fits(get_task(task).shape) is None
    ],
)
def test_every_architecture_on_every_task_it_fits(name: str, task: str) -> None:
    served = get_task(task)
    torch.manual_seed(0)
    model = get_architecture(name).build(served.shape)
    part = served.data().train
    outputs = model(torch.from_numpy(part.inputs[:8]))
    loss = served.loss(outputs, torch.from_numpy(part.targets[:8]))
    loss.backward()
    assert outputs.shape == (8, served.shape.outputs)
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("name", OWN)
def test_the_seed_determines_the_model(name: str) -> None:
    shape = SHAPES["image"]
    assert torch.equal(output(name, shape, seed=1), output(name, shape, seed=1))
    assert not torch.equal(output(name, shape, seed=1), output(name, shape, seed=2))


@pytest.mark.parametrize("name", OWN)
def test_examples_of_a_batch_do_not_mix_and_nothing_is_random_in_training(name: str) -> None:
    shape = SHAPES["image"]
    torch.manual_seed(0)
    model = get_architecture(name).build(shape)
    inputs = torch.randn(5, *shape.input_shape)
    whole, alone = model(inputs), torch.cat([model(inputs[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(whole, alone)
    assert torch.equal(whole, model(inputs))


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_models_take_both_precisions(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = get_architecture(name).build(SHAPES["image"]).to(dtype)
    assert model(torch.randn(2, *SHAPES["image"].input_shape, dtype=dtype)).dtype == dtype


def test_rows_of_an_image_are_the_steps_of_a_sequence() -> None:
    from search_spaces.architectures.tokens import rows

    image = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert rows(image).shape == (2, 4, 15)
    assert torch.equal(rows(image)[1, 2], image[1, :, 2].flatten())


def test_the_transformer_tells_the_order_of_rows() -> None:
    torch.manual_seed(0)
    model = get_architecture("transformer").build(SHAPES["sequence"])
    inputs = torch.randn(1, 6, 4)
    assert not torch.allclose(model(inputs), model(inputs.flip(1)))


@pytest.mark.parametrize("name", OWN)
def test_every_row_of_an_image_counts(name: str) -> None:
    torch.manual_seed(0)
    model = get_architecture(name).build(SHAPES["image"])
    inputs = torch.randn(4, *SHAPES["image"].input_shape, requires_grad=True)
    model(inputs).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().sum(dim=(0, 1, 3)).min() > 0


@pytest.mark.parametrize(("width", "heads"), [(8, 1), (12, 4), (16, 2)])
def test_attention_is_that_of_pytorch(width: int, heads: int) -> None:
    from search_spaces.architectures.transformer_module import Attention

    torch.manual_seed(0)
    ours, reference = Attention(width, heads), nn.MultiheadAttention(width, heads, batch_first=True)
    with torch.no_grad():
        maps = (ours.query, ours.key, ours.value)
        reference.in_proj_weight.copy_(torch.cat([layer.weight for layer in maps]))
        reference.in_proj_bias.copy_(torch.cat([layer.bias for layer in maps]))
        reference.out_proj.load_state_dict(ours.out.state_dict())
    tokens = torch.randn(3, 5, width)
    torch.testing.assert_close(ours(tokens), reference(tokens, tokens, tokens)[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hiden": 3}, "mlp.hiden: unknown setting of mlp 'hiden'; valid: hidden, depth, activ"),
        ({"hidden": 0}, "mlp.hidden: got 0; must be an integer from 1 to 4096"),
        ({"hidden": 3.0}, "mlp.hidden: got 3.0; must be an integer from 1 to 4096"),
        ({"depth": True}, "mlp.depth: got True; must be an integer from 1 to 16"),
        ({"activation": "rleu"}, "must be one of relu, tanh, gelu. Did you mean relu?"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        get_architecture("mlp").build(SHAPES["table"], **settings)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_an_unknown_architecture() -> None:
    with pytest.raises(SpaceError, match=r"unknown architecture 'transfomer'.*Did you mean transf"):
        get_architecture("transfomer")


@pytest.mark.parametrize("name", architecture_names())
def test_defaults_obey_their_rules(name: str) -> None:
    for setting in get_architecture(name).settings.values():
        if not setting.required:
            assert setting.value(setting.default, "here") == setting.default
        assert setting.description
