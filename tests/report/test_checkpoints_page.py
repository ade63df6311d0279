"""The page of a series of saved checkpoints, in a reader's browser and without one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import Opened, needs_browser
from click.testing import CliRunner, Result
from playwright.sync_api import Page
from safetensors.torch import save_file
from torch import Tensor

from sweeps.cli import main
from sweeps.report import checkpoints

AXE = Path(checkpoints.__file__).parent / "page" / "node_modules" / "axe-core" / "axe.min.js"
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">'\"&{{ 7*7 }}\u202e\x1b[31m"
SHOWN = HOSTILE.replace("\u202e", "?").replace("\x1b", "?")
NAMES = ("embed.weight", "layers.0.a.weight", "layers.0.b.bias", "layers.1.a.weight")


def walked(names: Sequence[str], count: int = 10) -> list[dict[str, Tensor]]:
    """States in which each tensor moves more than the one before it."""
    generator = torch.Generator().manual_seed(0)
    now = {name: torch.randn(30, generator=generator) for name in names}
    found = []
    for _ in range(count):
        found.append(now)
        now = {
            name: tensor + 1e-2 * (1 + i) * torch.randn(30, generator=generator)
            for i, (name, tensor) in enumerate(now.items())
        }
    return found


def saved(folder: Path, states: Sequence[dict[str, Tensor]], steps: Sequence[int]) -> Path:
    """As a Trainer leaves them, each with a buffer, and with whole numbers in some."""
    for state, step in zip(states, steps, strict=True):
        place = folder / f"checkpoint-{step}"
        place.mkdir(parents=True)
        others = {"norm.running_mean": torch.zeros(3)}
        if step % 20 == 0:
            others["positions"] = torch.arange(4)
        save_file(state | others, place / "model.safetensors")
        log = [{"step": at, "learning_rate": 1e-3 / (1 + at)} for at in range(step + 1)]
        state_file = {"global_step": step, "log_history": log}
        (place / "trainer_state.json").write_text(json.dumps(state_file))
    return folder


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["score", *map(str, words)])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The page of an ordinary series."""
    folder = saved(tmp_path / "run", walked(NAMES), range(0, 100, 10))
    done = run(folder, "--html", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'page.html'}\n"
    return tmp_path / "page.html"


def told(page: Path) -> str:
    """Its words, without tags."""
    body = page.read_text().partition("<main>")[2].partition("</main>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


# ---- what is written


def test_nothing_is_overwritten(written: Path, tmp_path: Path) -> None:
    before = written.read_bytes()
    done = run(tmp_path / "run", "--html", written)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "page.html: there is something already; name another file with --html" in done.stderr
    assert written.read_bytes() == before
    done = run(tmp_path / "run", "--html", tmp_path / "x", "--out", tmp_path / "x")
    assert done.exit_code == 2
    assert "name two files" in done.stderr


def test_with_the_trace_and_as_json(tmp_path: Path) -> None:
    folder = saved(tmp_path / "run", walked(NAMES, 3), (10, 20, 30))
    files = ("--html", tmp_path / "page.html", "--out", tmp_path / "kept.npz")
    answered = json.loads(run(folder, *files, "--json").stdout)
    assert answered["page"] == str(tmp_path / "page.html")
    assert answered["trace"] == str(tmp_path / "kept.npz")
    assert "Steadiness needs eight intervals in which something moved." in told(
        tmp_path / "page.html"
    )


def test_what_the_page_says_by_itself(written: Path, tmp_path: Path) -> None:
    words = told(written)
    figures = json.loads(run(tmp_path / "run", "--json").stdout)
    assert "From checkpoint-0 to checkpoint-90, layers.1 moved most for its size" in words
    assert f"Directness {figures['stability']['directness']:.3f}" in words
    assert f"Steadiness {figures['stability']['steadiness']:.3f}" in words
    assert "10 checkpoints of 120 parameters, in 4 tensors; 2 tensors left out." in words
    assert "Before you rely" not in words
    assert "the sum of the learning rates of the interval" in words
    assert "norm.running_mean A buffer, which isn&#39;t learned all" in words
    assert "positions Of type int64 5" in words
    figure = re.compile(r'<data value="([^"]+)"')
    rows = re.findall(
        r'<tr><th scope="row">(checkpoint-\d+)</th><td>(.*?)</tr>', written.read_text()
    )
    assert [name for name, _ in rows] == [f"checkpoint-{step}" for step in range(0, 100, 10)]
    for (_, row), each in zip(rows, figures["intervals"], strict=False):
        rate, *values = map(float, figure.findall(row))
        assert rate == each["learning_rate"]
        kinds = ("rms", "global_l1", "tensor_l1", "symmetric", "elementwise")
        parts = ("gini", "hoyer", "effective_sparsity", "top_mass")
        assert values == [
            *(each["change_rate"][kind] for kind in kinds),
            *(each["explainability"][kind] for kind in parts),
        ]
    assert float(figure.findall(rows[-1][1])[0]) == figures["end"]["explainability"]["gini"]


def test_a_series_that_diverged_and_one_that_stood_still(tmp_path: Path) -> None:
    states = walked(NAMES, 3)
    states[1] = {name: torch.full((30,), float("nan")) for name in NAMES}
    folder = saved(tmp_path / "run", states, (10, 20, 30))
    assert run(folder, "--html", tmp_path / "bad.html").exit_code == 0
    assert "Checkpoint-20 isn&#39;t finite." in told(tmp_path / "bad.html")
    folder = saved(tmp_path / "still", [walked(NAMES, 1)[0]] * 2, (10, 20))
    assert run(folder, "--html", tmp_path / "still.html").exit_code == 0
    assert "From checkpoint-10 to checkpoint-20 nothing moved" in told(tmp_path / "still.html")


def test_a_model_of_many_layers_is_drawn_by_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "MOST_ROWS", 2)
    folder = saved(tmp_path / "run", walked(NAMES, 3), (10, 20, 30))
    assert run(folder, "--html", tmp_path / "page.html").exit_code == 0
    assert "so its blocks are drawn, the 2 that moved most." in told(tmp_path / "page.html")


