"""Pruning by Ray Tune's schedulers, and the limits of a sweep's time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from inprocess import conductor, ledger, make_all, prepared, small

from sweeps import records
from sweeps.config import SweepConfig
from sweeps.config_messages import ConfigError
from sweeps.config_sections import PrunerSettings
from sweeps.execution.pruning import Pruning
from sweeps.group import Group
from sweeps.records import TrainingRecord
from sweeps.results import report_run
from sweeps.run_directory import RunDirectory
from sweeps.selection import read_trials
from sweeps.sweep import create, drive

SPACE = {
    "architecture": {"mlp": {"hidden": [4, 8, 16], "depth": 1}},
    "init": ["default", "orthogonal"],
    "alpha": {"float": [0.0, 1.0]},
    "learning_rate": {"float": [1e-4, 1.0], "log": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_a_sweep_that_prunes(tmp_path: Path, name: str) -> None:
    pruner = {"name": name, "reduction": 2, "startup": 2}
    config = SweepConfig.from_dict(
        small(
            trials=14,
            budget={"epochs": 12, "batch_size": 32},
            space=SPACE,
            pruner=pruner,
            sampler={"name": "tpe", "seed": 1},
        )
    )
    run = create(config, tmp_path / "run", [])
    assert drive(run, config, workers=2, import_path=[]).complete
    table = ledger(run, config)
    pruned = table[table["state"] == "PRUNED"]
    assert 0 < len(pruned) < len(table)
    assert set(table["state"]) == {"PRUNED", "COMPLETE"}
    assert pruned["value_metric"].isna().all()
    for _, row in pruned.iterrows():
        first, second = row["trainings"].split(",")
        record = records.load(run, first)
        assert record is not None
        assert record.state == "PRUNED"
        assert row["reason"].startswith(f"pruned after {record.history[-1]['epoch']} of 12 epochs")
        assert not run.trace(first).exists()
        assert not run.record(second).exists()
    assert not (run.path / "checkpoints").exists()
    ranking = report_run(run).ranking.to_json()
    assert ranking["trials"]["PRUNED"] == len(pruned)
    excluded = {entry["model_id"] for entry in ranking["excluded"]}
    assert set(pruned["model_id"]) <= excluded


def test_a_pruned_model_is_not_trained_for_another_alpha(tmp_path: Path) -> None:
    run, config = prepared(
        tmp_path / "run",
        trials=3,
        pruner={"name": "asha"},
        space={
            "architecture": {"mlp": {"hidden": 4, "depth": 1}},
            "alpha": {"float": [0.0, 1.0]},
            "learning_rate": 0.1,
        },
    )
    conducting = conductor(run, config, workers=2)
    work = conducting.next("a")
    assert work is not None
    assert work.reports == (1, 4)
    # The second replicate waits for what becomes of the first.
    assert conducting.next("b") is None
    entry = {"epoch": 1, "step": 4, "train_loss": 1.0, "metric": 0.4, "metric_error": 0.1}
    conducting.pruned("a", [{**entry, "seconds": 0.25}])
    conducting.ended("a")
    assert conducting.complete
    conducting.study.flush()
    table = ledger(run, config)
    assert table["state"].tolist() == ["PRUNED"] * 3
    assert table["replayed"].tolist() == [False, True, True]
    assert table["seconds"].tolist() == [0.25, 0, 0]


def test_the_other_replicates_follow_a_first_that_was_not_pruned(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=1, replicates=3, pruner={"name": "median"})
    conducting = conductor(run, config, workers=3)
    judged: list[TrainingRecord] = []
    conducting.on_judged = judged.append
    first = conducting.next("a")
    assert first is not None
    assert [training.seed for training in first.trainings] == [0]
    make_all(run, first, "a")
    conducting.ended("a")
    others = conducting.next("b")
    assert others is not None
    assert [training.seed for training in others.trainings] == [1, 2]
    assert others.reports == ()
    make_all(run, others, "b")
    conducting.ended("b")
    assert conducting.complete
    assert [record.seed for record in judged] == [0]
    assert list(conducting.judged()) == judged


def curve(name: str, metrics: list[float], state: Any = "COMPLETE") -> TrainingRecord:
    history = [{"epoch": epoch, "metric": metric} for epoch, metric in enumerate(metrics)]
    return TrainingRecord(name, name, 0, state, 0, name, 0.1, history=history)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_what_ended_before_is_recalled(name: str, direction: str) -> None:
    settings = PrunerSettings(name=name, reduction=2, startup=1)
    sign = 1 if direction == "maximize" else -1
    runs = [
        [sign * (level + 0.01 * epoch) for epoch in range(9)]
        for level in (0.5, 0.6, 0.2, 0.7, 0.1, 0.4)
    ]

    def judge(rule: Pruning, name: str, metrics: list[float]) -> TrainingRecord:
        for epoch in settings.reports(8):
            if rule.stops(name, epoch, metrics[epoch]):
                return curve(name, metrics[: epoch + 1], "PRUNED")
        rule.ended(curve(name, metrics))
        return curve(name, metrics)

    rule = Pruning(settings, direction, 8, seed=0)
    whole = [judge(rule, str(i), metrics) for i, metrics in enumerate(runs)]
    assert {record.state for record in whole} == {"COMPLETE", "PRUNED"}
    for interrupted in range(1, len(runs)):
        again = Pruning(settings, direction, 8, seed=0)
        for record in whole[:interrupted]:
            again.ended(record)
        rest = [judge(again, str(i), runs[i]) for i in range(interrupted, len(runs))]
        assert rest == whole[interrupted:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pruner": {"name": "ahsa"}}, "did you mean asha"),
        ({"pruner": {"name": "asha", "grace": 6}}, r"pruner.grace: got 6; must be less than"),
        ({"pruner": {"name": "asha", "reduction": 1}}, r"reduction: got 1; must be an integer fr"),
        ({"limits": {"wall_time": "soon"}}, r"wall_time: got 'soon'; must be seconds above 0"),
        ({"limits": {"wall_time": ""}}, "wall_time: got ''; must be seconds"),
        ({"limits": {"training_time": 0}}, "training_time: got 0; must be seconds"),
        ({"limits": {"training_time": True}}, "training_time: got true; must be seconds"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?i){message}"):
        SweepConfig.from_dict(small(**changes))


@pytest.mark.parametrize(
    ("written", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), (0.5, 0.5), ("2h", 7200)]
)
def test_durations(written: Any, seconds: float) -> None:
    config = SweepConfig.from_dict(small(limits={"wall_time": written}))
    assert config.limits.wall_time == seconds
    assert SweepConfig.from_dict(config.resolved()) == config


@pytest.mark.slow
def test_a_sweep_ends_when_its_time_is_over(tmp_path: Path) -> None:
    config = tmp_path / "sweep.yaml"
    long = small(budget={"epochs": 100_000, "batch_size": 32}, limits={"wall_time": "35s"})
    config.write_text(yaml.safe_dump(long))
    run = RunDirectory(tmp_path / "run")
    command = [sys.executable, "-c", "from sweeps.cli import main; main()"]
    begun = time.monotonic()
    done = subprocess.run(
        [*command, "run", str(config), "--out", str(run.path), "--workers", "2"],
        capture_output=True,
        text=True,
    )
    took = time.monotonic() - begun
    assert "The wall_time of its limits is over after 0 of 6 trials" in done.stderr
    assert "Traceback" not in done.stderr
    assert 30 < took < 50
    ranking = json.loads((run.report / "ranking.json").read_text())
    assert ranking["trials"]["INTERRUPTED"] > 0
    assert len(list((run.path / "checkpoints").glob("*.pt"))) == 2


def test_a_sweep_ends_when_enough_was_trained(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=50, limits={"training_time": 0.2}, replicates=1)
    config = config.model_copy(
        update={"space": SweepConfig.from_dict(small(space=SPACE)).space, "trials": 50}
    )
    conducting = conductor(run, config)
    spent = 0.0
    while (work := conducting.next("a")) is not None:
        assert spent < 0.2
        make_all(run, work)
        conducting.ended("a")
        record = records.load(run, work.ids[0])
        assert record is not None
        spent += record.seconds
    assert spent >= 0.2
    assert conducting.exhausted
    assert conducting.limit == "training_time"
    assert not conducting.complete


def test_what_was_evaluated_before_an_interruption_is_judged_after_it(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=1, replicates=1)
    conducting = conductor(run, config)
    work = conducting.next("a")
    assert work is not None
    texts = [training.to_json() for training in work.trainings]

    def reported(until: int) -> list[dict[str, Any]]:
        group = Group(run.path, texts, work.ids, work.trial, "a", reports=(2, 3, 4))
        found = []
        while not group.advance(60) and len(found) < until:
            if (report := group.report()) is not None:
                found.append({name: each for name, each in report.items() if name != "seconds"})
        group.save()
        return found

    first = reported(2)
    assert [each["epoch"] for each in first] == [2, 3]
    again = reported(9)
    assert [each["epoch"] for each in again] == [2, 3, 4]
    assert again[:2] == first
    record = records.ended(run, work.ids[0])
    assert record is not None
    assert len(record.resumed) == 1


def test_a_trial_that_waits_for_other_replicates_is_judged_by_as_well(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=2, pruner={"name": "median", "grace": 2})
    conducting = conductor(run, config)
    work = conducting.next("a")
    assert work is not None
    make_all(run, work)
    conducting.ended("a")
    conducting.study.flush()
    again = conductor(run, config)
    again.adopt()
    assert read_trials(run)[0].state == "INTERRUPTED"
    assert [record.training_id for record in again.judged()] == work.ids[:1]
