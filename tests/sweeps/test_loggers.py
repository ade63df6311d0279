"""What the loggers write, read back; and what they can't do to a sweep."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from click.testing import CliRunner
from inprocess import ledger, make_all, prepared, work_off
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from wandb.proto import wandb_internal_pb2

from sweeps import records
from sweeps.cli import main
from sweeps.conductor import Conductor, Progress
from sweeps.config import LOGGERS, ConfigError, SweepConfig
from sweeps.kept_scores import KeptScores
from sweeps.loggers import Logbook, LoggedTrial, logbook, require_loggers
from sweeps.loggers.logged_trial import POINTS, logged_trial
from sweeps.loggers.marker import Marker
from sweeps.objectives import Objectives
from sweeps.run_directory import RunDirectory
from sweeps.selection import Study, read_trials
from sweeps.sweep import drive
from trace_core import Trace

SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(logbook, "INTERRUPTED_SECONDS", 30.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, SweepConfig]:
    """A sweep with replays and failures, whose driver had no logger."""
    run, config = prepared(
        tmp_path_factory.mktemp("finished") / "run",
        trials=6,
        space={
            "architecture": {"mlp": {"hidden": 4, "depth": 1}},
            "learning_rate": [0.3, 1e30],
            "alpha": {"float": [0.0, 1.0]},
        },
    )
    work_off(run, config)
    states = ledger(run, config)["state"]
    assert set(states) == {"COMPLETE", "FAILED"}
    return run, config


def log(run: RunDirectory, config: SweepConfig, *loggers: str) -> None:
    """As a driver does that finds every trial told."""
    chosen = config.model_copy(update={"loggers": loggers})
    with Logbook(run, chosen) as book:
        for trial in read_trials(run):
            book.told(trial)
        book.finish()


def expected(run: RunDirectory, config: SweepConfig) -> list[LoggedTrial]:
    return [logged_trial(run, config, trial) for trial in read_trials(run)]


def copied(finished: tuple[RunDirectory, SweepConfig], path: Path) -> tuple[RunDirectory, Any]:
    shutil.copytree(finished[0].path, path)
    return RunDirectory(path), finished[1]


@pytest.fixture
def told(
    finished: tuple[RunDirectory, SweepConfig], tmp_path: Path
) -> tuple[RunDirectory, SweepConfig]:
    return copied(finished, tmp_path / "run")


def test_a_logged_trial_is_what_record_and_trace_say(
    told: tuple[RunDirectory, SweepConfig],
) -> None:
    run, config = told
    trials = expected(run, config)
    complete = next(trial for trial in trials if trial.state == "COMPLETE")
    assert complete.parameters["architecture"] == "mlp"
    assert 0 <= float(complete.parameters["alpha"]) <= 1
    assert set(complete.values) == {
        *("objective/stability", "objective/explainability", "objective/metric", "accuracy")
    }
    for curves in complete.curves:
        record = records.load(run, curves.training_id)
        assert record is not None
        for entry in record.history:
            assert curves.points[entry["step"]]["accuracy"] == entry["metric"]
        trace = Trace.load(run.trace(curves.training_id))
        rates = trace.change_rate("rms")
        last = curves.points[int(trace.steps[-1])]
        assert last["change_rate"] == rates[-1]
        assert last["stability"] == trace.stability()
        assert any("explainability" in values for values in curves.points.values())
    failed = next(trial for trial in trials if trial.state == "FAILED")
    assert "diverged" in failed.reason
    assert not failed.values


def test_long_curves_are_thinned(tmp_path: Path) -> None:
    run, config = prepared(
        tmp_path / "run", trials=1, replicates=1, budget={"epochs": 60, "batch_size": 32}
    )
    work_off(run, config)
    (trial,) = expected(run, config)
    (curves,) = trial.curves
    at = [step for step, values in curves.points.items() if "change_rate" in values]
    steps = Trace.load(run.trace(curves.training_id)).steps
    assert len(steps) > 2 * POINTS == 2 * len(at)
    assert (at[0], at[-1]) == (steps[0], steps[-1])
    assert np.ptp(np.diff(at)) <= 1


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator


def test_tensorboard_reads_back_every_trial(told: tuple[RunDirectory, SweepConfig]) -> None:
    run, config = told
    log(run, config, "tensorboard")
    trials = expected(run, config)
    folders = {path.name for path in (run.path / "tensorboard").iterdir()}
    assert folders == {trial.name for trial in trials}
    for trial in trials:
        folder = run.path / "tensorboard" / trial.name
        read = events(folder)
        values = {tag: read.Scalars(tag)[0].value for tag in read.Tags()["scalars"]}
        assert values == pytest.approx(trial.values, rel=1e-6)
        contents = read.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
        given = metadata.parse_session_start_info_plugin_data(contents).hparams
        assert given["learning_rate"].number_value == trial.parameters["learning_rate"]
        assert given["state"].string_value == trial.state
        contents = read.summary_metadata[metadata.SESSION_END_INFO_TAG].plugin_data.content
        assert metadata.parse_session_end_info_plugin_data(contents).end_time_secs > 0
        for curves in trial.curves:
            if curves.points:
                read = events(folder / f"seed_{curves.seed}")
                assert_curves(
                    {
                        tag: {event.step: event.value for event in read.Scalars(tag)}
                        for tag in read.Tags()["scalars"]
                    },
                    curves.points,
                )


def assert_curves(read: dict[str, dict[int, float]], points: dict[int, dict[str, float]]) -> None:
    wanted: dict[str, dict[int, float]] = {}
    for step, values in points.items():
        for name, value in values.items():
            wanted.setdefault(name, {})[step] = value
    assert read.keys() == wanted.keys()
    for name, curve in wanted.items():
        assert read[name] == pytest.approx(curve, rel=1e-6)


def mlflow_runs(client: MlflowClient) -> list[Any]:
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    runs = client.search_runs([experiment.experiment_id])
    return sorted(runs, key=lambda each: int(each.data.tags["tracerank.trial"]))


def test_mlflow_reads_back_every_trial(
    told: tuple[RunDirectory, SweepConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = told
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    log(run, config, "mlflow")
    client = MlflowClient(tracking_uri=(run.path / "mlruns").as_uri())
    trials = expected(run, config)
    for trial, found in zip(trials, mlflow_runs(client), strict=True):
        assert found.info.run_name == trial.name
        assert found.info.status == ("FINISHED" if trial.state == "COMPLETE" else "FAILED")
        assert found.data.params == {key: str(value) for key, value in trial.parameters.items()}
        assert found.data.tags["tracerank.model_id"] == trial.model_id
        for name, value in trial.values.items():
            assert found.data.metrics[name] == value
        together = trial.by_step()
        names = {name for values in together.values() for name in values}
        assert_curves(
            {
                name: {
                    metric.step: metric.value
                    for metric in client.get_metric_history(found.info.run_id, name)
                }
                for name in names
            },
            together,
        )


def test_mlflow_writes_where_the_user_says(
    told: tuple[RunDirectory, SweepConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = told
    elsewhere = (tmp_path / "elsewhere").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere)
    log(run, config, "mlflow")
    assert not (run.path / "mlruns").exists()
    assert len(mlflow_runs(MlflowClient(tracking_uri=elsewhere))) == config.trials


def wandb_runs(folder: Path) -> dict[str, list[Any]]:
    """The records of every offline run, by the run's id."""
    # W&B's own process may still be writing the last records of a run that has ended.
    wandb.teardown()
    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    return {path.stem.removeprefix("run-"): list(wandb_records(path)) for path in files}


