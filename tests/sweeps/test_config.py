from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import (
    COMMON,
    INITIALISATIONS,
    Choice,
    architecture_names,
    get_architecture,
    task_names,
)
from sweeps import config as config_module
from sweeps import config_sections
from sweeps.config import ConfigError, SweepConfig, load_config
from sweeps.yaml_text import read, write

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))

BASE: dict[str, Any] = {
    "name": "base",
    "task": "digits",
    "budget": {"epochs": 2, "batch_size": 64},
    "space": {"architecture": {"mlp": {}}},
}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """BASE with keys set by their path; `...` removes one."""
    data = copy.deepcopy(BASE)
    for path, value in changes.items():
        section = data
        *parents, last = path.split("/")
        for parent in parents:
            section = section.setdefault(parent, {})
        if value is ...:
            del section[last]
        else:
            section[last] = value
    return data


def message(data: object) -> str:
    with pytest.raises(ConfigError) as caught:
        SweepConfig.from_dict(data, "sweep.yaml")
    return str(caught.value)


MLP = "space/architecture/mlp"
BAD: list[tuple[dict[str, Any], str]] = [
    # name
    ({"name": ...}, "name: missing; must be 1 to 64 letters, digits"),
    ({"name": "my sweep"}, "name: got 'my sweep'; must be 1 to 64 letters, digits"),
    ({"name": "../up"}, "name: got '../up'; must be 1 to 64 letters"),
    ({"name": "a\n"}, "name: got 'a\\n'; must be 1 to 64 letters"),
    ({"name": "x" * 65}, "must be 1 to 64 letters"),
    ({"name": 3}, "name: got 3; must be 1 to 64 letters"),
    # task
    ({"task": ...}, "task: missing; must be the name of a task or an import path"),
    ({"task": "digit"}, "task: unknown task 'digit'; valid: digits, breast_cancer, wine, diabetes"),
    ({"task": "digit"}, "Did you mean digits?"),
    ({"task": None}, "task: got None; must be the name of a task"),
    ({"task": "no.where:make"}, "task: cannot import module no.where of no.where:make"),
    # budget
    ({"budget": ...}, "budget: missing; must be a mapping with epochs and batch_size"),
    ({"budget": 15}, "budget: got 15; must be a mapping with epochs and batch_size"),
    ({"budget/epochs": 0}, "budget.epochs: got 0; must be an integer of at least 1"),
    ({"budget/epochs": "15"}, "budget.epochs: got '15'; must be an integer of at least 1"),
    ({"budget/epochs": 1.5}, "budget.epochs: got 1.5; must be an integer of at least 1"),
    ({"budget/batch_size": True}, "budget.batch_size: got True; must be an integer"),
    ({"budget/batch_size": ...}, "budget.batch_size: missing; must be an integer of at least 1"),
    (
        {"budget/epoch": 3},
        "budget.epoch: unknown key; valid: epochs, steps, evaluations, batch_size. Did you mean "
        "epochs?",
    ),
    (
        {"budget/batch_size": 1079},
        "budget.batch_size: got 1079; must be at most 1078, the size of the training part",
    ),
    (
        {"budget": {"epochs": 1, "batch_size": 500}},
        "budget.epochs: got 1; 1 epochs of 3 steps (budget.batch_size 500), observed every 1, "
        "give 3 observations; steadiness needs at least 8: more epochs, a smaller batch_size or a "
        "smaller tracer.every",
    ),
    ({"tracer/every": 5}, "observed every 5, give 7 observations; steadiness needs at least 8"),
    ({"budget": {"epochs": 7, "batch_size": 1078}}, "give 7 observations; steadiness needs"),
    # counts
    ({"replicates": 0}, "replicates: got 0; must be an integer from 1 to 100"),
    ({"replicates": 101}, "replicates: got 101; must be an integer from 1 to 100"),
    ({"trials": 0}, "trials: got 0; must be an integer of at least 1"),
    ({"trials": None}, "trials: got None; must be an integer of at least 1"),
    ({"workers": 0}, "workers: got 0; must be an integer of at least 1"),
    # loggers
    ({"loggers": "mlflow"}, "loggers: got 'mlflow'; must be a list of tensorboard, mlflow, wandb"),
    (
        {"loggers": ["mlfow"]},
        "must be one of tensorboard, mlflow, wandb. Did you mean mlflow?",
    ),
    ({"loggers": ["wandb", "wandb"]}, "wandb stands there twice"),
    ({"loggers": [None]}, "loggers: got None; must be one of"),
    ({"dtype": "float16"}, "dtype: got 'float16'; must be one of float32, float64"),
    # unknown keys
    ({"replicate": 3}, "replicate: unknown key; valid: name, task, budget, replicates, trials"),
    ({"replicate": 3}, "Did you mean replicates?"),
    (
        {"sampler/sed": 3},
        "sampler.sed: unknown key; valid: name, seed, population. Did",
    ),
    # space
    ({"space": ...}, "space: missing; must be a mapping with architecture"),
    ({"space": ["mlp"]}, "space: got ['mlp']; must be a mapping with `architecture`"),
    ({"space": {}}, "space.architecture: missing; must name at least one architecture"),
    ({"space": {"architectures": "mlp"}}, "Did you mean architecture?"),
    ({"space/architecture": {}}, "space.architecture: got {}; must name at least one"),
    ({"space/architecture": 3}, "space.architecture: got 3; must be a name, a list of names"),
    ({"space/architecture": ["mlp", "mlp"]}, "space.architecture: got ['mlp', 'mlp']; mlp stands"),
    ({"space/architecture": "mpl"}, "space.architecture.mpl: unknown architecture 'mpl'; valid: "),
    ({"space/architecture": "mpl"}, "Did you mean mlp?"),
    ({MLP: 3}, "space.architecture.mlp: got 3; must be a mapping of settings"),
    (
        {f"{MLP}/hiden": 3},
        "space.architecture.mlp.hiden: unknown setting of mlp 'hiden'; valid: hidden, depth, "
        "activation. Did you mean hidden?",
    ),
    ({f"{MLP}/hidden": 0}, "space.architecture.mlp.hidden: got 0; must be an integer from 1 to 4"),
    ({f"{MLP}/hidden": 1.5}, "space.architecture.mlp.hidden: got 1.5; must be an integer from 1"),
    (
        {f"{MLP}/hidden": {"int": [0, 8]}},
        "space.architecture.mlp.hidden: got 0; must be an integer from 1 to 4096",
    ),
    (
        {f"{MLP}/hidden": {"float": [1, 8]}},
        "space.architecture.mlp.hidden: got a range of floats, {'float': [1.0, 8.0]}; must be an",
    ),
    (
        {f"{MLP}/activation": ["relu", "rleu"]},
        "space.architecture.mlp.activation: got 'rleu'; must be one of relu, tanh, gelu. Did you",
    ),
    (
        {f"{MLP}/activation": {"int": [1, 2]}},
        "mlp.activation: got a range of ints, {'int': [1, 2]}; must be one of relu, tanh, gelu",
    ),
    ({f"{MLP}/depth": []}, "space.architecture.mlp.depth: got []; a list of choices needs"),
    ({f"{MLP}/depth": [2, 2]}, "space.architecture.mlp.depth: got [2, 2]; 2 stands there twice"),
    ({f"{MLP}/depth": {"int": [3, 1]}}, "mlp.depth: got [3, 1]; the low end must not be above"),
    ({"space/lr": 0.1}, "space.lr: unknown parameter 'lr'; valid: architecture, init, optimizer"),
    ({"space/init": "xavier"}, "space.init: got 'xavier'; must be one of default, xavier_uniform"),
    ({"space/alpha": 1.5}, "space.alpha: got 1.5; must be a number from 0 to 1"),
    ({"space/alpha": {"float": [-1, 1]}}, "space.alpha: got -1.0; must be a number from 0 to 1"),
    ({"space/learning_rate": 0}, "space.learning_rate: got 0; must be a number above 0"),
    ({"space/learning_rate": "0.1"}, "space.learning_rate: got '0.1'; must be a number above 0"),
    (
        {"space/learning_rate": {"float": [0, 1], "log": True}},
        "space.learning_rate: got [0, 1]; with log the low end must be above 0",
    ),
    (
        {"space/optimizer": ["sgd", "adam"]},
        "space.learning_rate: missing; must be a number above 0: only sgd has a default, and "
        "optimizer may be adam",
    ),
    ({"space/optimizer": "rmsprop"}, "space.optimizer: got 'rmsprop'; must be one of sgd, adam, "),
    ({"space/momentum": 1}, "space.momentum: got 1; must be a number in [0, 1)"),
    ({"space/weight_decay": -0.1}, "space.weight_decay: got -0.1; must be a number of at least 0"),
    ({"space/schedule": "linear"}, "space.schedule: got 'linear'; must be one of constant, cosine"),
    ({"space/batch_size": [64, 2048]}, "space.batch_size: got 2048; must be at most 1078"),
    ({"space/epochs": {"int": [0, 3]}}, "space.epochs: got 0; must be an integer of at least 1"),
    (
        {"space/batch_size": 1000, "space/epochs": [1, 9]},
        "space.epochs: got 1; 1 epochs of 2 steps (space.batch_size 1000)",
    ),
    (
        {"task": "wine", "space/architecture": "cnn", "budget/batch_size": 16},
        "space.architecture.cnn: does not fit task wine: cnn needs images, (channels, height, "
        "width), and the task has (13,)",
    ),
    ({"task": "diabetes", "space/architecture": "gru"}, "space.architecture.gru: does not fit"),
    # sampler
    ({"sampler": "tpe"}, "sampler: got 'tpe'; must be a mapping with name, seed and pop"),
    ({"sampler/name": "cma"}, "sampler.name: got 'cma'; must be one of tpe, nsga2, gp, cmaes"),
    ({"sampler/seed": -1}, "sampler.seed: got -1; must be an integer from 0 to 4294967295"),
    # objectives
    ({"objectives": []}, "objectives: got []; must be a list of at least one of stability, "),
    ({"objectives": "stability"}, "objectives: got 'stability'; must be a list of at least one"),
    (
        {"objectives": ["acuracy"]},
        "objectives: got 'acuracy'; must be one of stability, explainability, metric, "
        "traceability, article_score, accuracy. Did you mean accuracy?",
    ),
    ({"objectives": ["rmse"]}, "objectives: got 'rmse'; must be one of"),
    ({"objectives": [3]}, "objectives: got 3; must be one of stability"),
    ({"objectives": ["metric", "metric"]}, "metric stands there twice"),
    (
        {"objectives": ["metric", "accuracy"]},
        "objectives: got ['metric', 'accuracy']; metric stands there twice",
    ),
    (
        {"objectives": ["traceability", "stability"]},
        "traceability stands in place of stability and explainability, not beside stability",
    ),
    ({"objectives": ["explainability", "traceability"]}, "not beside explainability"),
    # ranking
    (
        {"ranking/alpha": 1.5},
        "ranking.alpha: got 1.5; must be a number from 0 to 1 or one of std, entropy, cross_valid",
    ),
    ({"ranking/alpha": "crossvalidated"}, "ranking.alpha: got 'crossvalidated'; must be a number"),
    ({"ranking/alpha": "crossvalidated"}, "Did you mean cross_validated?"),
    ({"ranking/alpha": True}, "ranking.alpha: got True; must be a number from 0 to 1"),
    ({"ranking/alpha": float("nan")}, "ranking.alpha: got nan; must be a number from 0 to 1"),
    ({"ranking/floor": -0.1}, "ranking.floor: got -0.1; must be a number from 0 to 1"),
    ({"ranking/floor": "half"}, "ranking.floor: got 'half'; must be a number from 0 to 1"),
    ({"ranking/stability": "steady"}, "ranking.stability: got 'steady'; must be one of steadiness"),
    ({"ranking/explainability": "article"}, "ranking.explainability: got 'article'; must be one"),
    ({"ranking/change_rate": "l2"}, "ranking.change_rate: got 'l2'; must be one of elementwise"),
    ({"ranking/stability": None}, "ranking.stability: got None; must be one of steadiness"),
    # tracer
    ({"tracer/importance": "tailor"}, "tracer.importance: got 'tailor'; must be one of taylor, "),
    ({"tracer/every": 0}, "tracer.every: got 0; must be an integer of at least 1"),
    ({"tracer/histograms": 0}, "tracer.histograms: got 0; must be an integer of at least 1"),
]


