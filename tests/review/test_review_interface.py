"""The review server's interface, asked over a real socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from inprocess import prepared
from reviewing import HOSTILE, finished

from sweeps.report import served
from sweeps.run_directory import RunDirectory
from sweeps.selection import Study


def decision(client: httpx.Client, run: str, **changes: Any) -> httpx.Response:
    ranking = client.get(f"/api/runs/{run}/ranking").json()
    choice = {
        "model_id": ranking["models"][0]["model_id"],
        "reviewer": "Ada",
        "reason": "steady",
        "ranking": ranking["fingerprint"],
    }
    return client.post(f"/api/runs/{run}/decisions", json=choice | changes)


def test_every_run_is_listed_with_what_came_of_it(client: httpx.Client) -> None:
    found = {each["run"]: each for each in client.get("/api/runs").json()}
    assert set(found) == {"first", "second", "damaged", HOSTILE}
    first = found["first"]
    assert (first["state"], first["done"], first["trials"]) == ("complete", 6, 6)
    ranking = client.get("/api/runs/first/ranking").json()
    assert first["leader"]["model_id"] == ranking["models"][0]["model_id"]
    assert first["ranked"] == len(ranking["models"])
    assert client.get("/api/runs/first").json() == first


def test_a_run_that_cannot_be_read_says_why_and_hides_no_other(client: httpx.Client) -> None:
    damaged = client.get("/api/runs/damaged").json()
    assert damaged["state"] == "unreadable"
    assert "study.journal" in damaged["note"]
    answer = client.get("/api/runs/damaged/live")
    assert answer.status_code == 500
    assert "study.journal" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("another", {"second"}),
        ("ANOTHER wine", {"second"}),
        ("another digits", set()),
        ("unreadable", {"damaged"}),
        ("<b>", {HOSTILE}),
    ],
)
def test_runs_are_found_by_words(client: httpx.Client, words: str, expected: set[str]) -> None:
    found = client.get("/api/runs", params={"find": words}).json()
    assert {each["run"] for each in found} == expected


def test_what_the_asker_has_is_not_sent_again(client: httpx.Client) -> None:
    for path in ("/api/runs", "/api/runs/first/live"):
        answer = client.get(path)
        again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = client.get(path, headers={"If-None-Match": '"another"'})
        assert other.content == answer.content


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/nothing",
        "/api/runs/not%20a%20run",
        "/api/runs/..%2Ffirst",
        "/api/runs/%2e%2e",
        "/api/runs/first/models/nothing",
        "/api/runs/first/%2e%2e/first",
        "/runs/first/study.journal",
        "/runs/first/..%2Fsweep.yaml",
        "/assets/app.py",
        "/api/compare?a=first&b=nothing",
    ],
)
def test_what_is_not_there_is_not_found(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Traceback" not in answer.text


def test_a_model_is_told_in_depth_as_the_page_has_it(client: httpx.Client) -> None:
    model = client.get("/api/runs/first/ranking").json()["models"][0]["model_id"]
    found = client.get(f"/api/runs/first/models/{model}").json()
    assert found["change_rate"]["steps"]
    assert found["layers"]["names"]
    assert "architecture" in found["configuration"]


def test_decisions_follow_each_other_and_know_if_they_stand(
    client: httpx.Client, folder: Path
) -> None:
    assert client.get("/api/runs/second/decisions").json() == {"decisions": [], "stands": None}
    assert decision(client, "second").status_code == 201
    assert decision(client, "second", reason="after all").status_code == 201
    told = client.get("/api/runs/second/decisions").json()
    assert [each["reason"] for each in told["decisions"]] == ["steady", "after all"]
    assert told["stands"] is True
    assert client.get("/api/runs", params={"find": "ada"}).json()[0]["run"] == "second"
    path = folder / "second" / "report" / "ranking.json"
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | {"alpha": 0.25}))
    assert client.get("/api/runs/second/decisions").json()["stands"] is False
    path.write_text(kept)


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"ranking": "0" * 64}, 409, "reported anew"),
        ({"model_id": "nothing"}, 422, "not in the ranking"),
        ({"reason": "  "}, 422, "empty"),
        ({"reviewer": "x" * 10_001}, 422, "10000"),
        ({"reason": None}, 422, "reason"),
        ({"ranking": "short"}, 422, "ranking"),
    ],
)
def test_a_decision_that_cannot_be_made_says_why(
    client: httpx.Client, folder: Path, changes: dict[str, Any], status: int, word: str
) -> None:
    answer = decision(client, "first", **changes)
    assert answer.status_code == status
    assert word in answer.json()["detail"]
    assert not (folder / "first" / "decision.json").exists()


def test_half_a_surrogate_pair_is_no_reason(client: httpx.Client, folder: Path) -> None:
    ranking = client.get("/api/runs/first/ranking").json()
    body = json.dumps(
        {
            "model_id": ranking["models"][0]["model_id"],
            "reviewer": "Ada",
            "reason": "?",
            "ranking": ranking["fingerprint"],
        }
    ).replace("?", "\\ud800")
    headers = {"Content-Type": "application/json"}
    answer = client.post("/api/runs/first/decisions", content=body, headers=headers)
    assert answer.status_code == 422
    assert not (folder / "first" / "decision.json").exists()


def test_two_sweeps_are_compared(client: httpx.Client) -> None:
    found = client.get("/api/compare", params={"a": "first", "b": "second"}).json()
    assert found["obstacles"] == []
    assert {"key": "sampler seed", "a": "0", "b": "1"} in found["differences"]
    assert found["difference"]["low"] <= found["difference"]["mean"] <= found["difference"]["high"]
    other = client.get("/api/compare", params={"a": "first", "b": HOSTILE}).json()
    assert other["difference"] is None
    assert "batch" in other["obstacles"][0]


def test_models_that_both_sweeps_have_score_the_same(client: httpx.Client) -> None:
    found = client.get("/api/compare", params={"a": "first", "b": "second"}).json()
    ids = [
        {each["model_id"] for each in client.get(f"/api/runs/{run}/ranking").json()["models"]}
        for run in ("first", "second")
    ]
    assert {each["a"]["model_id"] for each in found["shared"]} == ids[0] & ids[1] != set()
    for each in found["shared"]:
        assert each["a"]["traceability"] == each["b"]["traceability"]


def test_a_sweep_compared_with_itself_does_not_differ(client: httpx.Client) -> None:
    found = client.get("/api/compare", params={"a": "first", "b": "first"}).json()
    assert found["differences"] == []
    assert found["difference"]["mean"] == 0


def test_a_page_of_a_run_has_the_data_and_may_ask_this_server_alone(client: httpx.Client) -> None:
    answer = client.get(f"/runs/{quote(HOSTILE, safe='')}/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert f'content="/api/runs/{quote(HOSTILE, safe="")}"' in answer.text


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ('"use strict";', "alert(1);"),
        ("<head>\n", '<meta name="tracerank-review" content="/api/runs/second">'),
        ("<title>", '<b></b><meta http-equiv="refresh" content="0;url=//evil.example">'),
        ("<body>\n", '<META http-equiv="refresh" content="0;url=//evil.example">'),
    ],
)
def test_a_page_that_was_changed_is_made_anew(
    client: httpx.Client, folder: Path, before: str, change: str
) -> None:
    path = folder / "first" / "report" / "index.html"
    kept = path.read_text()
    assert before in kept
    assert served(kept, "/api/runs/first") is not None
    path.write_text(kept.replace(before, before + change, 1))
    try:
        answer = client.get("/runs/first/")
        assert answer.status_code == 200
        assert change not in answer.text
    finally:
        path.write_text(kept)


def test_an_interrupted_sweep_without_a_report_is_shown_too(
    client: httpx.Client, folder: Path
) -> None:
    run, config = prepared(folder / "interrupted")
    study = Study(run, config)
    study.ask()
    study.flush()
    try:
        summary = client.get("/api/runs/interrupted").json()
        assert (summary["state"], summary["done"], summary["leader"]) == ("interrupted", 0, None)
        page = client.get("/runs/interrupted/")
        assert page.status_code == 200
        assert "There is nothing to rank" in page.text
        assert client.get("/api/runs/interrupted/ranking").status_code == 404
    finally:
        run.path.rename(folder.parent / "interrupted")


def test_a_run_that_appears_or_goes_is_noticed(client: httpx.Client, folder: Path) -> None:
    assert client.get("/api/runs/late").status_code == 404
    finished(folder / "late", trials=1)
    assert client.get("/api/runs/late").status_code == 200
    assert client.get("/runs/late/").status_code == 200
    (folder / "late").rename(folder.parent / "gone")
    assert client.get("/api/runs/late").status_code == 404


def test_the_folder_may_be_a_run_itself(folder: Path) -> None:
    from sweeps.review.runs import Runs

    runs = Runs(folder / "first")
    assert runs.names() == ["first"]
    assert runs.watched("first").run.path == (folder / "first").resolve()
    assert isinstance(runs.watched("first").run, RunDirectory)
