"""What the page shows, saved: every table with its whole figures, every chart with its looks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browsing import Opened, needs_browser
from made_up import make_ranking, make_sweep
from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.slow, needs_browser]


def region(page: Page, label: str) -> Locator:
    """A table's frame and, after it, its buttons."""
    return page.locator(f"main .scroll[aria-label='{label}'] + .below")


def saved(page: Page, buttons: Locator, way: str) -> str:
    # A browser takes many files a second for an attack, and drops one.
    page.wait_for_timeout(150)
    with page.expect_download() as download:
        buttons.get_by_role("button", name=way).press("Enter")
    return Path(download.value.path()).read_text()


def rows_of(page: Page, label: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(saved(page, region(page, label), "CSV"))))


def test_every_table_can_be_saved_in_three_ways(show: Callable[..., Opened]) -> None:
    opened = show(make_sweep(60))
    page = opened.alive()
    labels = page.locator("main .scroll[role=region]").evaluate_all(
        "all => all.map(each => each.getAttribute('aria-label'))"
    )
    tables = [label for label in labels if label not in ("Ranking table", "Environment")]
    assert len(tables) > 6
    for label in tables:
        rows = rows_of(page, label)
        drawn = page.locator(f"main .scroll[aria-label='{label}'] tbody tr")
        assert len(rows) == drawn.count()
        assert len(json.loads(saved(page, region(page, label), "JSON"))) == len(rows)
        lines = saved(page, region(page, label), "Markdown").splitlines()
        assert len(lines) == len(rows) + 2
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    opened.assert_quiet()


def test_saved_figures_are_whole(show: Callable[..., Opened]) -> None:
    sweep = make_sweep(60)
    opened = show(sweep)
    page = opened.alive()
    written = json.loads((opened.path.parent / "ranking.json").read_text())
    for row, expected in zip(
        rows_of(page, "Agreement with performance"), written["validity"]["rows"], strict=True
    ):
        assert row["ordered_by"].lower() == expected["name"].lower()
        assert float(row["τ"]) == expected["tau"]
    leaders = rows_of(page, "Leaders by α")
    spans = [(span.start, span.stop) for span in sweep.ranking.leaders]
    assert [float(row["α_from"]) for row in leaders] == pytest.approx([a for a, _ in spans])
    assert [float(row["to"]) for row in leaders] == pytest.approx([b for _, b in spans])
    tried = 0
    cells = json.loads(saved(page, region(page, "Architecture by initialisation"), "JSON"))
    for row in cells:
        assert row["architecture"] in set(sweep.models["architecture"])
        for name, value in row.items():
            if name.endswith(" models") and value is not None:
                tried += value
                assert name.replace(" models", " traceability") in row
                assert name.replace(" models", " accuracy") in row
    assert tried == len(sweep.models)
    shares = rows_of(page, "Settings that matter, all architectures")
    assert {"setting", "traceability", "accuracy"} == set(shares[0])
    assert all(0 <= float(row["traceability"]) <= 1 for row in shares)


def test_what_a_spreadsheet_would_run_is_text(show: Callable[..., Opened]) -> None:
    sweep = make_sweep()
    reason = '=HYPERLINK("http://evil"), "x"'
    excluded = tuple(replace(each, reason=reason) for each in sweep.ranking.excluded)
    sweep.models["init"] = "@SUM(1+1)"
    for failure in sweep.failures:
        failure["reason"] = "-2+3"
    sweep.ranking = make_ranking(sweep.models, sweep.replicates, sweep.metric, excluded)
    page = show(sweep).alive()
    assert {row["reason"] for row in rows_of(page, "Models not ranked")} == {f"'{reason}"}
    failures = rows_of(page, "Trials that did not complete")
    assert {row["reason"] for row in failures} == {"'-2+3"}
    assert [int(row["trial"]) for row in failures] == [each["trial"] for each in sweep.failures]
    assert "'@SUM(1+1) traceability" in rows_of(page, "Architecture by initialisation")[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_can_be_saved_with_its_looks(show: Callable[..., Opened], scheme: str) -> None:
    opened = show(make_sweep(), color_scheme=scheme)
    page = opened.alive()
    groups = page.locator("main .exports", has_text="SVG")
    assert groups.count() == 5
    names = set()
    for index in range(groups.count()):
        buttons = groups.nth(index)
        with page.expect_download() as download:
            buttons.get_by_role("button", name="SVG").press("Enter")
        names.add(download.value.suggested_filename)
        drawing = ElementTree.fromstring(Path(download.value.path()).read_text())
        fills = {each.get("fill") for each in drawing.iter()}
        assert len(fills) > 2
        assert not any("var(" in str(fill) for fill in fills)
        assert not any(each.get("class") or each.get("style") for each in drawing.iter())
        with page.expect_download() as download:
            buttons.get_by_role("button", name="PNG").press("Enter")
        assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    assert len(names) == 5
    opened.assert_quiet()
