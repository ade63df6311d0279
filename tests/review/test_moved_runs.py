"""Run directories where neither the data, nor the checkpoints, nor what trains are there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
import tiny_checkpoints
from inprocess import conductor, prepared, work_off
from reviewing import server

from sweeps.live import Live
from sweeps.results import report_run
from sweeps.run_directory import RunDirectory

WITHOUT = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "tokenizers", "safetensors", "ray"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from sweeps.cli import main
main()
"""


def table(path: Path, count: int = 200) -> Path:
    rows = [
        f"{'good' if i % 2 else 'bad'} film {i},{'yes' if i % 2 else 'no'}" for i in range(count)
    ]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def trained(folder: Path, run: Path, **changes: Any) -> RunDirectory:
    """A sweep of a tiny checkpoint on a table of texts; its last trial is under way."""
    table(folder / "reviews.csv", **changes)
    tiny_checkpoints.bert(folder / "tiny")
    made, config = prepared(
        run,
        task={"text_classification": {"file": str(folder / "reviews.csv")}},
        budget={"epochs": 4, "batch_size": 8},
        trials=3,
        replicates=1,
        space={
            "architecture": {
                "pretrained": {"checkpoint": str(folder / "tiny"), "max_length": [8, 16, 32]}
            },
            "learning_rate": 0.1,
            "alpha": 0.5,
        },
        sampler={"name": "grid"},
    )
    work_off(made, config, at_most=2)
    going = conductor(made, config)
    going.adopt()
    assert going.next("a") is not None
    going.study.flush()
    report_run(made)
    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: two of the same files at different places, one of others; the files are gone."""
    folder = tmp_path_factory.mktemp("moved")
    for run, changes in (("one", {}), ("same", {}), ("other", {"count": 240})):
        files = folder / f"files of {run}"
        files.mkdir()
        trained(files, folder / "runs" / run, **changes)
        shutil.rmtree(files)
    return folder / "runs"


def command(runs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs ``tracerank`` where none of what trains can be imported."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT, *words],
        cwd=runs,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_report_is_made_again(runs: Path) -> None:
    before = json.loads((runs / "one" / "report" / "ranking.json").read_text())
    shutil.rmtree(runs / "one" / "report")
    done = command(runs, "report", "one", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads((runs / "one" / "report" / "ranking.json").read_text()) == before
    assert before["models"]
    assert len(before["models"]) + len(before["excluded"]) == 3
    page = (runs / "one" / "report" / "index.html").read_text()
    assert "text_classification of reviews.csv" in page


def test_a_model_is_chosen(runs: Path) -> None:
    ranked = json.loads((runs / "one" / "report" / "ranking.json").read_text())["models"]
    choice = ("--model", ranked[0]["model_id"], "--reviewer", "r", "--reason", "the first")
    done = command(runs, "decide", "one", *choice)
    assert (done.returncode, done.stdout.strip()) == (0, ranked[0]["model_id"]), done.stderr
    assert command(runs, "decide", "one", "--check").returncode == 0


def test_runs_are_listed(runs: Path) -> None:
    done = command(runs.parent, "list", "runs", "--json")
    assert done.returncode == 0, done.stderr
    assert [row["complete"] for row in json.loads(done.stdout)] == [2, 2, 2]


def test_a_run_is_reviewed(runs: Path) -> None:
    run = RunDirectory(runs / "one")
    run.live.mkdir(exist_ok=True)
    live = Live(2, ["0123456789ab"], [0], 1, 24, 1.0, [[]], 0.0)
    (run.live / "0123456789ab.json").write_text(json.dumps(asdict(live)))
    with (
        run.driving(),
        server(runs) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        listed = {each["run"]: each for each in client.get("/api/runs").json()}
        assert listed["one"]["task"] == "text_classification of reviews.csv"
        assert listed["one"]["note"] == ""
        assert client.get("/runs/same/").status_code == 200
        (going,) = client.get("/api/runs/one/live").json()["under_way"]
        model = client.get("/api/runs/same/ranking").json()["models"][0]["model_id"]
        assert client.get(f"/api/runs/same/models/{model}").json()["configuration"]
    assert len(going["model_id"]) == 12
    assert going["architecture"].startswith("pretrained ")
    assert going["settings"]["max_length"] in (8, 16, 32)


def test_a_model_that_is_not_told_has_no_id(runs: Path) -> None:
    """Of a driver of an earlier version, say, which noted nothing of a trial under way."""
    from sweeps.review.watched import Watched
    from sweeps.selection.study import DETAILS

    run = RunDirectory(shutil.copytree(runs / "one", runs.parent / "unnoted"))
    text = re.sub(r',"checksum":"[0-9a-f]{16}"', "", run.journal.read_text())
    lines = text.splitlines(keepends=True)
    noted = [place for place, line in enumerate(lines) if DETAILS in line]
    del lines[noted[-1]]
    run.journal.write_text("".join(lines))
    run.live.mkdir(exist_ok=True)
    live = Live(2, ["0123456789ab"], [0], 1, 24, 1.0, [[]], 0.0)
    (run.live / "0123456789ab.json").write_text(json.dumps(asdict(live)))
    watched = Watched(run)
    with run.driving():
        (going,) = json.loads(watched.live().body)["under_way"]
    watched.close()
    assert (going["model_id"], going["architecture"]) == ("", "pretrained")
    assert len(report_run(run).models) == 2


def test_tasks_are_told_apart_by_their_content(runs: Path) -> None:
    with server(runs) as address, httpx.Client(base_url=address, timeout=60) as client:

        def compared(other: str) -> Any:
            return client.get("/api/compare", params={"a": "one", "b": other}).json()

        same, other = compared("same"), compared("other")
    assert same["obstacles"] == []
    assert same["shared_count"] == same["figures"][1]["a"] > 0
    assert "its files or settings" in other["obstacles"][0]
    assert other["shared_count"] == 0
