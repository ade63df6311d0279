"""Sweeps from Python: what a notebook or a script sees."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from inprocess import prepared, small, work_off

import sweeps
from sweeps.config import load_config
from sweeps.results import rank_run
from sweeps.run_directory import RunDirectory

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run, config = prepared(tmp_path_factory.mktemp("finished") / "run", trials=8)
    work_off(run, config)
    return run


def test_a_sweep_is_what_its_run_directory_holds(finished: RunDirectory) -> None:
    sweep = sweeps.load(finished.path)
    results = rank_run(finished)
    assert (sweep.path, sweep.state, sweep.complete) == (finished.path, "complete", True)
    assert sweep.config == results.config
    pd.testing.assert_frame_equal(sweep.trials, results.ledger)
    pd.testing.assert_frame_equal(sweep.ranking, results.ranking.frame)
    assert list(sweep.excluded["model_id"]) == [each.model_id for each in results.ranking.excluded]
    best = sweep.ranking.iloc[0]
    traces = sweep.traces(best["model_id"])
    stability = sum(trace.stability() for trace in traces) / len(traces)
    assert len(traces) == sweep.config.replicates
    assert stability == pytest.approx(best["stability"], rel=1e-12)
    training = sweep.trials["trainings"][0].split(",")[0]
    assert len(sweep.trace(training)) == len(traces[0])


def test_the_report_at_another_alpha(finished: RunDirectory) -> None:
    sweep = sweeps.load(str(finished.path))
    page = sweep.report(0.2)
    assert page == finished.report / "index.html"
    table = pd.read_parquet(finished.report / "ranking.parquet")
    wanted = 0.2 * table["stability"] + 0.8 * table["explainability"]
    assert table["traceability"].tolist() == pytest.approx(wanted.tolist())
    assert sweep.results(0.2).ranking.alpha == 0.2
    assert sweep.results().ranking.alpha == 0.5
    with pytest.raises(ValueError, match=r"alpha"):
        sweep.report(2.0)


def test_what_a_notebook_shows(finished: RunDirectory) -> None:
    sweep = sweeps.load(finished.path)
    assert repr(sweep) == f"<Sweep {finished.path}: complete, 8 of 8 trials>"
    shown = sweep._repr_html_()
    for model_id in sweep.ranking["model_id"]:
        assert model_id in shown
    assert "accuracy" in shown
    assert shown.count("<tr") == len(sweep.ranking) + 1


def test_what_a_notebook_shows_is_escaped(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    run, config = prepared(tmp_path / name, trials=2)
    work_off(run, config)
    sweep = sweeps.load(run.path)
    kept = sweep.results()
    kept.ranking.frame["architecture"] = "<script>alert(1)</script>"
    shown = sweep._repr_html_()
    assert name not in shown
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "&lt;img" in shown


def test_a_sweep_under_way_is_read_anew_each_time(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=6)
    sweep = sweeps.load(run.path)
    assert (sweep.state, len(sweep.trials)) == ("interrupted", 0)
    assert "holds no trial" in sweep._repr_html_()
    conducting = work_off(run, config, at_most=2)
    assert conducting.next("under way") is not None
    with run.driving():
        assert (sweep.state, sweep.complete) == ("running", False)
    assert sweep.state == "interrupted"
    before = len(sweep.ranking) + len(sweep.excluded)
    assert set(sweep.trials["state"]) == {"COMPLETE", "INTERRUPTED"}
    work_off(run, config)
    assert sweep.complete
    assert len(sweep.ranking) + len(sweep.excluded) > before


def test_a_sweep_is_read_without_the_modules_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "from_elsewhere.py").write_text(
        "from torch import nn\n"
        "def build(shape):\n"
        "    return nn.Linear(*shape.input_shape, shape.outputs)\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    changes = {"space": {"architecture": "from_elsewhere:build", "learning_rate": 0.1}}
    run, config = prepared(tmp_path / "run", **changes)
    sys.path.remove(str(tmp_path))
    monkeypatch.delitem(sys.modules, "from_elsewhere")
    assert sweeps.load(run.path).config == config
    assert "from_elsewhere" not in sys.modules
    # Who goes on with it finds them in the current folder.
    with pytest.raises(sweeps.ConfigError, match="cannot import module from_elsewhere"):
        load_config(run.configuration)
    monkeypatch.chdir(tmp_path)
    run.add_import_path()
    assert load_config(run.configuration) == config


def test_what_is_not_there_is_said(finished: RunDirectory, tmp_path: Path) -> None:
    sweep = sweeps.load(finished.path)
    model = sweep.ranking["model_id"][0]
    with pytest.raises(sweeps.RunDirectoryError, match=f"Did you mean {model}"):
        sweep.traces(model[:-1])
    with pytest.raises(sweeps.RunDirectoryError, match="no trace of training 'x'"):
        sweep.trace("x")
    with pytest.raises(FileNotFoundError, match="no such run directory"):
        sweeps.load(tmp_path / "nowhere")
    with pytest.raises(sweeps.RunDirectoryError, match="not a run directory"):
        sweeps.load(tmp_path)
    run, _ = prepared(tmp_path / "run")
    gone = sweeps.load(run.path)
    run.configuration.unlink()
    assert "there is no such file" in repr(gone)
    assert "there is no such file" in gone._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": small(trails=3)}, "Did you mean trials"),
        ({"config": {}}, "name: missing"),
        ({"config": 3}, "got 3; must be a mapping"),
        ({"config": "nowhere.yaml"}, "nowhere.yaml: there is no such file"),
        ({"config": small(), "trials": 0}, "trials: got 0; must be an integer of at least 1"),
        ({"config": small(), "seed": -1}, "sampler.seed: got -1"),
        ({"config": small(sampler="tpe"), "seed": 1}, "sampler: got 'tpe'; must be a mapping"),
        ({"config": small(), "workers": 0}, "workers: got 0; must be an integer of at least 1"),
        ({"config": small(), "workers": "2"}, "workers: got '2'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(sweeps.ConfigError) as caught:
        sweeps.run(**arguments, out=tmp_path / "run")
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="something here already"):
        sweeps.run(small(), out=ROOT)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(sweeps.RunDirectoryError, match="Not a directory"):
        sweeps.run(small(), out=file / "run")
    with pytest.raises(ConnectionError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        sweeps.run(small(), out=tmp_path / "run", ray_address="127.0.0.1:1")
    with pytest.raises(ConnectionError, match="nonsense"):
        sweeps.run(small(), out=tmp_path / "run", ray_address="nonsense")
    assert list(tmp_path.iterdir()) == [file]


def test_resume_refuses_a_cut_and_a_driven_directory(finished: RunDirectory) -> None:
    with pytest.raises(sweeps.ConfigError, match="can be extended, not cut"):
        sweeps.resume(finished.path, trials=3)
    with (
        finished.driving(),
        pytest.raises(sweeps.RunDirectoryError, match="another sweep is running"),
    ):
        sweeps.resume(finished.path, progress=False)


@pytest.fixture
def no_ray() -> Iterator[None]:
    import ray

    assert not ray.is_initialized()
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("no_ray")
def test_two_sweeps_in_one_process_in_a_thread_and_on_a_ray_of_ones_own(tmp_path: Path) -> None:
    import ray

    space = small()["space"] | {"learning_rate": {"float": [0.1, 1.0]}}
    config = sweeps.SweepConfig.from_dict(small(trials=3, replicates=1, space=space))
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    made: list[sweeps.Sweep] = []

    def make() -> None:
        out = tmp_path / str(len(made))
        made.append(sweeps.run(config, out=out, workers=2, seed=3, progress=False))

    make()
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert not ray.is_initialized()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    ray.init(address="local", num_cpus=1, include_dashboard=False)
    with pytest.raises(ConnectionError, match=r"ray.init already"):
        sweeps.run(config, out=tmp_path / "2", ray_address="auto")
    make()
    assert ray.is_initialized()
    assert [sweep.state for sweep in made] == ["complete"] * 3
    tables = [sweep.trials[["parameters", "value_stability", "metric"]] for sweep in made]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])
    assert (made[0].path / "report" / "index.html").exists()
    longer = sweeps.resume(made[2], trials=4, progress=False)
    assert len(longer.trials) == longer.config.trials == 4


INTERRUPTED = """
import sweeps, sys, threading, os, signal, time
path = sys.argv[2]
def when_some_are_done():
    while True:
        time.sleep(0.05)
        try:
            if (sweeps.load(path).trials["state"] == "COMPLETE").sum() >= 3:
                return os.kill(os.getpid(), signal.SIGINT)
        except (OSError, ValueError, KeyError):
            pass
threading.Thread(target=when_some_are_done, daemon=True).start()
try:
    sweeps.run(sys.argv[1], out=path, workers=1, progress=False)
except KeyboardInterrupt as stop:
    print(stop.sweep.state, (stop.sweep.trials["state"] == "COMPLETE").sum(), stop)
"""


@pytest.mark.slow
def test_an_interrupted_sweep_is_raised_whole(tmp_path: Path) -> None:
    config = tmp_path / "sweep.yaml"
    space = small()["space"] | {"learning_rate": {"float": [0.1, 1.0]}}
    config.write_text(yaml.safe_dump(small(trials=300, space=space)))
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(config), str(out)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert not done.stderr
    state, complete, message = done.stdout.split(maxsplit=2)
    assert (state, int(complete) >= 3) == ("interrupted", True)
    assert message.startswith(f"interrupted after {complete} of 300 trials")
    assert f"tracerank resume {out}" in message