@pytest.mark.parametrize(("changes", "expected"), BAD)
def test_bad_configurations(changes: dict[str, Any], expected: str) -> None:
    text = message(changed(changes))
    assert expected in text
    assert text.startswith("sweep.yaml:")
    assert "type=" not in text
    assert "http" not in text
    assert "Input should" not in text


def test_every_problem_has_a_line() -> None:
    text = message(changed({"trials": 0, "ranking/floor": 2, f"{MLP}/hiden": 3, f"{MLP}/depth": 0}))
    assert text.splitlines() == [
        "sweep.yaml:",
        "  trials: got 0; must be an integer of at least 1",
        "  space.architecture.mlp.hiden: unknown setting of mlp 'hiden'; valid: hidden, depth, "
        "activation. Did you mean hidden?",
        "  space.architecture.mlp.depth: got 0; must be an integer from 1 to 16",
        "  ranking.floor: got 2; must be a number from 0 to 1",
    ]


def test_a_task_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_broken.py").write_text(
        "from search_spaces import ClassificationTask, TaskShape\n"
        "def make():\n"
        "    return ClassificationTask('x', TaskShape((2,), 2, 'classification'), lambda: 1 / 0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = message(changed({"task": "own_broken:make"}))
    assert "task: cannot load own_broken:make: ZeroDivisionError: division by zero" in text


