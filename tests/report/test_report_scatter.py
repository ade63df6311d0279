"""The scatter where scripts run: it follows α, the kinds and what is found, and can be worked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Opened, needs_browser
from made_up import make_sweep
from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, needs_browser]


def settled(page: Page) -> None:
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def marks(page: Page, which: str = "marks") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate(
        f"page.scatter.drawn.{which}.map(m => ({{...m, id: m.model === undefined"
        " ? page.data.scatter.excluded.model_id[m.excluded] : page.data.models.model_id[m.model]}))"
    )
    return found


def test_marks_stand_where_their_figures_say_at_any_alpha_and_of_any_kind(
    show: Callable[..., Opened],
) -> None:
    sweep = make_sweep()
    page = show(sweep).alive()
    page.evaluate(
        "page.view.change({alpha: 0.8, stability: 'directness', explainability: 'hoyer'})"
    )
    settled(page)
    means = sweep.replicates.groupby("model_id").mean(numeric_only=True)
    means["score"] = 0.8 * means["stability.directness"] + 0.2 * means["explainability.hoyer"]
    ranked, hollow = marks(page), marks(page, "hollow")
    assert {each["id"] for each in ranked} == set(sweep.ranking.frame["model_id"])
    complete = set(sweep.models.loc[sweep.models["state"] == "COMPLETE", "model_id"])
    assert {each["id"] for each in hollow} == complete - set(sweep.ranking.frame["model_id"])
    for each in [*ranked, *hollow]:
        assert each["score"] == pytest.approx(means.loc[each["id"], "score"], rel=1e-5)
        assert each["metric"] == pytest.approx(means.loc[each["id"], "metric"], rel=1e-5)
    order = np.argsort([each["score"] for each in ranked])
    assert (np.diff(np.array([each["x"] for each in ranked])[order]) > 0).all()
    higher = np.argsort([each["metric"] for each in ranked])
    assert (np.diff(np.array([each["y"] for each in ranked])[higher]) < 0).all()
    for each in ranked:
        if each["key"]:
            seeds = sweep.replicates[sweep.replicates["model_id"] == each["id"]]
            scores = 0.8 * seeds["stability.directness"] + 0.2 * seeds["explainability.hoyer"]
            ends = [scores.min(), scores.max()]
            assert each["whiskers"]["score"] == pytest.approx(ends, rel=1e-5)
    assert page.locator("#scatter .whiskers").count() == sum(bool(m["key"]) for m in ranked)


def test_a_metric_that_is_minimised_runs_downwards(show: Callable[..., Opened]) -> None:
    page = show(make_sweep(minimised=True)).alive()
    ranked = marks(page)
    best = min(ranked, key=lambda each: each["metric"])
    assert best["y"] == min(each["y"] for each in ranked)
    assert all(each["out"] == [0, 1] for each in marks(page, "hollow"))
    text = page.locator("#scatter").text_content() or ""
    assert "lower is better" in text
    assert "baseline 2.303" in text


def test_a_mark_tells_what_it_is_and_opens_the_model(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    opened = show(sweep)
    page = opened.alive()
    page.locator("#scatter").scroll_into_view_if_needed()
    box = page.locator("#scatter canvas").bounding_box()
    assert box is not None
    leader, excluded = marks(page)[-1], marks(page, "hollow")[0]
    page.mouse.move(box["x"] + leader["x"] + 3, box["y"] + leader["y"] + 3)
    told = page.locator(".told")
    assert "rank 1; traceability" in told.inner_text()
    page.mouse.move(box["x"] + excluded["x"], box["y"] + excluded["y"])
    assert "excluded, accuracy is 28% of the way" in told.inner_text()
    page.mouse.down()
    page.mouse.up()
    assert page.locator("#model").get_attribute("open") is None
    page.mouse.click(box["x"] + leader["x"], box["y"] + leader["y"])
    assert leader["id"] in page.locator("#model").inner_text()
    page.keyboard.press("Escape")
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    assert told.is_hidden()
    opened.assert_quiet()


def test_the_marks_are_gone_through_by_keyboard(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    page = show(sweep).alive()
    frame = sweep.ranking.frame
    stepper = page.locator(".stepper")
    page.locator(".parallel").focus()
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "stepper pressable"
    assert "rank 1;" in str(stepper.get_attribute("aria-valuetext"))
    page.keyboard.press("Home")
    lowest = min([*marks(page), *marks(page, "hollow")], key=lambda each: each["score"])
    assert f"traceability {lowest['score']:.3f}" in str(stepper.get_attribute("aria-valuetext"))
    page.keyboard.press("End")
    for _ in range(40):
        if "rank 2;" in str(stepper.get_attribute("aria-valuetext")):
            break
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert frame.iloc[1]["model_id"] in page.locator("#model").inner_text()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "stepper pressable"
    page.evaluate("page.view.change({alpha: 0.55})")
    settled(page)
    told = str(stepper.get_attribute("aria-valuetext"))
    model = page.evaluate("page.scatter.pointed.model")
    assert f"rank {page.evaluate(f'page.order.ranks[{model}]')};" in told


def test_what_is_not_found_is_faded_and_passed_over(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    page = show(sweep).alive()
    ink = """() => {
        const {canvas} = page.scatter;
        const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        let sum = 0;
        for (let at = 3; at < data.length; at += 4) sum += data[at];
        return sum;
    }"""
    before = page.evaluate(ink)
    page.get_by_label("Find").fill("architecture=mlp")
    settled(page)
    assert 0 < page.evaluate(ink) < 0.5 * before
    found = set(page.evaluate("page.rows"))
    steps = page.evaluate("page.scatter.steps.map(mark => mark.model ?? null)")
    assert {step for step in steps if step is not None} == found
    keys = {each["key"] for each in marks(page) if each["key"] and each["model"] in found}
    assert page.locator("#scatter .badge").count() == len(keys)


def test_it_is_saved_with_all_its_marks(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    opened = show(sweep)
    page = opened.alive()
    figure = page.locator("#quality ~ figure")
    with page.expect_download() as saved:
        figure.get_by_role("button", name="SVG").press("Enter")
    assert saved.value.suggested_filename == "traceability-and-metric.svg"
    text = Path(saved.value.path()).read_text()
    assert "class=" not in text
    plain = len(sweep.ranking.frame) - page.locator("#scatter .badge").count()
    # Two paths of each: its ground and its edge.
    assert text.count("<path") >= 2 * plain
    with page.expect_download() as saved:
        figure.get_by_role("button", name="PNG").press("Enter")
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")
    assert page.locator("body > svg").count() == 0
    opened.assert_quiet()


def test_ten_thousand_marks_are_drawn(show: Callable[..., Opened]) -> None:
    page = show(make_sweep(60)).alive()
    page.evaluate(
        """() => {
        const {models} = page.data;
        const many = values => Array.from({length: 10000}, (_, at) => values[at % values.length]);
        for (const [name, values] of Object.entries(models)) {
            if (Array.isArray(values)) models[name] = many(values);
        }
        models.key = models.key.map((key, at) => at < 60 ? key : null);
        for (const [name, values] of Object.entries(models.values)) {
            models.values[name] = many(values).map((value, at) => value * (1 + at / 50000));
        }
        const [first, second] = ['stability.steadiness', 'explainability.gini'];
        const scores = models.values[first].map((each, at) => each + models.values[second][at]);
        const places = [...scores.keys()].sort((a, b) => scores[b] - scores[a]);
        const order = {scores, order: places, ranks: places, front: new Set()};
        const chosen = new Set(places);
        page.scatter.show(page.data, page.view, order, chosen);
    }"""
    )
    assert page.evaluate("page.scatter.drawn.marks.length") == 10_000
