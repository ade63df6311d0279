"""Configurations of all that docs/configuration.md describes, and what they are changed into.

Accepted is a configuration that loads back from what it resolves to, and whose points are models;
all others are refused in words.
"""

from __future__ import annotations

import random
from typing import Any

import sandbox
from fuzzing import Kind, Outcome, content, require_message
from hostile_values import mutated
from hypothesis import strategies as st

from search_spaces import INITIALISATIONS, SpaceError
from sweeps import yaml_text
from sweeps.candidate import Candidate, Training
from sweeps.config import DTYPES, LOGGERS, OBJECTIVES, ConfigError, SweepConfig
from sweeps.config_sections import ALPHA_SCHEMES, CONCENTRATIONS, IMPORTANCES, PRUNERS
from sweeps.config_selection import SAMPLERS
from trace_core.change_rate import CHANGE_RATES
from trace_core.stability import STABILITIES

Cases = st.SearchStrategy[Any]


def one(*choices: Any) -> Cases:
    return st.sampled_from(choices)


def some(optional: dict[str, Cases], **required: Cases) -> Cases:
    return st.fixed_dictionaries(required, optional=optional)


def integers(low: int, high: int) -> Cases:
    """A dimension of integers, in every form."""
    ends = st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(sorted)
    return st.one_of(
        st.integers(low, high),
        st.lists(st.integers(low, high), min_size=1, max_size=4, unique=True),
        ends.map(lambda e: {"int": e}),
        ends.map(lambda e: {"int": e, "log": True}),
        ends.map(lambda e: {"int": e, "step": e[1] - e[0]}),
    )


def numbers(low: float, high: float) -> Cases:
    """A dimension of numbers above 0, in every form."""
    within = st.floats(low, high)
    ends = st.lists(within, min_size=2, max_size=2, unique=True).map(sorted)
    return st.one_of(
        within,
        st.lists(within, min_size=1, max_size=4, unique=True),
        ends.map(lambda e: {"float": e}),
        ends.map(lambda e: {"float": e, "log": True}),
        st.just({"float": [low, low + 4], "step": 0.5}),
    )


def choices(*names: str) -> Cases:
    return one(*names) | st.lists(one(*names), min_size=1, max_size=3, unique=True)


