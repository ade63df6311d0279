"""Run directories that come from others, or are damaged: each says what is wrong with it, and hides
none beside it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from inprocess import prepared, work_off
from reviewing import finished

from sweeps.review.runs import Runs
from sweeps.run_directory import RunDirectory

DEEP = "[" * 100_000
DECIDED = {"alpha": 0.5, "reviewer": "Ada", "reason": "so", "time": "now", "ranking": "0"}


@pytest.fixture
def odd(folder: Path) -> Iterator[RunDirectory]:
    """A copy of a finished run directory, to be damaged."""
    path = folder / "odd"
    shutil.copytree(folder / "first", path)
    yield RunDirectory(path)
    shutil.rmtree(path)


def ranking(run: RunDirectory, **changes: Any) -> None:
    path = run.report / "ranking.json"
    told = json.loads(path.read_text())
    told["models"][0] |= changes.pop("leader", {})
    path.write_text(json.dumps(told | changes))


def decided(run: RunDirectory, **changes: Any) -> None:
    each = {"model_id": "a"} | DECIDED | changes
    run.decisions.write_text(json.dumps({"schema": 1, "decisions": [each]}))


def journal(run: RunDirectory, text: str) -> None:
    # As one without checksums, of an earlier version, whose content isn't doubted.
    run.journal.write_text(re.sub(r',"checksum":"[0-9a-f]{16}"', "", text))
    # The report counts the trials as long as it is the newer.
    os.utime(run.report / "ranking.json", (0, 0))


def lock(run: RunDirectory) -> None:
    (run.path / "driver.lock").unlink(missing_ok=True)
    (run.path / "driver.lock").mkdir()


DAMAGES: dict[str, Callable[[RunDirectory], Any]] = {
    "a deep ranking": lambda run: (run.report / "ranking.json").write_text(DEEP),
    "a huge α": lambda run: ranking(run, alpha=10**400),
    "an infinite score": lambda run: ranking(run, leader={"traceability": float("inf")}),
    "an infinite rank": lambda run: ranking(run, leader={"rank_high": float("inf")}),
    "half a pair in the ranking": lambda run: ranking(run, leader={"architecture": "\ud800"}),
    "a deep configuration": lambda run: run.configuration.write_text("[" * 2000),
    "half a pair in a name": lambda run: run.configuration.write_text('name: "\\uD800"\n'),
    "a name that is not one": lambda run: run.configuration.write_text("name: &a [*a]\n"),
    "deep decisions": lambda run: run.decisions.write_text(DEEP),
    "half a pair in a decision": lambda run: decided(run, reviewer="\ud800"),
    "a huge α decided": lambda run: decided(run, alpha=10**400),
    "a lock that is a folder": lock,
    "a deep journal": lambda run: journal(run, DEEP + "\n"),
    "a journal of other records": lambda run: journal(run, '{"op_code": 99, "worker_id": "x"}\n'),
    "a file of the year 11476": lambda run: os.utime(run.configuration, (3e11, 3e11)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_whatever_a_run_directory_holds_it_hides_no_other(
    client: httpx.Client, odd: RunDirectory, damage: Callable[[RunDirectory], Any]
) -> None:
    damage(odd)

    def never(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    listed = client.get("/api/runs")
    assert listed.status_code == 200
    assert {"first", "odd"} <= {
        each["run"] for each in json.loads(listed.text, parse_constant=never)
    }
    assert client.get("/").status_code == 200
    assert client.get("/api/runs/odd").status_code == 200
    for path in ("/live", "/ranking", "/decisions"):
        answer = client.get(f"/api/runs/odd{path}")
        assert answer.status_code in (200, 500)
        assert "the server failed" not in answer.text
        json.loads(answer.text, parse_constant=never)


def test_damage_is_no_fault_of_who_asks(client: httpx.Client, odd: RunDirectory) -> None:
    decided(odd, alpha="0.5")
    answer = client.get("/api/runs/odd/decisions")
    assert answer.status_code == 500
    assert "decision.json: damaged" in answer.json()["detail"]


def test_what_the_server_fails_at_is_told_as_json(client: httpx.Client, odd: RunDirectory) -> None:
    text = odd.journal.read_text().replace('"model":', '"modell":')
    journal(odd, text.replace('"worker_id":"', '"worker_id":"another '))
    answer = client.get("/api/runs/odd/models/a")
    assert answer.status_code == 500
    assert "KeyError" in answer.json()["detail"]


def test_no_link_leads_out_of_a_run_directory(
    client: httpx.Client, odd: RunDirectory, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the one who serves")
    path = odd.report / "ranking.csv"
    path.unlink()
    answer = client.get("/runs/odd/ranking.csv")
    assert answer.status_code == 404
    assert "there is no ranking.csv" in answer.text
    path.symlink_to(secret)
    answer = client.get("/runs/odd/ranking.csv")
    assert answer.status_code == 500
    assert "ranking.csv: is a link" in answer.text
    assert client.get("/runs/first/ranking.csv").status_code == 200


def test_a_sweep_in_the_place_of_another_is_not_taken_for_it(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    finished(tmp_path / "run", trials=4)
    assert json.loads(runs.watched("run").live().body)["counts"]["complete"] == 4
    shutil.rmtree(tmp_path / "run")
    run, config = prepared(tmp_path / "run", trials=2)
    work_off(run, config)
    assert json.loads(runs.watched("run").live().body)["counts"]["complete"] == 2


def test_a_run_that_goes_while_it_is_listed_is_left_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "first", tmp_path / "first")
    runs = Runs(tmp_path)
    monkeypatch.setattr(runs, "names", lambda: ["first", "gone"])
    assert [each.run for each in runs.summaries()] == ["first"]


def test_a_list_looks_at_each_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (tmp_path / f"r{number}").mkdir()
        (tmp_path / f"r{number}" / "sweep.yaml").write_text("name: a\n")
    runs = Runs(tmp_path)
    looked = []
    names = runs.names
    monkeypatch.setattr(runs, "names", lambda: looked.append(1) or names())
    assert len(runs.summaries()) == 5
    assert len(looked) == 1


@pytest.mark.parametrize("name", ["..", ".", "", "a/../first", ".hidden", "a\0b", "x" * 300])
def test_no_name_leads_out_of_the_folder(folder: Path, name: str) -> None:
    with pytest.raises(LookupError, match="there is no run"):
        Runs(folder / "..").watched(name)


def test_a_run_whose_name_is_no_text_is_shown(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"n\xff")
    shutil.copytree(folder / "first", path)
    (summary,) = Runs(path).summaries()
    assert summary.run == "n\\udcff"
    assert summary.state == "complete"


def test_decisions_made_at_once_are_all_kept(client: httpx.Client, odd: RunDirectory) -> None:
    told = client.get("/api/runs/odd/ranking").json()
    choice = {"model_id": told["models"][0]["model_id"], "ranking": told["fingerprint"]}
    answers = []

    def decide(number: int) -> None:
        given = choice | {"reviewer": f"r{number}", "reason": "so"}
        answers.append(client.post("/api/runs/odd/decisions", json=given).status_code)

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 20
    found = client.get("/api/runs/odd/decisions").json()["decisions"]
    assert {each["reviewer"] for each in found} == {f"r{number}" for number in range(20)}


def _piped(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _linked(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


ODD_ENTRIES: dict[str, Callable[[RunDirectory], Any]] = {
    "a pipe for a journal": lambda run: _piped(run.journal),
    "a pipe for a ranking": lambda run: _piped(run.report / "ranking.json"),
    "a pipe for a page": lambda run: _piped(run.report / "index.html"),
    "a pipe for a lock": lambda run: _piped(run.path / "driver.lock"),
    "a pipe among what is live": lambda run: [run.live.mkdir(), _piped(run.live / "a.json")],
    "a device for a journal": lambda run: _linked(run.journal, "/dev/zero"),
    "a device for a trace": lambda run: _linked(run.trace("a"), "/dev/zero"),
    "decisions of elsewhere": lambda run: _linked(run.decisions, "/etc/passwd"),
    "an environment of elsewhere": lambda run: _linked(run.environment, "/proc/self/environ"),
}


@pytest.mark.parametrize("put", ODD_ENTRIES.values(), ids=ODD_ENTRIES.keys())
def test_what_is_no_file_of_a_run_directory_is_never_opened(
    client: httpx.Client, odd: RunDirectory, put: Callable[[RunDirectory], Any]
) -> None:
    assert client.get("/api/runs/odd").json()["state"] == "complete"
    put(odd)
    found = {each["run"]: each for each in client.get("/api/runs", timeout=10).json()}
    assert found["odd"]["state"] == "unreadable"
    assert "link" in found["odd"]["note"] or "neither a file nor a folder" in found["odd"]["note"]
    assert found["first"]["state"] == "complete"
    for path in ("/live", "/ranking", "/decisions", "/models/a"):
        answer = client.get(f"/api/runs/odd{path}", timeout=10)
        assert answer.status_code == 500
        assert answer.json()["detail"] == found["odd"]["note"]
    assert client.get("/runs/odd/", timeout=10).status_code == 500
    assert client.get("/runs/first/", timeout=10).status_code == 200


def test_a_configuration_that_is_no_file_is_no_run(client: httpx.Client, odd: RunDirectory) -> None:
    _piped(odd.configuration)
    assert "odd" not in {each["run"] for each in client.get("/api/runs", timeout=10).json()}
    assert client.get("/api/runs/odd", timeout=10).status_code == 404
