"""Decisions: recorded one after another, tied to the ranking they were made from."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sweeps import decisions
from sweeps.cli import main
from sweeps.run_directory import RunDirectory

RANKING: dict[str, Any] = {
    "schema": 1,
    "alpha": 0.5,
    "alpha_source": "fixed",
    "reading": "calibrated",
    "models": [
        {"rank": 1, "rank_low": 1, "rank_high": 2, "model_id": "aaaa1111", "traceability": 0.8},
        {"rank": 2, "rank_low": 1, "rank_high": 2, "model_id": "bbbb2222", "traceability": 0.7},
    ],
    "excluded": [{"model_id": "cccc3333", "reason": "it diverged"}],
    "warnings": ["few replicates"],
}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.report.mkdir(parents=True)
    directory.configuration.write_text("name: run\n")
    report(directory, RANKING)
    return directory


def report(run: RunDirectory, ranking: dict[str, Any]) -> None:
    (run.report / "ranking.json").write_text(json.dumps(ranking))


def decide(run: RunDirectory, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["decide", str(run.path), *arguments])


def chosen(model: str, reason: str = "steady, and good enough") -> list[str]:
    return ["--model", model, "--reviewer", "Ada", "--reason", reason]


def test_several_decisions_follow_each_other(run: RunDirectory) -> None:
    first = decide(run, *chosen("aaaa1111"))
    assert (first.exit_code, first.stdout) == (0, "aaaa1111\n")
    second = decide(run, *chosen("bbbb2222", "the first one is too large"), "--json")
    assert json.loads(second.stdout)["stands"] is True
    stored = json.loads((run.path / "decision.json").read_text())
    assert [each["model_id"] for each in stored["decisions"]] == ["aaaa1111", "bbbb2222"]
    made = decisions.decisions(run)[0]
    assert (made.reviewer, made.reason, made.alpha) == ("Ada", "steady, and good enough", 0.5)
    assert made.time.endswith("+00:00")


def test_a_check_fails_once_the_ranking_changed(run: RunDirectory) -> None:
    decide(run, *chosen("aaaa1111"))
    assert decide(run, "--check").exit_code == 0
    report(run, RANKING | {"warnings": ["in other words"]})
    assert decide(run, "--check").exit_code == 0
    models = [RANKING["models"][0] | {"traceability": 0.8000001}, RANKING["models"][1]]
    for change in ({"models": models}, {"alpha": 0.6}, {"excluded": []}):
        report(run, RANKING | change)
        found = decide(run, "--check")
        assert found.exit_code == 1
        assert "the ranking changed since Ada chose aaaa1111" in found.stderr
        assert json.loads(decide(run, "--check", "--json").stdout)["stands"] is False
    report(run, RANKING)
    assert decide(run, "--check").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (chosen("cccc3333"), 2, "model cccc3333 is not ranked: it diverged"),
        (chosen("aaaa1112"), 2, "Did you mean aaaa1111?"),
        (chosen("aaaa1111", "  "), 2, "reason: is empty"),
        (chosen("aaaa1111", "x" * 10_001), 2, "10,001 characters"),
        (["--model", "aaaa1111"], 2, "needs --reviewer, --reason too"),
        (["--check", "--model", "aaaa1111"], 2, "--check takes no decision"),
        (["--check"], 4, "nothing is decided yet"),
    ],
)
def test_what_can_not_be_recorded_is_said(
    run: RunDirectory, arguments: list[str], code: int, message: str
) -> None:
    found = decide(run, *arguments)
    assert found.exit_code == code
    assert message in found.stderr
    assert not run.decisions.exists()


def test_without_a_ranking_there_is_nothing_to_decide(run: RunDirectory, tmp_path: Path) -> None:
    (run.report / "ranking.json").unlink()
    found = decide(run, *chosen("aaaa1111"))
    assert found.exit_code == 4
    assert "there is no ranking yet" in found.stderr
    assert decide(RunDirectory(tmp_path / "nowhere"), "--check").exit_code == 4


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2, "decisions": []}', "\x00"])
def test_a_damaged_file_is_named_and_left_as_it_is(run: RunDirectory, text: str) -> None:
    run.decisions.write_text(text)
    for arguments in (chosen("aaaa1111"), ["--check"]):
        found = decide(run, *arguments)
        assert found.exit_code == 2
        assert f"{run.decisions}: damaged" in found.stderr
    assert run.decisions.read_text() == text
    run.decisions.unlink()
    (run.report / "ranking.json").write_text(text)
    found = decide(run, *chosen("aaaa1111"))
    assert found.exit_code == 2
    assert "ranking.json: damaged" in found.stderr


@pytest.mark.parametrize(
    "change", [{"models": 5}, {"models": [{}]}, {"alpha": "x"}, {"excluded": [{"reason": "?"}]}]
)
def test_a_ranking_of_another_shape_is_damaged(run: RunDirectory, change: dict[str, Any]) -> None:
    report(run, RANKING | change)
    found = decide(run, *chosen("aaaa1111"))
    assert found.exit_code == 2
    assert "ranking.json: damaged" in found.stderr


def test_decisions_of_another_shape_are_damaged(run: RunDirectory) -> None:
    decide(run, *chosen("aaaa1111"))
    stored = json.loads(run.decisions.read_text())
    stored["decisions"][0]["reviewer"] = None
    run.decisions.write_text(json.dumps(stored))
    assert "damaged" in decide(run, "--check").stderr
    run.decisions.unlink()
    run.decisions.mkdir()
    assert decide(run, "--check").exit_code == 2


def test_reviewers_at_the_same_time_lose_none(run: RunDirectory) -> None:
    code = (
        "import sys; from sweeps import decisions; from sweeps.run_directory import RunDirectory\n"
        "run = RunDirectory(sys.argv[1])\n"
        "for n in range(10): decisions.decide(run, 'aaaa1111', sys.argv[2], f'reason {n}')"
    )

    def review(name: str) -> int:
        return subprocess.run([sys.executable, "-c", code, str(run.path), name]).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(review, "ABCD")) == [0] * 4
    made = decisions.decisions(run)
    for name in "ABCD":
        mine = [each.reason for each in made if each.reviewer == name]
        assert mine == [f"reason {n}" for n in range(10)]