def wandb_records(path: Path) -> Iterator[Any]:
    """A file of W&B: 7 bytes of its own, then blocks of 32 KiB as LevelDB's log has them."""
    data, at, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        # 1 is a whole record; 2, 3 and 4 are the first, a middle and the last part of one.
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def test_wandb_reads_back_every_trial_and_no_secret_is_kept(
    told: tuple[RunDirectory, SweepConfig],
) -> None:
    run, config = told
    log(run, config, "wandb")
    sweep = Marker(run.logged("wandb")).sweep
    runs = wandb_runs(run.path)
    trials = expected(run, config)
    assert runs.keys() == {f"{sweep}-{trial.number}" for trial in trials}
    for trial in trials:
        written = runs[f"{sweep}-{trial.number}"]
        (begun,) = [each.run for each in written if each.WhichOneof("record_type") == "run"]
        assert (begun.display_name, begun.project) == (trial.name, "small")
        given = {item.key: json.loads(item.value_json) for item in begun.config.update}
        assert given["learning_rate"] == trial.parameters["learning_rate"]
        assert given["state"] == trial.state
        history = {}
        for each in written:
            if each.WhichOneof("record_type") == "history":
                row = {
                    "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for item in each.history.item
                }
                history[row["_step"]] = {
                    key: value for key, value in row.items() if not key.startswith("_")
                }
        assert history == trial.by_step()
        summary = {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for each in written
            if each.WhichOneof("record_type") == "summary"
            for item in each.summary.update
        }
        assert {name: summary[name] for name in trial.values} == trial.values
    for path in run.path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("name", LOGGERS)
