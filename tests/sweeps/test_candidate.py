from __future__ import annotations

import dataclasses
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sweeps.candidate
from search_spaces import Choice, Dimension, IntRange, SpaceError, code_hash
from sweeps.candidate import Candidate, Training
from sweeps.config import SweepConfig

ROOT = Path(__file__).parents[2]

CONFIG = SweepConfig.from_dict(
    {
        "name": "c",
        "task": "digits",
        "budget": {"epochs": 15, "batch_size": 64},
        "space": {
            "architecture": {"mlp": {"hidden": {"int": [16, 128]}}, "cnn": {"channels": [8, 16]}},
            "init": ["default", "orthogonal"],
            "optimizer": ["sgd", "adam"],
            "learning_rate": {"float": [1e-3, 0.3], "log": True},
            "momentum": [0.0, 0.9],
            "batch_size": [32, 64],
            "alpha": {"float": [0, 1]},
        },
    }
)

CANDIDATE = Candidate(
    task="digits",
    architecture="mlp",
    settings={"hidden": 32, "depth": 2, "activation": "relu"},
    init="orthogonal",
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=0.0,
    schedule="constant",
    epochs=15,
    batch_size=64,
    dtype="float32",
    importance="taylor",
    every=1,
    histograms=32,
)

OTHERS: dict[str, Any] = {
    "task": "wine",
    "architecture": "cnn",
    "settings": {"hidden": 33, "depth": 2, "activation": "relu"},
    "init": "default",
    "optimizer": "adam",
    "learning_rate": 0.2,
    "momentum": 0.5,
    "weight_decay": 0.1,
    "schedule": "cosine",
    "epochs": 16,
    "batch_size": 32,
    "dtype": "float64",
    "importance": "gradient",
    "every": 2,
    "histograms": 16,
    "threads": 2,
    "device": "cuda",
    "steps": 100,
    "evaluations": 5,
}


def drawn(seed: int) -> dict[str, Any]:
    generator = random.Random(seed)

    def suggest(name: str, dimension: Dimension) -> Any:
        if isinstance(dimension, Choice):
            return generator.choice(dimension.values)
        if isinstance(dimension, IntRange):
            return generator.randint(dimension.low, dimension.high)
        return generator.uniform(dimension.low, dimension.high)

    return CONFIG.space.draw(suggest)


def test_ids_are_the_same_in_every_release_of_these_statistics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweeps.candidate, "STATISTICS_VERSION", 1)
    fresh = dataclasses.replace(CANDIDATE)
    assert fresh.model_id == "9eaa4293bc91"
    assert Training(fresh, 0).training_id == "cbef54ea609a"


def test_every_field_but_the_seed_changes_the_model() -> None:
    assert set(OTHERS) == {field.name for field in dataclasses.fields(Candidate)}
    ids = {dataclasses.replace(CANDIDATE, **{name: v}).model_id for name, v in OTHERS.items()}
    assert len(ids | {CANDIDATE.model_id}) == len(OTHERS) + 1


def test_the_seed_changes_the_training_alone() -> None:
    one, two = Training(CANDIDATE, 0), Training(CANDIDATE, 1)
    assert one.training_id != two.training_id
    assert one.candidate.model_id == two.candidate.model_id
    assert one.training_id != CANDIDATE.model_id


