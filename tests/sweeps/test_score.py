"""``tracerank score`` on real files: its answer, its words, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from sweeps.cli import main
from trace_core import CHANGE_RATES, EXPLAINABILITIES, STABILITIES, Trace
from trace_core.concentration import exact


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten checkpoints of a model with a wide layer and a narrow one that moves more."""
    torch.manual_seed(0)
    wide, narrow = torch.randn(80, 70), torch.randn(3, 4)
    made = tmp_path / "trained"
    for step in range(0, 100, 10):
        (made / f"checkpoint-{step}").mkdir(parents=True)
        state = {"body.0.weight": wide.clone(), "head.weight": narrow.clone()}
        save_file(state, made / f"checkpoint-{step}" / "model.safetensors")
        wide += 1e-3 * torch.randn(80, 70)
        narrow += 1e-1 * torch.randn(3, 4)
    return made


def score(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["score", *map(str, words)])


def test_for_programs(folder: Path, tmp_path: Path) -> None:
    done = score(folder, "--json", "--out", tmp_path / "kept.npz")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    intervals, trace = told["intervals"], Trace.load(tmp_path / "kept.npz")
    assert told["trace"] == str(tmp_path / "kept.npz")
    assert [(each["from_step"], each["to_step"]) for each in intervals] == [
        (step, step + 10) for step in range(0, 90, 10)
    ]
    assert (intervals[0]["from"], intervals[0]["to"]) == ("checkpoint-0", "checkpoint-10")
    assert set(told["stability"]) == set(STABILITIES)
    assert told["stability"]["directness"] == trace.stability("directness")
    assert 0 < told["stability"]["steadiness"] <= 1
    for i, each in enumerate(intervals):
        assert set(each["change_rate"]) == set(CHANGE_RATES)
        assert set(each["explainability"]) == set(EXPLAINABILITIES)
        assert set(each["tensors"]) == {"body.0.weight", "head.weight"}
        assert set(each["blocks"]) == {"body.0", "head"}
        for kind, rate in each["change_rate"].items():
            assert rate == trace.change_rate(kind)[i]
        of_head = trace.block("head")
        assert each["blocks"]["head"]["change_rate"]["rms"] == of_head.change_rate("rms")[i]
        assert each["blocks"]["head"]["explainability"]["gini"] == of_head.explainability("gini")[i]
    assert told["top_movers"][0]["tensor"] == "head.weight"
    assert (told["importance"], told["parameters"]) == ("magnitude", 5612)


def test_for_people(folder: Path) -> None:
    done = score(*sorted(folder.iterdir(), reverse=True))
    assert done.exit_code == 0, done.output
    assert not done.stdout
    assert "note: taken in the order of their steps" in done.stderr
    assert "10 checkpoints of 5,612 parameters, in 2 tensors" in done.stderr
    lines = [line.split() for line in done.stderr.splitlines()]
    assert [line[:2] for line in lines if line and line[0] == "checkpoint-80"] == [
        ["checkpoint-80", "checkpoint-90"]
    ]
    blocks = [line[0] for line in lines if line and line[0] in ("head", "body.0")]
    assert blocks == ["head", "body.0"]
    assert "steadiness needs" not in done.stderr


def test_few_intervals_have_no_steadiness(folder: Path) -> None:
    few = sorted(folder.iterdir())[:3]
    done = score(*few, "--json")
    assert json.loads(done.stdout)["stability"]["steadiness"] is None
    assert "steadiness needs eight intervals in which" in done.stderr
    kept = score(*few, "--out", folder / "kept.npz")
    assert kept.stdout == f"{folder / 'kept.npz'}\n"