checkpoints = (
    *("bert", "gpt2", "vit", "scratch:bert", "missing", "empty", "broken", "weights.pt"),
    *("weights.pt@tiny_checkpoints:Convolutions", "team/name", "timm:resnet18", "pkg:numpy/core"),
)
pretrained = some(
    {
        "from_scratch": st.booleans(),
        "builder": one("", "tiny_checkpoints:Convolutions", "tiny_checkpoints:Nothing"),
        "head": one("", "classifier", "classifier.1", "gone"),
        "tune": choices("full", "head", "lora"),
        "lora_rank": integers(1, 8),
        "frozen_depth": integers(0, 3),
        "layer_decay": one(1.0, 0.5, [0.5, 1]),
        "max_length": integers(8, 64),
        "pooling": choices("auto", "mean", "first", "last"),
        "image_size": one(0, 8, [0, 16]),
        "norm_momentum": one(0.0, 0.1),
    },
    checkpoint=choices(*checkpoints),
)
architectures = st.dictionaries(
    one(
        "mlp",
        "cnn",
        "gru",
        "transformer",
        "pretrained",
        "fuzz_parts:build",
        "fuzz_parts:open_build",
    ),
    st.just(None),
    min_size=1,
    max_size=3,
).flatmap(
    lambda named: st.fixed_dictionaries(
        {
            name: SETTINGS[name] if name == "pretrained" else st.none() | SETTINGS[name]
            for name in named
        }
    )
)
SETTINGS: dict[str, Cases] = {
    "mlp": some(
        {
            "hidden": integers(1, 64),
            "depth": integers(1, 3),
            "activation": choices("relu", "tanh", "gelu"),
        }
    ),
    "cnn": some({"channels": integers(1, 16), "depth": integers(1, 2)}),
    "gru": some({"hidden": integers(1, 32), "layers": integers(1, 2)}),
    "transformer": some(
        {"width": one(8, 16, [8, 32]), "depth": integers(1, 2), "heads": one(1, 2)}
    ),
    "pretrained": pretrained,
    "fuzz_parts:build": some({"width": integers(1, 8), "rate": numbers(0.5, 4), "kind": one("a")}),
    "fuzz_parts:open_build": some({"whatever": one(1, "a", True, [1, "a"])}),
}
space = some(
    {
        "init": choices(*INITIALISATIONS),
        "optimizer": choices("sgd", "adam", "adamw"),
        "momentum": one(0, 0.9, [0.0, 0.9]),
        "weight_decay": numbers(0.5, 4) | one(0),
        "schedule": choices("constant", "cosine"),
        "batch_size": integers(1, 64),
        "epochs": integers(8, 20),
        "alpha": one(0, 1, 0.5, [0, 0.5], {"float": [0, 1]}),
    },
    architecture=one("mlp", ["mlp", "cnn"]) | architectures,
    learning_rate=numbers(0.001, 5),
)
files = st.one_of(
    some({"text": one("text"), "split": one("")}, file=one("reviews.csv"), label=one("label")).map(
        lambda each: {"text_classification": each}
    ),
    one({"language_modelling": {"file": "long.txt"}}),
    one({"image_classification": {"folder": "images", "size": 8}}),
)
named = one("digits", "breast_cancer", "wine", "diabetes", "verses_text", "verses_language")
budget = st.one_of(
    some({}, epochs=st.integers(8, 20), batch_size=st.integers(1, 64)),
    some(
        {"evaluations": st.integers(1, 8)}, steps=st.integers(8, 90), batch_size=st.integers(1, 64)
    ),
)
first = st.lists(
    some({"mlp.hidden": st.integers(1, 64), "init": one(*INITIALISATIONS), "alpha": one(0, 0.5)}),
    max_size=2,
)
duration = one(1, 0.5, "90s", "1h30m", "10m")
valid = some(
    {
        "replicates": st.integers(1, 5),
        "trials": st.integers(1, 50),
        "sampler": some(
            {"seed": st.integers(0, 99), "population": st.integers(2, 9)}, name=one(*SAMPLERS)
        ),
        "first": first,
        "warm_start": one([], ["runs/one"], ["runs/one", "runs/two"]),
        "storage": one("journal", "sqlite:///study.db", "postgresql://me@host/db"),
        "pruner": some(
            {"grace": one(1, 2), "reduction": one(2, 4), "startup": one(1)}, name=one(*PRUNERS)
        ),
        "limits": some({"wall_time": duration, "each_time": duration, "each_memory": one("2GiB")}),
        "objectives": st.lists(one(*OBJECTIVES[:3]), min_size=1, unique=True)
        | one(["traceability"], ["article_score", "metric"], ["accuracy"]),
        "ranking": some(
            {
                "alpha": one(0, 0.5, 1, *ALPHA_SCHEMES),
                "floor": one(0, 0.5, 1),
                "stability": one(*STABILITIES),
                "explainability": one(*CONCENTRATIONS),
                "change_rate": one(*CHANGE_RATES),
            }
        ),
        "tracer": some(
            {"importance": one(*IMPORTANCES), "every": one(1), "histograms": one(1, 32)}
        ),
        "workers": one(1, 2),
        "loggers": st.lists(one(*LOGGERS), unique=True),
        "resources": some(
            {
                "cpus": one(1, 2),
                "gpus": one(0, 0.25, 1, 2),
                "memory": one(0, 10**9, "500MB", "2GiB"),
                "custom": one({}, {"ssd": 1}, {"accelerator_type:A100": 0.001}),
            }
        ),
        "dtype": one(*DTYPES),
        "replicates_together": st.booleans(),
    },
    name=one("a", "fuzz-1.b"),
    task=named | named | files | one("fuzz_parts:task", "fuzz_parts:failing_task"),
    budget=budget,
    space=space,
)


def check(given: Any) -> Outcome:
    """Of plain data."""
    folder = sandbox.data()
    before = content(folder)
    try:
        config = SweepConfig.from_dict(given, "sweep.yaml")
    except ConfigError as error:
        require_message(error, lines=True)
        assert content(folder) == before
        return "refused"
    require_sound(config)
    assert content(folder) == before
    return "accepted"


def require_sound(config: SweepConfig) -> None:
    """Raise AssertionError unless it loads back equal, and its points become models and trainings
    that do.
    """
    assert SweepConfig.from_dict(config.resolved()) == config
    assert SweepConfig.from_dict(yaml_text.read(config.dump())) == config
    drawn = random.Random(0)
    for _ in range(3):
        point = config.space.draw(lambda name, dimension: dimension.quantile(drawn.random()))
        try:
            candidate, alpha = Candidate.from_parameters(config, point)
        except SpaceError as error:
            # Of a checkpoint that isn't there, which is told when a sweep is begun.
            require_message(error, lines=True)
            assert candidate_is_from_files(config)
            continue
        assert 0 <= alpha <= 1
        training = Training(candidate, 3)
        assert Training.from_json(training.to_json()) == training


def candidate_is_from_files(config: SweepConfig) -> bool:
    return "pretrained" in config.space.architectures


KINDS = [Kind("configurations", mutated(valid), check, 0.55, sandbox.data)]