def test_the_version_of_the_statistics_changes_both(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Training(CANDIDATE, 0)
    ids = (before.training_id, CANDIDATE.model_id)
    monkeypatch.setattr(sweeps.candidate, "STATISTICS_VERSION", 99)
    fresh = Training(dataclasses.replace(CANDIDATE), 0)
    assert fresh.training_id != ids[0]
    assert fresh.candidate.model_id != ids[1]


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_alpha_is_no_part_of_the_identity(seed: int, one: float, other: float) -> None:
    parameters = drawn(seed)
    a, alpha = Candidate.from_parameters(CONFIG, {**parameters, "alpha": one})
    b, _ = Candidate.from_parameters(CONFIG, {**parameters, "alpha": other})
    assert alpha == one
    assert a.model_id == b.model_id
    assert "alpha" not in a.identity()


def test_momentum_counts_only_where_it_is_used() -> None:
    sgd = [dataclasses.replace(CANDIDATE, momentum=m).model_id for m in (0.0, 0.9)]
    adam = [
        dataclasses.replace(CANDIDATE, optimizer="adam", momentum=m).model_id for m in (0.0, 0.9)
    ]
    assert sgd[0] != sgd[1]
    assert adam[0] == adam[1]


@given(st.integers(0, 10_000), st.integers(0, 100))
def test_a_training_round_trips_through_json(seed: int, replicate: int) -> None:
    candidate, _ = Candidate.from_parameters(CONFIG, drawn(seed))
    training = Training(candidate, replicate)
    again = Training.from_json(training.to_json())
    assert again == training
    assert again.training_id == training.training_id
    assert Candidate.from_dict(candidate.to_dict()) == candidate
    assert pickle.loads(pickle.dumps(training)) == training


@given(st.integers(0, 10_000))
def test_parameters_become_a_candidate(seed: int) -> None:
    parameters = drawn(seed)
    candidate, _ = Candidate.from_parameters(CONFIG, parameters)
    architecture = parameters["architecture"]
    assert candidate.architecture == architecture
    assert set(candidate.settings) == set(CONFIG.space.architectures[architecture])
    for name, value in candidate.settings.items():
        assert value == parameters[f"{architecture}.{name}"]
    assert candidate.epochs == 15
    assert candidate.batch_size == parameters["batch_size"]
    assert candidate.momentum == parameters.get("momentum", 0.0)
    described = candidate.described()
    assert described["learning_rate"] == parameters["learning_rate"]
    assert ("momentum" in described) == (candidate.optimizer == "sgd")


def test_one_model_whether_a_number_was_written_as_an_integer_or_not() -> None:
    ids = set()
    for written in (1, 1.0):
        space = {"architecture": "mlp", "learning_rate": written}
        config = SweepConfig.from_dict({**CONFIG.resolved(), "space": space})
        parameters = config.space.draw(lambda name, d: d.values[0])
        ids.add(Candidate.from_parameters(config, parameters)[0].model_id)
    assert len(ids) == 1


def test_a_missing_parameter() -> None:
    parameters = drawn(0)
    del parameters["init"]
    with pytest.raises(KeyError, match="init"):
        Candidate.from_parameters(CONFIG, parameters)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("beta", 1, "beta: the space has no such parameter"),
        ("gru.hidden", 16, r"gru\.hidden: the space has no such parameter"),
        ("learning_rate", 2.0, r"learning_rate: got 2\.0; the space has float 0\.001 to 0\.3"),
        ("architecture", "gru", "architecture: got 'gru'; the space has mlp, cnn"),
        ("init", "small", "init: got 'small'; the space has default, orthogonal"),
    ],
)
def test_parameters_that_the_space_does_not_have(name: str, value: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Candidate.from_parameters(CONFIG, {**drawn(0), name: value})


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"candidate": {}, "seed": 0}', '{"candidate": 3, "seed": 0}']
)
def test_json_of_something_else(text: str) -> None:
    with pytest.raises(SpaceError):
        Training.from_json(text)


def test_a_user_s_code_is_part_of_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "own_identity.py"
    module.write_text("x = 1")
    own = dataclasses.replace(CANDIDATE, architecture="own_identity:build")
    before = own.model_id
    assert dataclasses.replace(own).model_id == before
    module.write_text("x = 2")
    assert dataclasses.replace(own).model_id == before, "what is imported is what runs"
    # As another process would see it.
    code_hash.cache_clear()
    assert dataclasses.replace(own).model_id != before
    assert own.model_id == before


def test_ids_are_twelve_hexadecimal_digits() -> None:
    for identifier in (CANDIDATE.model_id, Training(CANDIDATE, 3).training_id):
        assert len(identifier) == 12
        assert set(identifier) <= set("0123456789abcdef")


def test_identity_needs_nothing_heavy() -> None:
    code = """
import sys
import sweeps.candidate
print(*{name.partition('.')[0] for name in sys.modules})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not set(done.stdout.split()) & {"torch", "sklearn", "ray", "optuna", "pandas", "scipy"}