def test_integers_beyond_every_float() -> None:
    for value in (2**31, 10**400):
        assert "and at most 2147483647" in message(changed({"budget/epochs": value}))
    assert "space.learning_rate: got" in message(changed({"space/learning_rate": 10**400}))


@pytest.mark.parametrize("data", [None, 3, "digits", ["a"], {1: 2}])
def test_what_is_no_configuration_at_all(data: object) -> None:
    assert "sweep.yaml:" in message(data)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
paths = st.sampled_from(
    [
        *SweepConfig.model_fields,
        "space/architecture",
        MLP,
        f"{MLP}/hidden",
        *(f"space/{name}" for name in COMMON),
        *(f"ranking/{key}" for key in config_sections.RankingSettings.model_fields),
        *(f"tracer/{key}" for key in config_sections.TracerSettings.model_fields),
        "sampler/name",
        "sampler/seed",
        "sampler/population",
        "budget/epochs",
        "budget/batch_size",
    ]
)


@given(paths, json_like)
def test_whatever_stands_there_is_refused_in_words_or_round_trips(path: str, value: Any) -> None:
    problems: tuple[str, ...] = ()
    try:
        config = SweepConfig.from_dict(changed({path: value}))
    except ConfigError as error:
        problems = error.problems
    else:
        assert SweepConfig.from_dict(config.resolved()) == config
    assert all(": " in problem for problem in problems)
    # What is wrong with one key may show at another: a batch size in the number of observations.
    assert not problems or any(path.split("/")[0] in problem for problem in problems)


