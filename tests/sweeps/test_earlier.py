"""What is tried first: points that are given, and those of earlier sweeps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from inprocess import ledger, prepared, small, work_off

from sweeps.cli import main
from sweeps.config import SweepConfig, load_config
from sweeps.config_messages import ConfigError
from sweeps.ledger import counts
from sweeps.results import rank_run
from sweeps.run_directory import RunDirectory, RunDirectoryError
from sweeps.selection import Study, read_trials

SPACE = {
    "architecture": {"mlp": {"hidden": [4, 8, 16], "depth": 1}, "transformer": {"width": [8, 16]}},
    "init": ["default", "orthogonal"],
    "optimizer": ["sgd", "adam"],
    "momentum": [0.0, 0.9],
    "alpha": {"float": [0.0, 1.0]},
    "learning_rate": {"float": [0.1, 1.0]},
}
FIRST = [
    {"architecture": "transformer", "transformer.width": 16, "learning_rate": 1},
    {"init": "orthogonal", "alpha": 0.25},
    {"architecture": "mlp", "mlp.hidden": 8, "optimizer": "sgd", "momentum": 0.9},
]


@pytest.mark.parametrize("name", ["tpe", "nsga2", "random", "qmc"])
def test_first_points_come_before_those_that_cover_the_space(tmp_path: Path, name: str) -> None:
    sampler = {"name": name, "population": 3}
    run, config = prepared(tmp_path / "run", space=SPACE, first=FIRST, sampler=sampler)
    study = Study(run, config)
    asked = [study.ask()[1] for _ in range(5)]
    for point, parameters in zip(config.first, asked, strict=False):
        assert {key: parameters[key] for key in point} == point
    assert isinstance(asked[0]["learning_rate"], float)
    assert [one["architecture"] for one in asked[3:]] == ["mlp", "transformer"]
    # Nothing is enqueued: an interrupted sweep, whose driver lost all, asks the same again.
    assert [Study(run, config).ask()[1]] == asked[:1]


def test_cmaes_goes_on_from_first_points(tmp_path: Path) -> None:
    space = SPACE | {"momentum": 0.0}
    run, config = prepared(
        tmp_path / "run",
        space=space,
        sampler={"name": "cmaes"},
        objectives=["metric"],
        first=[{"learning_rate": 0.9}, {"learning_rate": 0.8, "alpha": 0.5}],
        trials=60,
    )
    study = Study(run, config)
    rates = []
    for _ in range(60):
        number, parameters = study.ask()
        rates.append(parameters["learning_rate"])
        study.tell(number, [-abs(rates[-1] - 0.9)], {"model": "m"}, -1.0)
    assert rates[:2] == [0.9, 0.8]
    # At random the mean distance would be 0.36.
    assert sum(abs(rate - 0.9) for rate in rates[-15:]) / 15 < 0.15


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        (3, "first.0: got 3; must be a mapping of parameters to values"),
        ({"inti": "default"}, "first.0.inti: unknown parameter 'inti'; valid: architecture, mlp"),
        ({"inti": "default"}, "Did you mean init?"),
        ({"init": "small"}, "first.0.init: got 'small'; the space has default, orthogonal"),
        ({"learning_rate": 2.0}, "first.0.learning_rate: got 2.0; the space has float 0.1 to 1"),
        ({"learning_rate": True}, "first.0.learning_rate: got True; the space has float 0.1 to 1"),
        ({"mlp.hidden": 8}, "first.0.mlp.hidden: needs architecture: mlp beside it"),
        (
            {"architecture": "mlp", "transformer.width": 8},
            "first.0.transformer.width: exists only where architecture is transformer",
        ),
        ({"momentum": 0.9}, "first.0.momentum: needs optimizer: sgd beside it"),
        (
            {"optimizer": "adam", "momentum": 0.9},
            "first.0.momentum: exists only where optimizer is sgd",
        ),
    ],
)
def test_bad_points(point: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SweepConfig.from_dict(small(space=SPACE, first=[point]))
    assert expected in str(caught.value)


def test_points_may_leave_out_what_the_space_has_one_of() -> None:
    config = SweepConfig.from_dict(small(first=[{"mlp.hidden": 8, "momentum": 0}]))
    assert config.first == ({"mlp.hidden": 8, "momentum": 0.0},)
    assert SweepConfig.from_dict(config.resolved()) == config


@pytest.fixture
def old(tmp_path: Path) -> RunDirectory:
    run, config = prepared(tmp_path / "old", trials=8)
    work_off(run, config)
    return run


def test_a_sweep_goes_on_from_an_earlier_one(tmp_path: Path, old: RunDirectory) -> None:
    before = read_trials(old)
    run, config = prepared(
        tmp_path / "new", warm_start=[str(old.path)], trials=12, sampler={"name": "tpe", "seed": 5}
    )
    traces = {path.name: path.read_bytes() for path in (old.path / "traces").glob("*.npz")}
    shutil.rmtree(old.path)
    assert work_off(run, config).complete
    trials = read_trials(run)
    assert [trial.parameters for trial in trials[:8]] == [trial.parameters for trial in before]
    assert [trial.values for trial in trials[:8]] == [trial.values for trial in before]
    table = ledger(run, config)
    assert table["replayed"][:8].all()
    assert table["ray"][:8].eq("").all()
    assert counts(table)["COMPLETE"] == 12
    assert {name: (run.path / "traces" / name).read_bytes() for name in traces} == traces
    assert rank_run(run).ledger["replayed"].sum() >= 8
    # What was taken over is known after an interruption too.
    again = Study(run, config)
    assert [trial.parameters for trial in again.trials()] == [t.parameters for t in trials]
    assert load_config(run.configuration) == config


def test_what_fits_is_taken_over_and_no_more(tmp_path: Path, old: RunDirectory) -> None:
    space = small()["space"] | {"init": ["orthogonal", "small"], "batch_size": [32, 64]}
    run, config = prepared(
        tmp_path / "new", warm_start=[str(old.path)], space=space, replicates=1, trials=20
    )
    expected = [
        trial.parameters for trial in read_trials(old) if trial.parameters["init"] == "orthogonal"
    ]
    points = run.read_points()
    assert [point["alpha"] for point in points] == [point["alpha"] for point in expected]
    assert {point["batch_size"] for point in points} == {32}
    models = {point["mlp.hidden"] for point in expected}
    assert len(list((run.path / "traces").glob("*.npz"))) == len(models)
    study = Study(run, config)
    assert study.ask()[1] == points[0]


def test_more_replicates_are_trained_beside_those_taken_over(
    tmp_path: Path, old: RunDirectory
) -> None:
    run, config = prepared(tmp_path / "new", warm_start=[str(old.path)], replicates=3, trials=9)
    work_off(run, config, at_most=1)
    trial = read_trials(run)[0]
    assert not trial.details["replayed"]
    assert len(trial.details["ray"]) == 1


def test_one_alpha_takes_the_place_of_all(tmp_path: Path, old: RunDirectory) -> None:
    space = small()["space"] | {"alpha": 0.5}
    run, _ = prepared(tmp_path / "new", warm_start=[str(old.path)], space=space, trials=9)
    points = run.read_points()
    assert {point["alpha"] for point in points} == {0.5}
    assert len(points) == len({trial.details["model"] for trial in read_trials(old)})
    other = small()["space"] | {"alpha": [7 / 9, 8 / 9]}
    run, _ = prepared(tmp_path / "other", warm_start=[str(old.path)], space=other, trials=9)
    assert run.read_points() == []
    assert list((run.path / "traces").glob("*.npz"))


def test_a_grid_takes_the_trainings_alone(tmp_path: Path, old: RunDirectory) -> None:
    space = small()["space"] | {"alpha": 0.5}
    changes = {"space": space, "sampler": {"name": "grid"}, "trials": 4}
    run, config = prepared(tmp_path / "new", warm_start=[str(old.path)], **changes)
    assert run.read_points() == []
    assert work_off(run, config).complete
    assert sum(trial.details["replayed"] for trial in read_trials(run)) == len(
        {trial.details["model"] for trial in read_trials(old)}
    )


BUDGET = {"epochs": 7, "batch_size": 32}
INITS = small()["space"] | {"init": ["small"]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"task": "breast_cancer"}, "the task is wine, and this sweep's breast_cancer"),
        (
            {"budget": BUDGET},
            "none of its 8 COMPLETE trials fits this sweep; of the first, epochs ",
        ),
        ({"space": INITS}, "of the first, init: got 'default'; the space has small"),
        ({"dtype": "float64"}, "dtype is float32, and this sweep's float64"),
        ({"trials": 8}, "trials: got 8; must be more than 8: warm_start brings 8 trials"),
        ({"warm_start": ["NOWHERE"]}, "no such run directory"),
        ({"warm_start": ["EMPTY"]}, "not a run directory"),
        ({"warm_start": ["BEGUN"]}, "has no COMPLETE trial to take over"),
    ],
)
def test_nothing_to_take_over(
    tmp_path: Path, old: RunDirectory, changes: dict[str, Any], expected: str
) -> None:
    (tmp_path / "empty").mkdir()
    prepared(tmp_path / "begun")
    places = {name.upper(): str(tmp_path / name) for name in ("nowhere", "empty", "begun")}
    named = {"warm_start": [str(old.path)], "trials": 20} | changes
    named["warm_start"] = [places.get(path, path) for path in named["warm_start"]]
    path, out = tmp_path / "sweep.yaml", tmp_path / "new"
    path.write_text(yaml.safe_dump(small(**named)))
    for arguments in (["run", str(path), "--out", str(out)], ["validate", str(path)]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2, result.output
        assert expected in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not out.exists()


def test_validate_says_what_is_taken_over(tmp_path: Path, old: RunDirectory) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(small(warm_start=[str(old.path)], trials=20)))
    result = CliRunner().invoke(main, ["validate", str(path)])
    assert result.exit_code == 0, result.output
    assert "taken over from earlier sweeps: 8 trials and " in result.stdout


def test_damaged_points(tmp_path: Path, old: RunDirectory) -> None:
    run, config = prepared(tmp_path / "new", warm_start=[str(old.path)], trials=20)
    run.earlier.write_text("[]")
    with pytest.raises(RunDirectoryError, match=r"earlier\.json: does not hold an earlier sweep's"):
        Study(run, config)