def test_a_diverged_checkpoint_is_named_and_the_rest_told(folder: Path, tmp_path: Path) -> None:
    bad = {"body.0.weight": torch.full((80, 70), float("nan")), "head.weight": torch.zeros(3, 4)}
    save_file(bad, folder / "checkpoint-90" / "model.safetensors")
    done = score(folder, "--json", "--out", tmp_path / "kept.npz")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(name))
    assert told["stability"]["directness"] is None
    assert told["intervals"][-1]["change_rate"]["rms"] is None
    assert told["intervals"][-2]["change_rate"]["rms"] > 0
    assert "note: checkpoint-90 isn't finite" in done.stderr
    assert len(Trace.load(tmp_path / "kept.npz")) == 9


def test_the_last_checkpoint_and_what_was_left_out_are_told(folder: Path, tmp_path: Path) -> None:
    for step in (80, 90):
        file = folder / f"checkpoint-{step}" / "model.safetensors"
        state = load_file(file) | {"positions": torch.arange(3)}
        save_file(state, file)
    done = score(folder, "--json")
    told = json.loads(done.stdout)
    state = load_file(folder / "checkpoint-90" / "model.safetensors")
    end = told["end"]
    assert (end["checkpoint"], end["step"]) == ("checkpoint-90", 90)
    assert set(end["explainability"]) == set(EXPLAINABILITIES)
    gini = exact(state["head.weight"].double().abs().numpy().ravel())[0]
    for part in (end["blocks"]["head"], end["tensors"]["head.weight"]):
        assert part["explainability"]["gini"] == pytest.approx(gini)
    assert told["left_out"] == [
        {"tensor": "positions", "reason": "of type int64", "checkpoints": 2}
    ]
    assert "in 2 tensors; 1 more are left out" in done.stderr
    last = [line.split() for line in done.stderr.splitlines() if "(the last)" in line]
    assert last == [["checkpoint-90", "(the", "last)", f"{end['explainability']['gini']:.4g}"]]


def test_what_began_as_nothing_has_no_path_that_json_holds(tmp_path: Path) -> None:
    for step, value in enumerate((0.0, 0.0, 5e-324)):
        state = {
            "a.weight": torch.full((4,), value, dtype=torch.float64),
            "b.weight": torch.ones(4),
        }
        save_file(state, tmp_path / f"step-{step}.safetensors")
    done = score(tmp_path, "--json")
    json.loads(done.stdout, parse_constant=lambda name: pytest.fail(name))
    state = {"a.weight": torch.ones(4), "b.weight": torch.ones(4)}
    save_file(state, tmp_path / "step-2.safetensors")
    done = score(tmp_path, "--json")
    json.loads(done.stdout, parse_constant=lambda name: pytest.fail(name))
    rows = [line.split() for line in done.stderr.splitlines() if line.startswith(("a ", "b "))]
    assert [row[:3] for row in rows] == [["a", "4", "∞"], ["b", "4", "0"]]


def test_names_say_nothing_to_the_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07\x1b[31mlayer\u202e\n.weight"
    for step in range(2):
        save_file({name: torch.randn(3)}, tmp_path / f"\x1b[2Jstep-{step}.safetensors")
    done = score(tmp_path)
    assert done.exit_code == 0, done.output
    save_file({"other": torch.zeros(3)}, tmp_path / "\x1b[2Jstep-1.safetensors")
    failed = score(tmp_path)
    assert failed.exit_code == 2
    for said in (done.stderr, failed.stderr):
        assert not {"\x1b", "\x07", "\u202e"} & set(said)
    assert "?]0;owned??[31mlayer? " in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["trained/checkpoint-0", "none"], 4, "none: there is no such file or folder"),
        (["trained/checkpoint-0"], 2, "is one checkpoint; a series needs two"),
        (["trained/checkpoint-0", "trained"], 2, "trained: holds no checkpoint; expected one of"),
        (["trained/checkpoint-0", "other.pt"], 2, "other.pt: is no whole file of torch.save"),
        ([], 2, "Missing argument"),
    ],
)
def test_bad_input_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("other.pt").write_text("no pickle")
    done = score(*words)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
