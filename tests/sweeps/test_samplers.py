"""Every sampler on a conditional space, with real studies whose values cost no training."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inprocess import prepared, small, work_off
from scipy.stats import qmc

from search_spaces import Choice, Grid, Space
from sweeps.config import SweepConfig
from sweeps.config_messages import ConfigError
from sweeps.config_selection import SAMPLERS
from sweeps.run_directory import RunDirectory
from sweeps.selection import Study, read_trials
from sweeps.selection.storage import repair_journal

CONDITIONAL = {
    "architecture": {
        "mlp": {"hidden": {"int": [4, 64], "log": True}, "depth": {"int": [1, 3]}},
        "transformer": {"width": [8, 16], "depth": {"int": [1, 4]}},
    },
    "init": ["default", "orthogonal", "small"],
    "optimizer": ["sgd", "adam"],
    "learning_rate": {"float": [0.01, 1.0], "log": True},
    "momentum": [0.0, 0.9],
    "alpha": {"float": [0.0, 1.0]},
}
FINITE = CONDITIONAL | {
    "learning_rate": {"float": [0.1, 0.3], "step": 0.1},
    "alpha": {"float": [0.0, 1.0], "step": 0.25},
}
ONE = ["metric"]
ALL = ["stability", "explainability", "metric"]
# Enough trials for each to do more than draw at random: gp begins after 10, nsga2 after a
# population.
CASES = [
    *((name, ALL) for name in SAMPLERS if name not in ("cmaes", "gp")),
    pytest.param("gp", ALL, marks=pytest.mark.slow),
    *((name, ONE) for name in ("tpe", "nsga2", "gp", "cmaes")),
]
TRIALS = 17
# Seconds for each trial that it models.
FEW_TRIALS = 12


def changes(name: str, objectives: list[str] = ALL, **others: Any) -> dict[str, Any]:
    return {
        "space": FINITE if name == "grid" else CONDITIONAL,
        "sampler": {"name": name, "seed": 1, "population": 6},
        "objectives": objectives,
        "trials": TRIALS,
    } | others


def paid(parameters: dict[str, Any]) -> tuple[list[float], float]:
    """Three values and the constraint: best for a small MLP with a learning rate of 0.1."""
    distance = abs(math.log10(parameters["learning_rate"]) + 1)
    if parameters["architecture"] == "mlp":
        distance += parameters["mlp.hidden"] / 64
    else:
        distance += 0.5 + parameters["transformer.depth"] / 4
    return [-distance, 1.0 / (1 + parameters["alpha"]), -(distance**2)], distance - 1.2


def tell(study: Study, number: int, parameters: dict[str, Any], count: int) -> None:
    values, constraint = paid(parameters)
    study.tell(number, values[:count], {"model": "m"}, constraint)


def go_on(study: Study, config: SweepConfig, until: int) -> None:
    count = len(config.objectives)
    for number, parameters in study.adopt():
        tell(study, number, parameters, count)
    while len(study) < until:
        tell(study, *study.ask(), count)
    study.flush()


def asked(run: RunDirectory) -> list[dict[str, Any]]:
    return [trial.parameters for trial in read_trials(run)]


@pytest.mark.parametrize(("name", "objectives"), CASES)
def test_an_interrupted_sweep_asks_what_an_undisturbed_one_does(
    tmp_path: Path, name: str, objectives: list[str]
) -> None:
    trials = FEW_TRIALS if name == "gp" else TRIALS
    undisturbed, config = prepared(tmp_path / "undisturbed", **changes(name, objectives))
    go_on(Study(undisturbed, config), config, trials)
    expected = asked(undisturbed)
    run, _ = prepared(tmp_path / "run", **changes(name, objectives))
    for until in (3, trials - 1):
        go_on(Study(run, config), config, until)
        # Killed while it drew: the trial is there, with its first parameter and no more.
        study = Study(run, config)
        study.ask()
        study.flush()
        lines = run.journal.read_bytes().splitlines(keepends=True)
        made = max(i for i, line in enumerate(lines) if b'"op_code":4' in line)
        drawn = next(i for i, line in enumerate(lines) if i > made and b'"op_code":5' in line)
        run.journal.write_bytes(b"".join(lines[: drawn + 1]))
        repair_journal(run.journal)
    go_on(Study(run, config), config, trials)
    assert asked(run) == expected
    for parameters in expected:
        assert config.space.draw(lambda n, d, p=parameters: p[n]) == parameters


@pytest.mark.parametrize(("name", "objectives"), CASES)
def test_trials_in_parallel_differ_and_any_order_of_ends_will_do(
    tmp_path: Path, name: str, objectives: list[str]
) -> None:
    trials = FEW_TRIALS + 3 if name == "gp" else TRIALS
    run, config = prepared(tmp_path / "run", **changes(name, objectives))
    study = Study(run, config)
    running: list[tuple[int, dict[str, Any]]] = []
    while len(study) < trials or running:
        while len(running) < 3 and len(study) < trials:
            running.append(study.ask())
        number, parameters = running.pop(len(running) // 2)
        if number == 5:
            study.tell(number, None, {"model": "m", "reason": "diverged"})
        else:
            tell(study, number, parameters, len(objectives))
    study.flush()
    states = [trial.state for trial in read_trials(run)]
    assert states.count("COMPLETE") == trials - 1
    assert len({str(point) for point in asked(run)}) > trials - 3


def late(path: Path, name: str, trials: int, constraint: Any = None) -> list[dict[str, Any]]:
    """The last points, up to 20, of a study of one objective."""
    run, config = prepared(path, **changes(name, ONE, trials=trials))
    study = Study(run, config)
    while len(study) < trials:
        number, parameters = study.ask()
        (value, *_), broken = paid(parameters)
        broken = constraint(parameters) if constraint else broken
        study.tell(number, [value], {"model": "m"}, broken)
    study.flush()
    return asked(run)[max(12, trials - 20) :]


LEARNERS = [
    ("tpe", 60),
    ("nsga2", 60),
    pytest.param("gp", 20, marks=pytest.mark.slow),
    ("cmaes", 60),
]


@pytest.mark.parametrize(("name", "trials"), LEARNERS)
def test_a_sampler_learns_what_it_is_paid_for(tmp_path: Path, name: str, trials: int) -> None:
    found = [paid(one)[0][0] for one in late(tmp_path / "run", name, trials)]
    drawn = [paid(one)[0][0] for one in late(tmp_path / "random", "random", 60)]
    assert np.median(found) > np.quantile(drawn, 0.7)


@pytest.mark.parametrize(("name", "trials"), LEARNERS)
def test_a_sampler_heeds_the_floor(tmp_path: Path, name: str, trials: int) -> None:
    def broken(parameters: dict[str, Any]) -> float:
        """What is paid best, a learning rate of 0.1, is below the floor."""
        return 0.7 + math.log10(parameters["learning_rate"])

    def met(points: list[dict[str, Any]]) -> int:
        return sum(0.7 + math.log10(point["learning_rate"]) <= 0 for point in points)

    def forbidden(parameters: dict[str, Any]) -> float:
        return -broken(parameters)

    with_floor = met(late(tmp_path / "with", name, trials, forbidden))
    without = met(late(tmp_path / "without", name, trials, lambda parameters: -1.0))
    assert with_floor < without


@pytest.mark.parametrize(
    ("name", "trials"), [("nsga2", 60), pytest.param("gp", 22, marks=pytest.mark.slow)]
)
def test_settings_of_one_architecture_are_learned(tmp_path: Path, name: str, trials: int) -> None:
    points = late(tmp_path / "run", name, trials)
    hidden = [point["mlp.hidden"] for point in points if point["architecture"] == "mlp"]
    assert len(hidden) > len(points) / 2
    # Drawn at random the median would be 16.
    assert np.median(hidden) < 12


def test_qmc_covers_the_whole_space_more_evenly_than_random_draws(tmp_path: Path) -> None:
    space = CONDITIONAL | {"optimizer": "sgd"}
    found: dict[str, list[float]] = {}
    for name in ("qmc", "random"):
        run, config = prepared(tmp_path / name, **changes(name, space=space, trials=128))
        go_on(Study(run, config), config, 128)
        points = asked(run)
        cells = Counter((point["architecture"], point["init"]) for point in points)
        rows = [unit(config.space, point) for point in points]
        found[name] = [
            max(abs(count - 128 / 6) for count in cells.values()),
            # The learning rate and α, which all have, and the ranges of each architecture.
            qmc.discrepancy([row[-2:] for row in rows]),
        ]
        for architecture in config.space.architectures:
            own = [i for i in range(128) if points[i]["architecture"] == architecture]
            found[name].append(qmc.discrepancy([rows[i] for i in own]))
    assert all(np.less(found["qmc"], found["random"])), found
    assert found["qmc"][1] < 0.2 * found["random"][1]


def unit(space: Space, point: dict[str, Any]) -> list[float]:
    """The ranges of a point as numbers in [0, 1]."""
    found = []
    for name, value in point.items():
        dimension = space.parameters()[name]
        if not isinstance(dimension, Choice):
            low, high = float(dimension.low), float(dimension.high)
            scale = math.log if dimension.log else float
            found.append((scale(value) - scale(low)) / (scale(high) - scale(low)))
    return found


def test_the_grid_is_every_point_once_and_then_the_sweep_ends(tmp_path: Path) -> None:
    run, config = prepared(
        tmp_path / "run",
        sampler={"name": "grid"},
        replicates=1,
        trials=12,
        space={
            "architecture": {"mlp": {"hidden": [4, 8], "depth": 1}},
            "init": ["default", "orthogonal"],
            "alpha": {"float": [0.0, 1.0], "step": 0.5},
            "learning_rate": 0.3,
        },
    )
    assert work_off(run, config).complete
    found = asked(run)
    assert len(found) == len({str(point) for point in found}) == 12
    assert [point["alpha"] for point in found[:4]] == [0.0, 0.5, 1.0, 0.0]
    assert [trial.details["replayed"] for trial in read_trials(run)] == [False, True, True] * 4


def test_the_grid_of_a_conditional_space() -> None:
    space = Space.parse(FINITE)
    grid = Grid(space)
    # Models with their momentum under sgd, without it under adam; 3 inits, 3 rates, 5 alphas.
    assert grid.size == (61 * 3 + 2 * 4) * (2 + 1) * 3 * 3 * 5
    found = {str(grid.point(i)) for i in range(grid.size)}
    assert len(found) == grid.size
    for i in range(0, grid.size, 97):
        point = grid.point(i)
        assert space.draw(lambda name, dimension, p=point: p[name]) == point
        assert all(space.parameters()[name].contains(value) for name, value in point.items())
    assert space.size() == grid.size // 5
    with pytest.raises(IndexError, match="the grid has"):
        grid.point(grid.size)


def test_trials_of_a_grid_are_as_many_as_it_has_points() -> None:
    data = small(sampler={"name": "grid"}, space={**small()["space"], "alpha": [0.0, 0.5]})
    del data["trials"]
    assert SweepConfig.from_dict(data).trials == 8


@pytest.mark.parametrize("name", ["tpe", "nsga2", "gp", "random", "qmc", "grid"])
def test_a_model_that_was_tried_is_replayed(tmp_path: Path, name: str) -> None:
    space = small()["space"] | {"alpha": {"float": [0.0, 1.0], "step": 0.25}}
    run, config = prepared(tmp_path / "run", **changes(name, space=space, replicates=1, trials=14))
    assert work_off(run, config).complete
    trials = read_trials(run)
    assert_replayed(trials, models=4)
    assert len(list((run.path / "traces").glob("*.npz"))) == len(trials) - replays(trials)


def test_a_model_that_cmaes_tried_is_replayed(tmp_path: Path) -> None:
    space = {
        "architecture": {"mlp": {"hidden": {"int": [4, 6]}, "depth": 1}},
        "alpha": {"float": [0.0, 1.0]},
        "learning_rate": 0.3,
    }
    run, config = prepared(
        tmp_path / "run", **changes("cmaes", ONE, space=space, replicates=1, trials=14)
    )
    assert work_off(run, config).complete
    assert_replayed(read_trials(run), models=3)


def replays(trials: list[Any]) -> int:
    return sum(trial.details["replayed"] for trial in trials)


def assert_replayed(trials: list[Any], models: int) -> None:
    """The first trial of a model is trained, and every other one replayed."""
    seen: set[str] = set()
    for trial in trials:
        assert trial.state == "COMPLETE"
        assert trial.details["replayed"] == (trial.details["model"] in seen)
        assert bool(trial.details["ray"]) != trial.details["replayed"]
        seen.add(trial.details["model"])
    assert 1 < len(seen) <= models


REFUSED = [
    ({"sampler": {"name": "cmaes"}}, "sampler.name: got 'cmaes' with 3 objectives; it takes one"),
    (
        {"sampler": {"name": "cmaes"}, "objectives": ONE},
        "in which every model has 1 ranges of numbers (alpha); it needs two or more",
    ),
    (
        {"sampler": {"name": "grid"}},
        "space.alpha: got {'float': [0.0, 1.0]}; a grid needs a list of values or a range with",
    ),
    (
        {"sampler": {"name": "grid"}, "space": {"architecture": "mlp"}},
        "trials: got 6; must be at most 1, the size of the grid",
    ),
    (
        {"sampler": {"name": "grid"}, "space": {"architecture": "mlp"}, "first": [{}], "trials": 1},
        "first: sampler grid has an order of its own",
    ),
    (
        {"sampler": {"name": "nsga2"}},
        "sampler.population: got 20 for 6 trials; nsga2 draws its first population at random",
    ),
    ({"sampler": {"name": "nsga2", "population": 1}}, "sampler.population: got 1; must be an int"),
    ({"sampler": {"name": "cmaess"}}, "sampler.name: got 'cmaess'; must be one of tpe, nsga2, gp,"),
]


@pytest.mark.parametrize(("changed", "expected"), REFUSED)
def test_what_cannot_work_is_refused(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SweepConfig.from_dict(small(**changed))
    assert expected in str(caught.value)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    space = small()["space"] | {"learning_rate": {"float": [0.1, 1.0]}}
    for changed in (
        {"sampler": {"name": "cmaes"}, "objectives": ONE, "space": space},
        {"storage": "postgresql://me@localhost/studies"},
    ):
        with pytest.raises(ConfigError, match=r"install it with: pip install 'tracerank\["):
            SweepConfig.from_dict(small(**changed))
