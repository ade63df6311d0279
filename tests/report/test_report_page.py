"""The page as a reader's browser shows it: real Chromium, nothing but the file."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from browsing import Opened, needs_browser
from made_up import make_ranking, make_sweep
from playwright.sync_api import Page

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">'\"&{{ 7*7 }}"
PLAIN = {"java_script_enabled": False}
"""For what the page says by itself, to a reader that runs no scripts."""

pytestmark = [pytest.mark.slow, needs_browser]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_it_asks_the_network_for_nothing_and_never_scrolls_sideways(
    show: Callable[..., Opened], scheme: str, width: int
) -> None:
    opened = show(make_sweep(), width=width, color_scheme=scheme)
    opened.assert_quiet()
    scrolled, seen = opened.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert scrolled <= seen
    # Two of the charts that were drawn are live ones now.
    assert opened.alive().locator("svg.chart:visible:not([aria-hidden])").count() == 3
    assert opened.page.locator(".layers canvas").count() == 1


_SHEET = rb"MediaBox \[0 0 ([\d. ]+)\]"
A4 = 688
"""Pixels between the margins of an upright sheet."""


def printed(show: Callable[..., Opened], **options: Any) -> Page:
    """A page as it is on paper."""
    page = show(make_sweep(), width=A4, **options).alive()
    page.emulate_media(media="print", color_scheme=options.get("color_scheme"))
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    return page


def cut(page: Page) -> list[list[Any]]:
    """What reaches beyond the sheet, or beyond the frame it is in."""
    found: list[list[Any]] = page.evaluate(
        """() => [...document.querySelectorAll('body *')]
            .filter(e => e.checkVisibility() && !(e instanceof SVGElement && e.ownerSVGElement))
            .filter(e => !e.closest('caption'))
            .map(e => [e.tagName, e.className, e.getBoundingClientRect().right])
            .filter(([, , right]) => right > document.documentElement.clientWidth + 1)"""
    )
    return found


@pytest.mark.parametrize("scripts", [True, False])
def test_it_prints_without_cutting_anything(show: Callable[..., Opened], scripts: bool) -> None:
    if scripts:
        page = printed(show)
    else:
        page = show(make_sweep(), width=A4, **PLAIN).page
        page.emulate_media(media="print")
    assert cut(page) == []
    widths = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map(e => [e.scrollWidth, e.clientWidth])"
    )
    assert all(scrolled <= seen + 1 for scrolled, seen in widths)
    assert len(page.pdf(prefer_css_page_size=True)) > 10_000


def test_paper_has_no_controls_and_drawings_made_for_it(show: Callable[..., Opened]) -> None:
    page = printed(show)
    assert page.locator("button:visible:not(.open), input:visible, select:visible").count() == 0
    assert page.locator("canvas:visible, dialog:visible, nav:visible").count() == 0
    assert page.locator("#scatter svg:visible").count() == 1
    assert page.locator("#parallel svg:visible").count() == 1
    assert page.locator("thead th", has_text="Traceability").first.is_visible()
    assert "α = 0.5; reading calibrated" in page.locator(".controls").inner_text()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator(".on-paper svg").count() == 0
    assert page.locator(".live thead button").count() > 5
    width = page.evaluate("[page.scatter.drawn.box.width, page.scatter.frame.clientWidth]")
    assert width[0] == width[1]


def test_who_reads_in_the_dark_prints_on_white(show: Callable[..., Opened]) -> None:
    page = printed(show, color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(_CONTRAST) == []


def test_many_columns_print_on_sheets_that_lie(show: Callable[..., Opened]) -> None:
    page = printed(show)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    every = "page.table.columns.length"
    for box in page.locator(".check input").all():
        box.evaluate("box => box.checked || box.click()")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate(every) > 20
    # As wide as a sheet that lies, between its margins.
    page.set_viewport_size({"width": 1047, "height": 700})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert cut(page) == []
    pdf = page.pdf(prefer_css_page_size=True)
    sheets = {tuple(map(float, box.split())) for box in re.findall(_SHEET, pdf)}
    assert {width > height for width, height in sheets} == {True, False}


def test_a_model_that_is_open_is_printed_alone(show: Callable[..., Opened]) -> None:
    page = show(make_sweep(), width=A4).alive()
    page.locator(".live .open").first.click()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("main:visible, header:visible, footer:visible").count() == 0
    assert cut(page) == []
    dialog = page.locator("#model")
    assert dialog.evaluate("e => e.scrollHeight <= e.clientHeight + 1")
    assert dialog.locator("svg.chart:visible").count() == 6
    assert dialog.get_by_role("button", name="Close").count() == 0


def test_hostile_names_are_text(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    models = sweep.models
    models["architecture"] = HOSTILE
    models["init"] = f"{HOSTILE}2"
    for settings in models["settings"]:
        settings[HOSTILE] = HOSTILE + str(settings["learning_rate"])
    excluded = tuple(replace(each, reason=HOSTILE) for each in sweep.ranking.excluded)
    sweep.ranking = make_ranking(models, sweep.replicates, sweep.metric, excluded)
    sweep.ranking = replace(sweep.ranking, warnings=(HOSTILE,), alpha_note=HOSTILE)
    sweep.config |= {"name": HOSTILE, "task": HOSTILE, HOSTILE: HOSTILE}
    sweep.environment = {HOSTILE: HOSTILE}
    sweep.commands = {HOSTILE: HOSTILE}
    for failure in sweep.failures:
        failure |= {"reason": HOSTILE, "log_tail": HOSTILE}
    opened = show(sweep)
    page = opened.alive()
    page.locator(".open").first.click()
    opened.assert_quiet()
    assert page.title() == f"{HOSTILE}: traceability ranking"
    assert page.locator("script").count() == 3
    assert page.locator("img, [style]:not(.space), [onerror]").count() == 0
    assert page.locator(".ranking tbody .architecture").first.inner_text() == HOSTILE
    assert HOSTILE in page.locator("#model h2").inner_text()
    assert HOSTILE in page.locator("#model .facts").last.inner_text()
    assert page.locator("main .command").inner_text() == HOSTILE
    assert page.locator(".warnings li").inner_text() == HOSTILE
    assert page.locator("#scatter text.name").count() == 5


def test_the_table_shows_what_ranking_json_says(show: Callable[..., Opened]) -> None:
    opened = show(make_sweep(), **PLAIN)
    written = json.loads((opened.path.parent / "ranking.json").read_text())
    rows = opened.page.locator(".ranking tbody tr").evaluate_all(
        """rows => rows.map(row => ({
            rank: row.querySelector('.rank').innerText,
            range: row.querySelector('.range span').innerText,
            id: row.querySelector('.id').innerText,
            figures: [...row.querySelectorAll('data')].map(each => Number(each.value)),
        }))"""
    )
    order = ["traceability", "stability", "explainability", "p_first", "share_first"]
    order += ["metric", "metric_best", "metric_test", "change_rate", "article_score"]
    assert len(rows) == len(written["models"])
    for row, model in zip(rows, written["models"], strict=True):
        assert row["figures"] == [model[name] for name in order]
        assert (row["id"], row["rank"]) == (model["model_id"], str(model["rank"]))
        bounds = {str(model["rank_low"]), str(model["rank_high"])}
        assert set(re.findall(r"\d+", row["range"])) == bounds


def test_missing_figures_are_a_dash(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    frame = sweep.ranking.frame.copy()
    frame[["metric_test", "p_first", "share_first"]] = float("nan")
    sweep.ranking = replace(sweep.ranking, frame=frame, leaders=())
    opened = show(sweep, **PLAIN)
    first = opened.page.locator(".ranking tbody tr").first
    assert first.locator(".missing").all_inner_texts() == ["–"] * 3
    text = opened.page.locator("body").inner_text()
    assert not re.search(r"\b(nan|None|undefined|inf)\b", text)


_CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a] = rgba(getComputedStyle(e).backgroundColor);
      if (a === 255) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility() || element.closest('title, desc')) continue;
    const style = getComputedStyle(element);
    const drawn = element instanceof SVGElement;
    const disc = drawn && element.closest('.badge, .span')?.querySelector('circle, rect');
    const front = light(rgba(drawn ? style.fill : style.color));
    const back = light(disc ? rgba(getComputedStyle(disc).fill) : ground(element));
    const ratio = (Math.max(front, back) + .05) / (Math.min(front, back) + .05);
    if (ratio < 4.5) poor.push([element.textContent.slice(0, 30), ratio.toFixed(2)]);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(show: Callable[..., Opened], scheme: str) -> None:
    opened = show(make_sweep(), color_scheme=scheme)
    assert opened.page.evaluate(_CONTRAST) == []


def test_it_can_be_read_without_seeing_it(show: Callable[..., Opened]) -> None:
    page = show(make_sweep()).page
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.locator("th:not([scope])").count() == 0
    for chart in page.locator("svg.chart:not([aria-hidden])").all():
        assert chart.get_attribute("role") == "img"
        assert chart.locator("> title").text_content()
        assert chart.locator("> desc").text_content()
    ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))
    links = page.locator("a[href^='#']").evaluate_all("all => all.map(e => e.hash.slice(1))")
    assert set(links) <= set(ids)


def test_a_thousand_models(show: Callable[..., Opened]) -> None:
    sweep = make_sweep(1000)
    opened = show(sweep, width=1280)
    opened.assert_quiet()
    page = opened.alive()
    # Only the rows in sight are there, and as many are told of.
    assert page.locator(".ranking tbody tr").count() < 60
    assert page.locator(".ranking").get_attribute("aria-rowcount") == str(
        len(sweep.ranking.frame) + 1
    )
    assert page.locator("#scatter text.name").count() <= 8
    assert page.evaluate("page.scatter.drawn.marks.length") == len(sweep.ranking.frame)
    assert "is drawn" not in page.locator("#quality ~ figure").inner_text()
    box = page.locator(".scroll.tall").first.bounding_box()
    assert box is not None
    assert box["height"] < 800
    assert opened.path.stat().st_size < 4_000_000


def test_an_ordinary_page_is_small(show: Callable[..., Opened]) -> None:
    assert show(make_sweep()).path.stat().st_size < 400_000
