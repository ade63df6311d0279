from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import COMMON, Choice, Dimension, FloatRange, IntRange, Space, SpaceError

SPACE = Space.parse(
    {
        "architecture": {
            "mlp": {"hidden": {"int": [16, 128], "log": True}, "depth": [1, 2, 3]},
            "cnn": {"channels": {"int": [8, 32], "step": 8}},
            "gru": None,
            "transformer": {"width": [16, 32]},
        },
        "init": ["default", "orthogonal"],
        "optimizer": ["sgd", "adam"],
        "learning_rate": {"float": [1e-3, 0.3], "log": True},
        "momentum": [0.0, 0.5, 0.9],
        "alpha": {"float": [0.0, 1.0]},
    }
)


def drawn(space: Space, seed: int) -> dict[str, Any]:
    generator = random.Random(seed)

    def suggest(name: str, dimension: Dimension) -> Any:
        if isinstance(dimension, Choice):
            return generator.choice(dimension.values)
        if isinstance(dimension, IntRange):
            return generator.randrange(dimension.low, dimension.high + 1, dimension.step)
        return generator.uniform(dimension.low, dimension.high)

    return space.draw(suggest)


@given(st.integers(0, 10_000))
def test_a_draw_has_the_settings_of_its_architecture_and_no_other(seed: int) -> None:
    parameters = drawn(SPACE, seed)
    architecture = parameters["architecture"]
    own = {f"{architecture}.{name}" for name in SPACE.architectures[architecture]}
    assert {name for name in parameters if "." in name} == own
    assert ("momentum" in parameters) == (parameters["optimizer"] == "sgd")


@given(st.integers(0, 10_000))
def test_a_draw_asks_in_a_fixed_order(seed: int) -> None:
    order = list(drawn(SPACE, seed))
    common = [name for name in order if name in COMMON]
    assert order[0] == "architecture"
    assert order[-1] == "alpha"
    assert common == [name for name in COMMON if name in common]
    assert order[-len(common) :] == common


def test_what_is_not_given_takes_its_default() -> None:
    space = Space.parse({"architecture": "mlp"})
    assert space.architectures == {
        "mlp": {
            "hidden": Choice((64,)),
            "depth": Choice((2,)),
            "activation": Choice(("relu",)),
        }
    }
    assert space.dimensions == {
        "init": Choice(("default",)),
        "optimizer": Choice(("sgd",)),
        "learning_rate": Choice((0.1,)),
        "momentum": Choice((0.0,)),
        "weight_decay": Choice((0.0,)),
        "schedule": Choice(("constant",)),
        "alpha": Choice((0.5,)),
    }


def test_three_ways_to_name_architectures() -> None:
    one = Space.parse({"architecture": "mlp"})
    assert Space.parse({"architecture": ["mlp"]}) == one
    assert Space.parse({"architecture": {"mlp": {}}}) == one


def test_a_space_reads_back_from_its_yaml() -> None:
    assert Space.parse(SPACE.to_yaml()) == SPACE


def test_integers_and_floats_of_one_value_are_one_model() -> None:
    one, other = (Space.parse({"architecture": "mlp", "learning_rate": v}) for v in (1, 1.0))
    assert one == other
    assert isinstance(one.dimensions["learning_rate"].values[0], float)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("space", "size"),
    [
        ({"architecture": "mlp"}, 1),
        ({"architecture": ["mlp", "cnn"], "init": ["default", "small"]}, 4),
        ({"architecture": {"mlp": {"hidden": {"int": [1, 10]}, "depth": [1, 2]}, "gru": None}}, 21),
        ({"architecture": "mlp", "alpha": {"float": [0, 1]}}, 1),
        ({"architecture": "mlp", "momentum": [0, 0.5, 0.9]}, 3),
        (
            {
                "architecture": "mlp",
                "momentum": [0, 0.5, 0.9],
                "optimizer": ["sgd", "adam", "adamw"],
                "learning_rate": [0.1, 0.2],
            },
            10,
        ),
        ({"architecture": "mlp", "optimizer": "adam", "learning_rate": 1e-3, "momentum": 0.9}, 1),
        ({"architecture": "mlp", "learning_rate": {"float": [0.1, 0.2]}}, None),
        ({"architecture": "mlp", "learning_rate": {"float": [0.1, 0.3], "step": 0.1}}, 3),
        ({"architecture": "mlp", "batch_size": [16, 32]}, 2),
    ],
)
def test_size_counts_distinct_models(space: dict[str, Any], size: int | None) -> None:
    assert Space.parse(space).size() == size


def test_size_is_the_number_of_different_draws() -> None:
    space = Space.parse(
        {
            "architecture": {"mlp": {"depth": [1, 2]}, "cnn": {"channels": [4, 8, 16]}},
            "optimizer": ["sgd", "adam"],
            "learning_rate": [0.1, 0.2],
            "momentum": [0.0, 0.9],
            "alpha": [0.0, 1.0],
        }
    )
    models = {
        tuple(sorted((k, v) for k, v in drawn(space, seed).items() if k != "alpha"))
        for seed in range(2000)
    }
    assert len(models) == space.size() == 5 * 2 * 3


def test_describe_has_a_row_for_each_parameter() -> None:
    rows = {row.name: row for row in SPACE.describe()}
    assert rows["architecture"].values == "mlp, cnn, gru, transformer"
    assert rows["mlp.hidden"].values == "integer 16 to 128 (log)"
    assert rows["mlp.hidden"].when == "architecture is mlp"
    assert rows["momentum"].when == "optimizer is sgd"
    assert rows["alpha"].values == "float 0 to 1"


def test_a_space_is_checked_at_construction() -> None:
    with pytest.raises(SpaceError, match=r"space\.alpha: got 2\.0; must be a number from 0 to 1"):
        Space({"mlp": {}}, {"alpha": FloatRange(0, 2)})
    with pytest.raises(SpaceError, match="unknown parameter 'beta'"):
        Space({"mlp": {}}, {"beta": Choice((1,))})
    with pytest.raises(SpaceError, match="must name at least one architecture"):
        Space({})