def test_nothing_is_logged_twice_and_what_a_kill_tore_is_logged_anew(
    told: tuple[RunDirectory, SweepConfig], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first driver dies with its third trial written, and not yet marked as such."""
    run, config = told
    marked = Marker.end

    def dies(marker: Marker, number: int) -> None:
        if number == 2:
            raise OSError("killed here")
        marked(marker, number)

    monkeypatch.setattr(Marker, "end", dies)
    log(run, config, name)
    assert (Marker(run.logged(name)).ended, Marker(run.logged(name)).begun) == ({0, 1}, 2)
    before = contents(run, name)
    assert len(before) == 3
    monkeypatch.setattr(Marker, "end", marked)
    for _ in range(2):
        log(run, config, name)
        after = contents(run, name)
        assert len(after) == config.trials
        assert {key: after[key] for key in (0, 1)} == {key: before[key] for key in (0, 1)}
        assert after[2] == pytest.approx(before[2])
    assert Marker(run.logged(name)).ended == set(range(config.trials))


def contents(run: RunDirectory, name: str) -> dict[int, int]:
    """How much a logger's tool holds of each trial, by number."""
    if name == "tensorboard":
        folders = sorted((run.path / "tensorboard").iterdir())
        return {
            int(folder.name.removeprefix("trial-")): len(list(folder.rglob("events*")))
            for folder in folders
        }
    if name == "mlflow":
        client = MlflowClient(tracking_uri=(run.path / "mlruns").as_uri())
        return {
            int(found.data.tags["tracerank.trial"]): sum(
                len(client.get_metric_history(found.info.run_id, key)) for key in found.data.metrics
            )
            for found in mlflow_runs(client)
        }
    folders = list(run.path.glob("wandb/offline-run-*"))
    runs = wandb_runs(run.path)
    assert len(folders) == len(runs)
    return {int(key.split("-")[1]): len(kept) for key, kept in runs.items()}


class Recorder:
    """A logger that keeps the numbers, and does as it is told with one of them."""

    def __init__(self, act: Any = None) -> None:
        self.logged: list[int] = []
        self.act = act

    def log(self, trial: LoggedTrial) -> None:
        if self.act is not None:
            self.act(trial.number)
        self.logged.append(trial.number)

    def discard(self, number: int) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder = Recorder()
    monkeypatch.setattr(logbook, "open_logger", lambda *arguments: recorder)
    yield recorder
    assert not [each for each in threading.enumerate() if each.name.startswith("tracerank-")]


def test_a_logger_that_fails_is_left_out_with_one_warning(
    told: tuple[RunDirectory, SweepConfig], recorded: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    run, config = told

    def unreachable(number: int) -> None:
        if number == 3:
            raise ConnectionError("no route to host\nand more")

    recorded.act = unreachable
    log(run, config, "mlflow")
    assert recorded.logged == [0, 1, 2]
    (warning,) = caplog.messages
    assert "mlflow is left out from here on: ConnectionError: no route to host." in warning
    assert f"tracerank resume {run.path}" in warning
    recorded.act = None
    log(run, config, "mlflow")
    assert recorded.logged == list(range(config.trials))


def test_a_logger_that_hangs_is_waited_for_and_left(
    told: tuple[RunDirectory, SweepConfig],
    recorded: Recorder,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, config = told
    monkeypatch.setattr(logbook, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(logbook, "INTERRUPTED_SECONDS", 0.2)
    forever = threading.Event()
    recorded.act = lambda number: number == 1 and forever.wait(60)
    log(run, config, "wandb")
    assert "nothing logged for" in caplog.messages[0]
    # Its trial ends too late: another driver may have the directory by now.
    forever.set()
    for thread in threading.enumerate():
        if thread.name.startswith("tracerank-"):
            thread.join(10)
    assert (Marker(run.logged("wandb")).ended, Marker(run.logged("wandb")).begun) == ({0}, 1)


def test_ctrl_c_ends_the_waiting_and_leaves_the_rest(
    told: tuple[RunDirectory, SweepConfig],
    recorded: Recorder,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, config = told
    monkeypatch.setattr(logbook, "NOTICE_SECONDS", 0.0)

    def press(number: int) -> None:
        if number == 1:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    recorded.act = press
    log(run, config, "mlflow")
    assert recorded.logged == [0, 1]
    assert Marker(run.logged("mlflow")).ended == {0, 1}
    assert "trials to log yet; Ctrl-C leaves them to: tracerank resume" in caplog.messages[0]


def test_trials_are_logged_once_the_study_has_stored_them(
    tmp_path: Path, recorded: Recorder
) -> None:
    run, config = prepared(tmp_path / "run", trials=4, loggers=["tensorboard"])
    with Logbook(run, config) as book:
        study = Study(run, config, book.told)
        conducting = Conductor(
            study,
            run,
            config,
            1,
            4,
            Objectives(KeptScores(run, config.ranking), config, []),
            Progress(config.trials),
        )
        work = conducting.next("a")
        assert work is not None
        make_all(run, work)
        conducting.ended("a")
        stored = sum(trial.state != "INTERRUPTED" for trial in read_trials(run))
        assert len(Marker(run.logged("tensorboard")).ended) <= stored == 0
        study.flush()
        book.finish()
    assert recorded.logged == [0]


def test_a_driver_that_finds_a_finished_sweep_logs_what_is_missing(
    told: tuple[RunDirectory, SweepConfig], recorded: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    run, config = told
    added = config.model_copy(update={"loggers": ("mlflow",)})
    result = drive(run, added, workers=1, import_path=[])
    assert result.complete
    assert recorded.logged == list(range(config.trials))
    assert not caplog.messages


def test_a_missing_package_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", loggers=["wandb", "mlflow"], trials=2)
    require_loggers(config, "sweep.yaml")
    monkeypatch.setattr(logbook, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        require_loggers(config, "sweep.yaml")
    assert "sweep.yaml:\n  loggers: wandb needs" in str(caught.value)
    assert "pip install 'tracerank[mlflow]'" in str(caught.value)
    path = run.configuration
    for arguments in (
        ["validate", path],
        ["run", path, "--out", tmp_path / "x"],
        ["resume", run.path],
    ):
        result = CliRunner().invoke(main, [str(each) for each in arguments])
        assert result.exit_code == 2
        assert f"{path}:\n  loggers: wandb needs" in result.stderr
    assert not (tmp_path / "x").exists()
    # A stored sweep is ranked anywhere.
    work_off(run, config)
    assert CliRunner().invoke(main, ["report", str(run.path)]).exit_code == 0


def test_a_folder_that_wandb_left_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "left_by_a_run").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not logbook._installed("left_by_a_run")
    assert logbook._installed("wandb")


def test_a_torn_marker_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "logged" / "mlflow.txt"
    first = Marker(path)
    first.begin(12)
    first.end(12)
    first.begin(13)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        again = Marker(path)
        assert again.ended <= {12}
        assert again.begun in (None, 12, 13)
        assert Marker(path).sweep == again.sweep
