"""The review server's pages in a real browser."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from browsing import needs_browser
from inprocess import conductor, prepared
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import Error as PlaywrightError
from reviewing import HOSTILE, server

import sweeps.report
from sweeps.decisions import stands
from sweeps.live import Live
from sweeps.run_directory import RunDirectory

pytestmark = needs_browser

PAGE = Path(sweeps.report.__file__).parent / "page"
AXE = PAGE / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[[str], Page]]:
    contexts, complaints = [], []

    def opened(path: str, at: str = address, width: int = 1280) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{at}{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    # That a decision was refused is an answer, of which the browser complains by itself.
    assert [each for each in complaints if "409 (Conflict)" not in each] == []


def eventually(page: Page, question: str, seconds: float = 20) -> Any:
    """What the page answers, once that is true; the content policy forbids waiting in the page."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        # A page that is loaded anew answers nothing meanwhile.
        with contextlib.suppress(PlaywrightError):
            if answer := page.evaluate(question):
                return answer
        time.sleep(0.05)
    raise AssertionError(question)


def test_runs_are_found_as_one_types(open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    rows = page.locator("#list tbody tr")
    expect(rows).to_have_count(4)
    page.get_by_role("searchbox").fill("another")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("second")
    page.get_by_role("searchbox").fill("")
    expect(rows).to_have_count(4)


def test_names_are_text_and_lead_to_their_runs(open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    for _ in range(2):
        page.get_by_role("link", name=HOSTILE, exact=True).click()
        expect(page.locator("#verdict")).to_be_visible()
        page.go_back()
        # The second time the list is drawn by the script.
        page.get_by_role("searchbox").fill("ünïcode")
        expect(page.locator("#list tbody tr")).to_have_count(1)


def test_two_runs_are_chosen_and_compared(open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    compare = page.get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    page.get_by_role("checkbox", name="Compare first").check()
    page.get_by_role("checkbox", name="Compare second").check()
    compare.click()
    expect(page.locator("#verdict")).to_contain_text("first model")
    expect(page.locator("#differences + div")).to_contain_text("sampler seed")


def test_a_decision_is_made_from_the_page(open_page: Callable[..., Page], folder: Path) -> None:
    page = open_page("/runs/second/")
    expect(page.get_by_role("heading", name="Decision")).to_be_visible()
    page.locator("#table tbody button").nth(1).click()
    page.get_by_role("button", name="Decide for this one").click()
    chosen = page.locator("#decide-model").input_value()
    page.get_by_label("Who decides").fill("Ada <i>")
    page.get_by_role("textbox", name="Why").fill("</script> steady")
    page.get_by_role("button", name="Record the decision").click()
    expect(page.locator(".decided")).to_contain_text("Ada <i>")
    expect(page.locator(".decided")).to_contain_text("</script> steady")
    made, still = stands(RunDirectory(folder / "second"))
    assert (made.model_id, made.reviewer, still) == (chosen, "Ada <i>", True)
    ranking = json.loads((folder / "second" / "report" / "ranking.json").read_text())
    assert chosen in [row["model_id"] for row in ranking["models"]]


def test_a_decision_from_a_ranking_that_changed_is_refused(
    open_page: Callable[..., Page], folder: Path
) -> None:
    page = open_page("/runs/first/")
    expect(page.get_by_role("heading", name="Decision")).to_be_visible()
    path = folder / "first" / "report" / "ranking.json"
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | {"alpha": 0.25}))
    try:
        page.get_by_label("Who decides").fill("Ada")
        page.get_by_role("textbox", name="Why").fill("steady")
        page.get_by_role("button", name="Record the decision").click()
        expect(page.get_by_text("reported anew since this page was opened")).to_be_visible()
    finally:
        path.write_text(kept)
    assert not (folder / "first" / "decision.json").exists()


def test_from_disk_nothing_of_the_server_is_there(browser: Browser, folder: Path) -> None:
    page = browser.new_page()
    page.goto((folder / "first" / "report" / "index.html").as_uri())
    eventually(page, "window.page !== undefined")
    assert page.locator(".review-only").count() == 0
    page.close()


def test_a_model_outside_the_leading_ones_is_asked_for(
    open_page: Callable[..., Page], folder: Path
) -> None:
    page = open_page("/runs/first/")
    eventually(page, "window.page !== undefined")
    page.evaluate("window.page.data.details = {}")
    page.locator("#table tbody button").first.click()
    expect(page.locator("dialog figure").first).to_be_visible()
    expect(page.locator("dialog")).to_contain_text("What moved most")


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core (make page-tools)")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["/", "/runs/first/", "/compare?a=first&b=second", "/login"])
def test_the_pages_are_accessible(browser: Browser, address: str, path: str, width: int) -> None:
    # The checker is put in from outside, which the pages' policy forbids to anyone else.
    context = browser.new_context(viewport={"width": width, "height": 844}, bypass_csp=True)
    page = context.new_page()
    page.goto(f"{address}{path}")
    page.wait_for_load_state("networkidle")
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    context.close()
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
    assert wide <= 0


@pytest.mark.parametrize("again", [False, True])
def test_what_is_focused_stays_so_while_a_training_goes_on(
    open_page: Callable[..., Page], folder: Path, tmp_path: Path, again: bool
) -> None:
    """By itself, and when a dialog that it opened is closed after some renewals."""
    run, config = prepared(folder / "going")
    conducting = conductor(run, config)
    assert conducting.next("a") is not None
    conducting.study.flush()
    training = "0123456789ab"
    trace = next((folder / "first" / "traces").glob("*.npz"))
    run.live.mkdir()
    shutil.copy(trace, run.live / f"{training}.npz")

    def tell(step: int) -> None:
        path = tmp_path / "told"
        live = Live(0, [training], [0], step, 24, 1.0, [[]], time.time())
        path.write_text(json.dumps(asdict(live)))
        path.replace(run.live / f"{training}.json")

    try:
        with run.driving():
            tell(1)
            page = open_page("/runs/going/")
            button = page.get_by_role("button", name="See it in depth")
            button.focus()
            if again:
                page.keyboard.press("Enter")
                expect(page.locator("dialog")).to_contain_text("Layer by layer")
            for step in (2, 3):
                tell(step)
                eventually(page, f"document.querySelector('article progress').value === {step}")
            if again:
                page.keyboard.press("Escape")
            expect(button).to_be_focused()
            page.close()
    finally:
        run.path.rename(tmp_path / "gone")


SLOW = """
name: going
task: digits
budget: {epochs: 160, batch_size: 32}
replicates: 2
trials: 3
workers: 2
space:
  architecture: {mlp: {hidden: 64, depth: 3}}
  init: [default, orthogonal, xavier_uniform]
  learning_rate: 0.02
sampler: {name: grid}
"""


@pytest.mark.slow
def test_a_sweep_that_goes_on_is_followed_to_its_end(browser: Browser, tmp_path: Path) -> None:
    """Steps of the trainings and their curves are seen to grow within 3 s, trials come into the
    ranking without a hand, and at the end the page is the report's.
    """
    runs = tmp_path / "runs"
    runs.mkdir()
    (tmp_path / "sweep.yaml").write_text(SLOW)
    command = "from sweeps.cli import main; main()"
    sweep = [sys.executable, "-c", command, "run", str(tmp_path / "sweep.yaml")]
    with (
        server(runs) as address,
        subprocess.Popen(
            [*sweep, "--out", str(runs / "going")], stderr=subprocess.DEVNULL
        ) as process,
    ):
        page = browser.new_page()
        page.goto(f"{address}/")
        expect(page.get_by_role("link", name="going")).to_be_visible(timeout=30_000)
        page.goto(f"{address}/runs/going/")
        step = "document.querySelector('article progress')?.value"
        before = eventually(page, step, 120)
        # Within 3 s where the machine isn't busy: benchmarks/polling.py measures it.
        eventually(page, f"{step} !== {before}", 15)
        eventually(page, "document.querySelectorAll('article svg').length >= 3", 20)
        page.get_by_role("button", name="See it in depth").first.click()
        expect(page.locator("dialog")).to_contain_text("Layer by layer")
        page.keyboard.press("Escape")
        eventually(page, "window.page?.data.models.model_id.length >= 1", 120)
        eventually(page, "window.page?.data.models.model_id.length >= 2", 120)
        assert process.wait(120) == 0
        expect(page.get_by_role("heading", name="Decision")).to_be_visible(timeout=30_000)
        assert page.locator(".under-way").count() == 0
        reported = json.loads((runs / "going" / "report" / "ranking.json").read_text())
        shown = page.evaluate("window.page.data.models.model_id")
        assert shown == [row["model_id"] for row in reported["models"]]
        page.close()