# Files


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "sweep.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


GOOD = """
name: base
task: digits
budget: {epochs: 2, batch_size: 64}
space: {architecture: mlp}
"""


def test_a_file(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, GOOD)) == SweepConfig.from_dict(BASE)
    assert load_config(str(written(tmp_path, "\ufeff" + GOOD))) == SweepConfig.from_dict(BASE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty; must be a mapping of keys to values"),
        ("# nothing\n", "is empty; must be a mapping"),
        ("- digits\n", "holds ['digits']; must be a mapping"),
        ("digits", "holds 'digits'; must be a mapping"),
        (GOOD + "name: again\n", "line 6, column 1: the key 'name' stands there twice"),
        (GOOD + "ranking: {floor: 0, floor: 1}", "the key 'floor' stands there twice"),
        (GOOD + "ranking:\n\tfloor: 1\n", "line 7, column 1: got a tab; YAML is indented by spac"),
        ("name: [1, 2\ntask: x", "line 2, column 5: expected ',' or ']'"),
        ("name: 'digits", "line 1, column 14: found unexpected end of stream"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: but found another document"),
        ("name: !!python/object:os.system x", "line 1, column 7: could not determine a construct"),
        ("name: *gone", "line 1, column 7: found undefined alias 'gone'"),
        ("? [a]\n: 1", "line 1, column 3: found unhashable key"),
        (b"name: \xff\xfe", "byte 7 is not UTF-8; must be a YAML file in UTF-8"),
        (b"name: a\x00b", "character 8: got '\\x00'; must be text"),
        ("[" * 2000, "too deeply nested"),
        ("trials: " + "9" * 5000, "Exceeds the limit (4300 digits)"),
        ("name: &a [*a]", "name.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0: too deeply nested"),
    ],
)
def test_bad_files(tmp_path: Path, text: str | bytes, expected: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_few_lines_that_stand_for_billions_of_values(tmp_path: Path) -> None:
    lines = ["x0: &x0 [1]", *(f"x{i + 1}: &x{i + 1} [{f'*x{i},' * 9}]" for i in range(30))]
    with pytest.raises(ConfigError, match=r"x\d+: up to here the configuration has more than"):
        load_config(written(tmp_path, "\n".join(lines) + GOOD[:-2] + ", init: [*x30]}"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: there is no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder; must be a YAML file"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(written(tmp_path, GOOD) / "below")


def test_overrides(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    config = load_config(path, {"trials": 7, "sampler.seed": 3})
    assert (config.trials, config.sampler.seed) == (7, 3)
    with pytest.raises(ConfigError, match="trials: got 0; must be an integer of at least 1"):
        load_config(path, {"trials": 0})
    with pytest.raises(ConfigError, match="task: got 'digits'; must be a mapping"):
        load_config(path, {"task.name": 0})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        ("-2E5", -2e5),
        (".5", 0.5),
        ("3", 3),
        ("-3", -3),
        ("010", "010"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("0x10", "0x10"),
        ("'1e-3'", "1e-3"),
    ],
)
def test_plain_values_are_what_they_look_like(text: str, value: object) -> None:
    result = read(f"key: {text}")["key"]
    assert result == value
    assert type(result) is type(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["1e3", "1e-3", "no", "null", "010", "1.", "-.5", "true", "~", "+1", "x: y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "1e3", "no"]), plain))
def test_what_is_written_reads_back(value: dict[str, Any]) -> None:
    again = read(write(value))
    assert again == value
    assert repr(again) == repr(value)


# What a configuration gives


def test_defaults() -> None:
    config = SweepConfig.from_dict(BASE)
    assert config.resolved() == {
        "name": "base",
        "task": "digits",
        "budget": {"epochs": 2, "batch_size": 64},
        "replicates": 3,
        "trials": 40,
        "space": {
            "architecture": {"mlp": {"hidden": 64, "depth": 2, "activation": "relu"}},
            "init": "default",
            "optimizer": "sgd",
            "learning_rate": 0.1,
            "momentum": 0.0,
            "weight_decay": 0.0,
            "schedule": "constant",
            "alpha": 0.5,
        },
        "sampler": {"name": "tpe", "seed": 0, "population": 20},
        "first": [],
        "warm_start": [],
        "storage": "journal",
        "pruner": {"name": "none", "grace": 1, "reduction": 4, "startup": 5},
        "limits": {
            "wall_time": None,
            "training_time": None,
            "each_time": None,
            "each_memory": None,
        },
        "objectives": ["stability", "explainability", "metric"],
        "ranking": {
            "alpha": 0.5,
            "floor": 0.5,
            "stability": "steadiness",
            "explainability": "gini",
            "change_rate": "rms",
        },
        "tracer": {"importance": "taylor", "every": 1, "histograms": 32},
        "workers": None,
        "loggers": [],
        "resources": {"cpus": 1, "gpus": 0.0, "memory": 0, "custom": {}},
        "dtype": "float32",
        "replicates_together": True,
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_round_trip(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(path.parent)
    config = load_config(path)
    assert SweepConfig.from_dict(config.resolved()) == config
    assert load_config(written(tmp_path, config.dump())) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert yaml.safe_load(config.dump())["name"] == config.name


def test_the_examples_cover_every_task() -> None:
    tasks = {read(path.read_text())["task"] for path in EXAMPLES}
    assert tasks == {*task_names(), "spirals:make"}


@pytest.mark.parametrize(
    ("task", "name", "direction"),
    [("digits", "accuracy", "maximize"), ("diabetes", "rmse", "minimize")],
)
def test_the_task_s_own_metric_is_an_objective(task: str, name: str, direction: str) -> None:
    data = changed({"task": task, "objectives": ["article_score", name]})
    config = SweepConfig.from_dict(data)
    assert config.objective_names() == ["article_score", "metric"]
    assert config.directions() == ["maximize", direction]
    assert (config.metric_name, config.metric_direction) == (name, direction)


@pytest.mark.parametrize(
    "changes",
    [
        {"ranking/alpha": 1},
        {"ranking/alpha": "std"},
        {"ranking/alpha": "entropy"},
        {"ranking/alpha": "cross_validated"},
        {"objectives": ["traceability", "metric"]},
        {"objectives": ["article_score"]},
        {"space/batch_size": [32, 64], "space/epochs": {"int": [2, 4]}},
        {"space/optimizer": ["sgd", "adam"], "space/learning_rate": [0.1, 0.2]},
        {"workers": 2, "dtype": "float64"},
        {"budget/batch_size": 1078, "budget/epochs": 9},
        {"tracer/every": 4},
        {"resources": {"cpus": 2, "memory": "2GiB", "custom": {"accelerator_type:A100": 0.001}}},
    ],
)
def test_good_configurations_round_trip(changes: dict[str, Any]) -> None:
    config = SweepConfig.from_dict(changed(changes))
    assert SweepConfig.from_dict(config.resolved()) == config
    assert SweepConfig.from_dict(read(config.dump())) == config


def test_a_fixed_alpha_is_a_float() -> None:
    assert isinstance(SweepConfig.from_dict(changed({"ranking/alpha": 1})).ranking.alpha, float)


def test_a_configuration_is_frozen() -> None:
    config = SweepConfig.from_dict(BASE)
    with pytest.raises(ValueError, match="frozen"):
        config.trials = 3


def test_an_error_survives_pickling() -> None:
    error = ConfigError("sweep.yaml", ["a: b", "c: d"])
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problems) == (str(error), error.problems)


def test_importances_are_those_that_can_be_collected() -> None:
    from trace_core.importance import ESTIMATORS

    assert set(config_sections.IMPORTANCES) == set(ESTIMATORS)


def test_alpha_schemes_are_those_of_the_measure() -> None:
    from trace_core.alpha import SCHEMES

    assert tuple(SCHEMES) == config_sections.ALPHA_SCHEMES


def test_loading_needs_nothing_heavy() -> None:
    path = ROOT / "examples" / "digits.yaml"
    code = f"""
import sys
from sweeps.config import load_config
load_config({str(path)!r}).dump()
print(*{{name.partition('.')[0] for name in sys.modules}})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not set(done.stdout.split()) & {"torch", "sklearn", "ray", "optuna", "pandas", "scipy"}


# The reference

REFERENCE = (ROOT / "docs" / "configuration.md").read_text()


def test_the_first_file_of_the_reference_is_valid() -> None:
    block = REFERENCE.partition("```yaml\n")[2].partition("```")[0]
    config = SweepConfig.from_dict(read(block))
    assert config.space.size() == 6


def documented(key: str) -> str:
    lines = [line for line in REFERENCE.splitlines() if line.startswith(f"| `{key}` |")]
    assert len(lines) == 1, key
    return lines[0]


@pytest.mark.parametrize("key", SweepConfig.model_fields)
def test_every_key_is_documented(key: str) -> None:
    documented(key)


@pytest.mark.parametrize("section", ["budget", "sampler", "ranking", "tracer", "resources"])
def test_every_key_of_a_section_is_documented_with_its_default(section: str) -> None:
    kind = type(getattr(SweepConfig.from_dict(BASE), section))
    for key, field in kind.model_fields.items():
        row = documented(f"{section}.{key}")
        if section != "budget":
            assert f"`{field.default}`" in row


@pytest.mark.parametrize("key", config_sections.Budget.model_fields)
def test_both_kinds_of_budget_are_documented(key: str) -> None:
    rule = (config_sections.Budget.model_fields[key].json_schema_extra or {})["rule"]  # type: ignore[index]
    assert str(rule) in documented(f"budget.{key}")


@pytest.mark.parametrize("name", COMMON)
def test_every_common_parameter_is_documented_with_its_rule(name: str) -> None:
    setting, row = COMMON[name], documented(f"space.{name}")
    assert f"`{setting.default}`" in row or setting.default is None
    assert setting.choices is not None or setting.rule() in row
    assert all(f"`{choice}`" in REFERENCE for choice in setting.choices or ())


@pytest.mark.parametrize("name", architecture_names())
def test_every_setting_is_documented_with_rule_and_default(name: str) -> None:
    for key, setting in get_architecture(name).settings.items():
        row = documented(f"{name}.{key}")
        default = "required" if setting.required else f"`{setting.default}`"
        assert f"| {'empty' if setting.default == '' else default} |" in row
        assert setting.rule() in row


def test_every_choice_is_documented() -> None:
    choices = [
        *INITIALISATIONS,
        *config_sections.IMPORTANCES,
        *config_sections.CONCENTRATIONS,
        *config_sections.STABILITIES,
        *config_sections.CHANGE_RATES,
        *config_module.OBJECTIVES,
        *config_module.DTYPES,
        *config_sections.ALPHA_SCHEMES,
        *config_sections.SAMPLERS,
        *config_module.DTYPES,
    ]
    assert not [choice for choice in choices if f"`{choice}`" not in REFERENCE]


def test_winner_is_a_space_of_one() -> None:
    from sweeps.candidate import Candidate

    config = SweepConfig.from_dict(
        changed(
            {
                f"{MLP}/hidden": [8, 16],
                "space/learning_rate": {"float": [0.01, 0.1]},
                "space/epochs": [2, 3],
                "space/optimizer": ["sgd", "adam"],
                "space/momentum": [0.0, 0.9],
                "ranking/alpha": "std",
                # More than the winner's epochs may be.
                "pruner": {"name": "median", "grace": 2},
                "limits": {"wall_time": 60},
            }
        )
    )
    for optimizer in ("sgd", "adam"):
        answers = {"optimizer": optimizer, "learning_rate": 0.05, "mlp.hidden": 16, "epochs": 2}
        parameters = config.space.draw(
            lambda name, d, answers=answers: answers.get(
                name, d.values[-1] if isinstance(d, Choice) else None
            )
        )
        candidate, _ = Candidate.from_parameters(config, parameters)
        best = config.winner(candidate)
        assert SweepConfig.from_dict(best.resolved()) == best
        assert best.space.size() == 1
        assert best.trials == 1
        single = best.space.draw(lambda name, d: d.values[0])
        again, alpha = Candidate.from_parameters(best, single)
        assert again == candidate
        assert again.model_id == candidate.model_id
        assert alpha == 0.5