# ---- in a browser


def opened(visit: Callable[..., Opened], path: Path, **options: Any) -> Page:
    shown = visit(path, **options)
    page = shown.alive()
    shown.assert_quiet()
    return page


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_draws_itself_and_asks_for_nothing(
    visit: Callable[..., Opened], written: Path, scheme: str, width: int
) -> None:
    page = opened(visit, written, width=width, color_scheme=scheme)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    titles = page.locator("#curves svg.chart > title").all_text_contents()
    assert titles == [
        "Change rate of an interval (rms)",
        "Concentration of |θ| (Gini)",
        "Learning rate, mean",
    ]
    # Nine intervals and ten checkpoints; four layers.
    assert page.locator("#curves svg.chart").nth(0).locator("circle").count() == 9
    assert page.locator("#curves svg.chart").nth(1).locator("circle").count() == 10
    for place, columns in enumerate((9, 10)):
        cells = page.locator("#maps svg.chart").nth(place).locator(".shade")
        assert cells.count() == 4 * columns
    said = page.locator("#maps .shade title").first.text_content() or ""
    assert said.startswith("embed, checkpoint-0 to checkpoint-10: 0.")
    page.locator("#maps .exports button").first.wait_for()
    assert page.locator("section .exports").count() == 3 + 2 + 5


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("steps", "axis"), [((1, 2, 4, 1000), "step, evenly"), ((10, 20), "step")])
def test_steps_far_apart_and_one_interval_alone(
    visit: Callable[..., Opened], tmp_path: Path, steps: tuple[int, ...], axis: str
) -> None:
    folder = saved(tmp_path / "run", walked(NAMES, len(steps)), steps)
    assert run(folder, "--html", tmp_path / "page.html").exit_code == 0
    page = opened(visit, tmp_path / "page.html")
    texts = page.locator("#curves svg.chart").first.locator("text").all_text_contents()
    assert axis in texts
    assert axis == "step" or {"1", "2", "4", "1000"} <= set(texts)
    assert page.locator("#curves svg.chart").first.locator("circle").count() == len(steps) - 1


@pytest.mark.slow
@needs_browser
def test_hostile_names_are_text(visit: Callable[..., Opened], tmp_path: Path) -> None:
    for step, state in enumerate(walked((f"{HOSTILE}.weight", "b.weight"), 3)):
        place = tmp_path / f"{HOSTILE.replace('/', '')}step-{step}.pt"
        torch.save(state | {f"{HOSTILE}.count": torch.tensor(3)}, place)
    done = run(tmp_path, "--html", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    page = opened(visit, tmp_path / "page.html")
    assert page.title() != "owned"
    assert page.locator("script").count() == 2
    assert page.locator("img, [style], [onerror]").count() == 0
    left = page.locator("[aria-label='Tensors left out'] th[scope=row]").inner_text()
    assert left == f"{SHOWN}.count"
    # A block ends at the name's first dot.
    assert SHOWN.partition(".")[0] in page.locator("[aria-label='Blocks']").inner_text()
    assert SHOWN in (page.locator("#maps svg.chart text > title").all_text_contents())
    assert "step-0.pt" in page.locator("[aria-label=Intervals]").inner_text()


@pytest.mark.slow
@needs_browser
@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: make page-tools")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(
    visit: Callable[..., Opened], written: Path, scheme: str, width: int
) -> None:
    page = opened(visit, written, width=width, color_scheme=scheme)
    page.evaluate(f"{AXE.read_text()};0")
    found = page.evaluate("axe.run(document)")
    assert len(found["passes"]) > 15
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
