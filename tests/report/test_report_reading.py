"""What a reader does with the page: turn, find, sort, look into, compare, save; all by keyboard."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browsing import Opened, needs_browser
from made_up import make_sweep
from playwright.sync_api import Locator, Page

from sweeps.ranking.rank_intervals import rank_intervals
from sweeps.report import WHOLE, facts

pytestmark = [pytest.mark.slow, needs_browser]

AXE = Path(__file__).parent.parent.parent / "sweeps/report/page/node_modules/axe-core/axe.min.js"


def ids(page: Page) -> list[str]:
    found: list[str] = page.evaluate("page.rows.map(m => page.data.models.model_id[m])")
    return found


def settled(page: Page) -> None:
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_alpha_is_turned_by_keyboard_and_stands_in_the_address(
    show: Callable[..., Opened],
) -> None:
    sweep = make_sweep()
    opened = show(sweep)
    page = opened.alive()
    reported = ids(page)
    page.locator(".alpha").focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    settled(page)
    assert page.evaluate("page.view.alpha") == 0.8
    assert ids(page) != reported
    assert page.url.endswith("#alpha=0.8")
    note = page.locator(".view-note").inner_text()
    assert "another order than the reported one" in note
    assert "tracerank report RUN_DIR --alpha 0.8" in note
    intervals = page.evaluate("[page.order.low, page.order.high]")
    parts = [
        sweep.ranking.scores.loc[
            sweep.ranking.scores["model_id"] == each, ["stability", "explainability"]
        ].to_numpy()
        for each in reported
    ]
    expected = rank_intervals([part @ np.array([0.8, 1 - 0.8]) for part in parts], 0)
    assert intervals == [expected.low.tolist(), expected.high.tolist()]
    page.evaluate("page.view.change({alpha: 0.8001})")
    settled(page)
    assert page.locator(".live tbody tr").first.locator("td").nth(1).inner_text() == "–"
    page.evaluate("page.view.change({alpha: 0.8})")
    settled(page)
    there = ids(page)
    page.reload()
    opened.alive()
    assert ids(page) == there
    page.get_by_role("button", name="As reported").press("Enter")
    settled(page)
    assert ids(page) == reported
    assert "#" not in page.url
    opened.requests.clear()
    assert opened.complaints == []


def test_models_are_found_sorted_and_saved(show: Callable[..., Opened], tmp_path: Path) -> None:
    sweep = make_sweep()
    page = show(sweep).alive()
    page.get_by_label("Find").fill("architecture=mlp rank<=12")
    settled(page)
    frame = sweep.ranking.frame
    wanted = frame[(frame["architecture"] == "mlp") & (frame["rank"] <= 12)]
    assert ids(page) == list(wanted["model_id"])
    head = page.locator("thead button", has_text="Validation accuracy")
    head.press("Enter")
    settled(page)
    assert ids(page) == list(wanted.sort_values("metric")["model_id"])
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Validation accuracy")
    page.locator("thead button:focus").press("Enter")
    settled(page)
    assert ids(page) == list(wanted.sort_values("metric", ascending=False)["model_id"])
    with page.expect_download() as saved:
        page.locator(".controls").get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text())))
    assert [row["rank"] for row in rows] == [
        str(rank) for rank in wanted.sort_values("metric", ascending=False)["rank"]
    ]
    figures = wanted.set_index("rank")
    for row in rows:
        assert float(row["traceability"]) == pytest.approx(
            figures.loc[int(row["rank"]), "traceability"], abs=1e-15
        )
    with page.expect_download() as saved:
        page.locator(".controls").get_by_role("button", name="JSON").click()
    assert len(json.loads(Path(saved.value.path()).read_text())) == len(rows)


def test_a_setting_becomes_a_column_and_stands_in_the_address(
    show: Callable[..., Opened],
) -> None:
    opened = show(make_sweep())
    page = opened.alive()
    page.locator(".columns summary").press("Enter")
    page.get_by_label("learning rate", exact=True).check()
    settled(page)
    assert page.locator("thead button", has_text="learning rate").count() == 1
    page.locator(".check", has_text="Explainability").locator("input").uncheck()
    settled(page)
    assert page.locator("thead button", has_text="Explainability").count() == 0
    assert "column=setting%3Alearning_rate" in page.url
    assert "column=explainability" not in page.url
    page.reload()
    opened.alive()
    heads = page.locator("thead button").all_inner_texts()
    assert "learning rate" in heads
    assert "Explainability" not in heads
    assert page.locator(".check", has_text="learning rate").locator("input").is_checked()
    page.locator(".columns summary").press("Enter")
    page.get_by_label("learning rate", exact=True).uncheck()
    page.locator(".check", has_text="Explainability").locator("input").check()
    settled(page)
    assert "#" not in page.url


def test_every_model_has_a_curve_of_its_change_rate(
    show: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(facts.build_facts.__kwdefaults__, "depth", replace(WHOLE, detailed=3))
    opened = show(make_sweep())
    page = opened.alive()
    page.locator("details.columns summary").click()
    page.get_by_label("Change rate over steps").check()
    settled(page)
    sparks = page.locator("#table .spark")
    assert sparks.count() == page.locator("#table tbody tr:not([aria-hidden])").count()
    told = sparks.first.get_attribute("aria-label")
    assert told is not None
    assert re.fullmatch(r"Change rate from \S+ to \S+, at most \S+", told)
    # At their scale, curves that fall end lower than they begin.
    ends = page.evaluate(
        """page.rows.map(model => page.shownColumns.find(({id}) => id === 'curve').value(model))"""
    )
    assert all(0 < each < 1 for each in ends)
    page.locator("#table thead button", has_text="Change rate over steps").click()
    settled(page)
    assert page.evaluate("page.view.sort") == "curve"
    first = page.evaluate("page.shownColumns.find(({id}) => id === 'curve').value(page.rows[0])")
    assert first == min(ends)

    def opened_at(place: int) -> Locator:
        page.evaluate(f"page.open({place})")
        return page.locator("#model")

    leading = opened_at(2)
    assert leading.locator("svg.chart").count() > 4
    page.keyboard.press("Escape")
    other = opened_at(3)
    assert other.locator("svg.chart").count() == 1
    assert other.locator("svg.chart > title").text_content() == "Change rate"
    assert other.locator("svg.chart .curve").get_attribute("d").count("L") > 20  # type: ignore[union-attr]
    assert "for the leading models alone" in other.inner_text()
    opened.assert_quiet()


def test_a_model_opens_and_closes_by_keyboard(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    opened = show(sweep)
    page = opened.alive()
    leader = sweep.ranking.frame.iloc[0]
    page.locator(".live .open").first.press("Enter")
    dialog = page.locator("#model")
    assert dialog.get_attribute("open") is not None
    text = dialog.inner_text()
    for part in (leader["model_id"], "Training loss", "Layer by layer", "output.weight"):
        assert part in text
    assert dialog.locator("svg.live-chart").count() == 6
    assert f"tracerank run {leader['model_id']}.yaml" in text
    with page.expect_download() as saved:
        dialog.get_by_role("button", name=f"Save {leader['model_id']}.yaml").click()
    assert Path(saved.value.path()).read_text() == f"name: {leader['model_id']}\n"
    with page.expect_download() as saved:
        dialog.get_by_role("button", name="PNG").first.click()
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")
    page.keyboard.press("Escape")
    assert dialog.get_attribute("open") is None
    assert page.evaluate("document.activeElement.dataset.id") == leader["model_id"]
    opened.assert_quiet()


def test_a_model_that_is_not_ranked_opens_with_the_reason(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    states = dict(zip(sweep.models["model_id"], sweep.models["state"], strict=True))
    trained = [each for each in sweep.ranking.excluded if states.get(each.model_id) == "COMPLETE"]
    assert 0 < len(trained) < len(sweep.ranking.excluded)
    page = show(sweep).alive()
    table = page.get_by_role("region", name="Models not ranked")
    buttons = table.locator("button.open")
    buttons.first.wait_for()
    assert buttons.count() == len(trained)
    buttons.first.press("Enter")
    dialog = page.locator("dialog")
    assert f"Not ranked: {trained[0].reason}." in dialog.inner_text()
    assert dialog.locator("figure").count() == 6
    assert "What moved most" in dialog.inner_text()


def test_two_models_side_by_side_show_what_differs(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    opened = show(sweep)
    page = opened.alive()
    frame = sweep.ranking.frame
    page.locator(".live .open").nth(1).click()
    page.get_by_role("button", name="Compare the others with this one").click()
    settled(page)
    pinned = page.locator(".live .pinned")
    assert pinned.locator(".open").get_attribute("data-id") == frame.iloc[1]["model_id"]
    gap = frame.iloc[0]["traceability"] - frame.iloc[1]["traceability"]
    first = page.locator(".live tbody tr:not(.pinned)").first
    assert f"+{gap:.3f}" in first.inner_text()
    first.locator(".open").click()
    dialog = page.locator("#model")
    heads = dialog.locator(".facts thead th").all_inner_texts()
    assert len(heads) == 2
    names = dialog.locator(".facts tbody th").all_inner_texts()
    assert {"Rank", "Traceability", "Id"} <= set(names)
    assert "Trainings" not in names
    assert dialog.locator("svg.live-chart").first.locator(".curve").count() == 2
    opened.assert_quiet()


def test_a_stretch_of_an_axis_is_chosen_by_dragging(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    page = show(sweep).alive()
    canvas = page.locator(".parallel")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    axes = page.evaluate("page.parallel.axes.map(axis => axis.column.id)")
    # Axes stand evenly, 64 px from either side.
    x = box["x"] + 64 + axes.index("metric") * (box["width"] - 128) / (len(axes) - 1)
    page.mouse.move(x, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(x, box["y"] + 150, steps=4)
    page.mouse.up()
    settled(page)
    assert page.get_by_label("Find").input_value().startswith("metric>=")
    chosen = sweep.ranking.frame.set_index("model_id").loc[ids(page), "metric"]
    assert 0 < len(chosen) < len(sweep.ranking.frame)
    assert chosen.min() > sweep.ranking.frame["metric"].min()
    page.mouse.click(x, box["y"] + 100)
    settled(page)
    assert page.get_by_label("Find").input_value() == ""


def test_a_stretch_of_an_axis_is_chosen_by_keyboard(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    page = show(sweep).alive()
    axes = page.evaluate("page.parallel.axes.map(axis => axis.column.id)")
    page.locator(".parallel").focus()
    for _ in range(axes.index("metric")):
        page.keyboard.press("ArrowRight")
    for _ in range(8):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowDown")
    settled(page)
    query = page.get_by_label("Find").input_value()
    assert query.startswith("metric>=")
    assert "metric<=" in query
    figures = sweep.ranking.frame.set_index("model_id")["metric"]
    low, high = (figures.min() + share * (figures.max() - figures.min()) for share in (0.4, 0.95))
    chosen = figures[ids(page)]
    assert 0 < len(chosen) < len(figures)
    assert set(figures[figures.between(low, high)].index) <= set(chosen.index)
    told = str(page.locator(".parallel").get_attribute("aria-valuetext"))
    assert told == f"Validation accuracy: {query}; {len(chosen)} models chosen"
    page.keyboard.press("Delete")
    settled(page)
    assert page.get_by_label("Find").input_value() == ""
    assert "all of it" in str(page.locator(".parallel").get_attribute("aria-valuetext"))


def test_two_models_are_compared_by_keyboard(show: Callable[..., Opened]) -> None:
    page = show(make_sweep()).alive()
    page.locator(".live .open").nth(2).press("Enter")
    base = page.evaluate("page.data.models.model_id[2]")
    assert "Compare the others" in page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    settled(page)
    assert page.url.endswith(f"#baseline={base}")
    assert page.evaluate("document.activeElement.dataset.id") == base
    page.locator(".live tbody tr:not(.pinned) .open").first.press("Enter")
    assert page.locator("#model .apart").is_visible()


def test_every_control_is_reached_by_tab_and_shows_it(show: Callable[..., Opened]) -> None:
    page = show(make_sweep(12)).alive()
    # Names of models that aren't ranked become buttons once there is something to show of them.
    page.evaluate("page.data.read.then(() => new Promise(requestAnimationFrame))")
    wanted = page.evaluate(
        """() => [...document.querySelectorAll(
            'a[href], button, input, select, summary, [tabindex="0"]')]
            .filter(e => e.checkVisibility()).map((e, at) => (e.dataset.tabbed = at))"""
    )
    reached = set()
    for _ in range(len(wanted) + 10):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "[document.activeElement.dataset.tabbed,"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        if found[0] is None:
            break
        assert found[1] != "none"
        reached.add(int(found[0]))
    assert reached == set(wanted)


def test_nothing_of_a_phone_scrolls_sideways(show: Callable[..., Opened]) -> None:
    page = show(make_sweep(), width=390).alive()
    page.locator(".live .open").first.click()
    for element in ("document.documentElement", "document.getElementById('model')"):
        scrolled, seen = page.evaluate(f"[{element}.scrollWidth, {element}.clientWidth]")
        assert scrolled <= seen + 1


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: make page-tools")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("look", ["page", "model", "compared", "pointed"])
def test_axe_finds_nothing(show: Callable[..., Opened], scheme: str, look: str, width: int) -> None:
    page = show(make_sweep(), width=width, color_scheme=scheme).alive()
    if look == "compared":
        page.evaluate("page.view.change({baseline: page.data.models.model_id[2]})")
        settled(page)
    if look == "pointed":
        page.locator(".columns summary").press("Enter")
        page.evaluate("page.view.change({find: 'architecture=mlp', alpha: 0.7})")
        settled(page)
        page.locator(".parallel").press("ArrowRight")
        page.locator(".stepper").press("ArrowLeft")
    elif look != "page":
        page.locator(".live .open").first.click()
    page.evaluate(f"{AXE.read_text()};0")
    found = page.evaluate("axe.run(document)")
    assert len(found["passes"]) > 15
    assert [(each["id"], each["impact"]) for each in found["violations"]] == []


def test_a_printed_page_lists_the_models(show: Callable[..., Opened]) -> None:
    sweep = make_sweep(120)
    page = show(sweep).alive()
    shown = page.locator(".live tbody tr").count()
    assert shown < len(sweep.ranking.frame)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".live tbody tr").count() == len(sweep.ranking.frame)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".live tbody tr").count() < len(sweep.ranking.frame)


def test_rows_far_down_are_drawn_when_they_come_into_sight(show: Callable[..., Opened]) -> None:
    sweep = make_sweep(600)
    page = show(sweep).alive()
    page.evaluate("document.getElementById('table').scrollTop = 1e9")
    settled(page)
    last = page.locator(".live tbody tr:not([aria-hidden])").last
    assert last.get_attribute("aria-rowindex") == str(len(sweep.ranking.frame) + 1)
    assert sweep.ranking.frame.iloc[-1]["model_id"] in str(
        last.locator(".open").get_attribute("data-id")
    )


def test_the_page_stands_still_when_rows_go_to_other_places(show: Callable[..., Opened]) -> None:
    page = show(make_sweep(100)).alive()
    # The table is in sight in part: a row would be what the browser keeps in its place.
    page.evaluate("scrollTo(0, document.getElementById('table').offsetTop + 300)")
    settled(page)
    top = "document.getElementById('table').getBoundingClientRect().top"
    before = page.evaluate(top)
    for turn in ({"alpha": 0.9}, {"descending": True}, {"find": "rank>5"}):
        page.evaluate("values => page.view.change(values)", turn)
        settled(page)
        assert page.evaluate(top) == pytest.approx(before, abs=1)


def test_a_reader_scrolls_away_from_the_row_that_has_the_focus(
    show: Callable[..., Opened],
) -> None:
    page = show(make_sweep(100)).alive()
    # Far enough that other rows are drawn, near enough that this one still is.
    page.evaluate("document.querySelectorAll('.live .open')[1].focus()")
    page.evaluate("document.getElementById('table').scrollTop = 3.5 * page.table.rowHeight")
    settled(page)
    page.evaluate("page.view.change({alpha: 0.501})")
    settled(page)
    there = "document.getElementById('table').scrollTop / page.table.rowHeight"
    assert page.evaluate(there) == pytest.approx(3.5, abs=0.05)
    assert page.locator(".live .open:focus").count() == 1


@pytest.mark.parametrize("models", [30, 600])
def test_rows_that_stay_in_sight_show_what_new_ones_would(
    show: Callable[..., Opened], models: int
) -> None:
    sweep = make_sweep(models)
    page = show(sweep).alive()
    base = sweep.ranking.frame.iloc[3]["model_id"]
    shown = page.evaluate("page.table.columns.map(column => column.id)")
    other = page.evaluate("page.kinds.stability.find(kind => kind !== page.view.stability)")
    more = ["share_first", "metric_best", "change_rate", "curve"]
    # α is turned in every other state of the page, there and back to where it was reported.
    turns = [{"alpha": 0.51}, {"alpha": 0.9}, {"alpha": 0.123}, {"alpha": 0.5}]
    states = [
        *({}, {"columns": shown + more}, {"baseline": base}, {"sort": "traceability"}),
        *({"descending": True}, {"find": "mlp"}, {"find": "", "reading": "article"}),
        *({"reading": "calibrated", "stability": other}, {"sort": "rank", "baseline": ""}),
    ]
    for state in states:
        for turn in (state, *turns):
            kept = page.evaluate(
                """async (values) => {
                    const body = () => document.querySelector(".live tbody");
                    const before = new Set(body().children);
                    page.view.change(values);
                    // Once drawn, the table may be of another height, and draw once more.
                    for (let frame = 0; frame < 4; frame++) {
                        await new Promise(requestAnimationFrame);
                    }
                    const kept = [...body().children].filter((row) => before.has(row)).length;
                    const shown = body().cloneNode(true);
                    page.table.drawn.clear();
                    page.draw();
                    return shown.isEqualNode(body()) ? kept : -1;
                }""",
                turn,
            )
            assert kept >= 0, (state, turn)
            # Rows are kept, or nothing of this is tested; where the columns change, none is.
            assert kept > 0 or turn is state, (state, turn)
