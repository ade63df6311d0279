"""Scales, ticks, words and drawings, without a browser."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from made_up import make_sweep

from sweeps.report import build_facts, charts
from sweeps.report.axes import spread
from sweeps.report.scales import Scale, domain, log_domain, log_ticks, ticks
from sweeps.report.scatter import NARROW, WIDE, scatter
from sweeps.report.svg import path, tag
from sweeps.report.timelines import timeline
from sweeps.report.wording import count, listing, number, percent, setting, significant, span

METRIC = {
    "name": "accuracy",
    "label": "accuracy",
    "direction": "maximize",
    "baseline": 0.1,
    "floor": 0.5,
    "floor_share": 0.5,
}


def model(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "model_id": f"m{number}",
        "name": f"mlp · init{number}",
        "architecture": "mlp",
        "init": f"init{number}",
        "rank": number,
        "key": None,
        "pareto": False,
        "traceability": 0.5 + number / 100,
        "metric": 0.9 + number / 1000,
        "ranges": {"traceability": None, "metric": None},
    } | changes


def numbers(drawing: str) -> list[float]:
    """Every coordinate of a drawing; all must be numbers a browser can read."""
    root = ElementTree.fromstring(drawing)
    found = []
    for element in root.iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height"):
            if name in element.attrib:
                found.append(float(element.attrib[name]))
        found += [float(each) for each in re.findall(r"-?[\d.]+", element.attrib.get("d", ""))]
    return found


class TestScales:
    def test_ends_and_middle(self) -> None:
        scale = Scale(0, 10, 100, 0)
        assert [scale(0), scale(5), scale(10)] == [100, 50, 0]
        assert [scale(-4), scale(40)] == [100, 0]

    def test_logarithmic(self) -> None:
        scale = Scale(1e-4, 1e-2, 0, 100, log=True)
        assert scale(1e-3) == pytest.approx(50)
        assert scale(0) == 0

    @pytest.mark.parametrize("ends", [(1.0, 1.0), (2.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
    def test_an_empty_range_is_refused(self, ends: tuple[float, float]) -> None:
        with pytest.raises(ValueError, match="finite low < high"):
            Scale(*ends, 0, 1)

    def test_a_logarithm_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="low > 0"):
            Scale(0, 1, 0, 1, log=True)

    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [
            (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
            (0.87, 0.99, [0.88, 0.9, 0.92, 0.94, 0.96, 0.98]),
            (-3, 3, [-2, 0, 2]),
            (0, 4350, [0, 1000, 2000, 3000, 4000]),
        ],
    )
    def test_ticks_are_round(self, low: float, high: float, expected: list[float]) -> None:
        found = ticks(low, high)
        assert found == expected
        assert all(f"{tick:g}" == f"{float(f'{tick:.3g}'):g}" for tick in found)

    @pytest.mark.parametrize("low", [-1e9, -1.0, 0.0, 1e-12, 1.0, 1e6])
    @pytest.mark.parametrize("width", [1e-6, 0.3, 7.0, 1e8])
    def test_there_are_always_ticks_and_never_many(self, low: float, width: float) -> None:
        found = ticks(low, low + width)
        assert 1 <= len(found) <= 8
        assert found == sorted(set(found))

    @pytest.mark.parametrize(
        ("low", "high"), [(1e-5, 1e-1), (8e-4, 3e-3), (2e-3, 2.4e-3), (1e-12, 1e12), (1.0, 1e3)]
    )
    def test_logarithmic_ticks(self, low: float, high: float) -> None:
        found = log_ticks(low, high)
        assert 2 <= len(found) <= 8
        assert all(low * 0.999 <= tick <= high * 1.001 for tick in found)

    def test_degenerate_domains_have_a_width(self) -> None:
        assert domain([]) == (0.0, 1.0)
        for values in ([3.0], [0.0, 0.0], [1e9, 1e9], [math.nan, 2.0]):
            low, high = domain(values)
            assert low < values[-1] < high
        low, high = log_domain([1e-3, 1e-3, 0.0, -1.0, math.inf])
        assert 0 < low < 1e-3 < high
        assert log_domain([]) == (0.1, 1.0)

    def test_labels_are_moved_apart_in_their_order(self) -> None:
        moved = spread([50, 51, 52, 10], 20, 0, 200)
        assert moved[3] == 10
        assert moved[0] < moved[1] < moved[2]
        assert min(b - a for a, b in zip(sorted(moved), sorted(moved)[1:], strict=False)) >= 20
        assert max(spread([99, 100], 20, 0, 100)) <= 100


class TestWords:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.8123, "0.812"),
            (0.0, "0.000"),
            (-0.25, "−0.250"),
            (0.001921, "0.00192"),
            (12345.6, "12346"),
            (None, "–"),
            (math.nan, "–"),
            (math.inf, "–"),
        ],
    )
    def test_number(self, value: float | None, text: str) -> None:
        assert number(value) == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.03, "0.03"),
            (5.12e-05, "5.12·10⁻⁵"),
            (30000000.0, "3·10⁷"),
            (1234.0, "1234"),
            (999.7, "1000"),
            (0.0, "0"),
            (64.0, "64"),
            (-0.5, "−0.5"),
        ],
    )
    def test_significant(self, value: float, text: str) -> None:
        assert significant(value) == text

    def test_padded_figures_are_of_one_length(self) -> None:
        assert [significant(x, 3, True) for x in (0.0026, 0.00261)] == ["0.00260", "0.00261"]

    @pytest.mark.parametrize(
        ("share", "text"),
        [(0.0, "0%"), (0.004, "<1%"), (0.31, "31%"), (0.997, ">99%"), (1.0, "100%"), (None, "–")],
    )
    def test_percent_never_rounds_to_certainty(self, share: float | None, text: str) -> None:
        assert percent(share) == text

    def test_small_words(self) -> None:
        assert (span(2, 2), span(1, 4)) == ("2", "1–4")
        assert (count(1, "model"), count(1200, "model")) == ("1 model", "1,200 models")
        assert listing(["a"]) == "a"
        assert listing(["a", "b", "c"]) == "a, b and c"
        assert listing(["a", "b", "c", "d"], 2) == "a, b and 2 more"
        assert setting("mlp.hidden_size", 32) == "hidden size\u00a032"
        assert setting("bias", value=True) == "bias\u00a0yes"


class TestDrawing:
    def test_text_and_attributes_are_escaped(self) -> None:
        assert tag("text", "<b>&", data_x='"') == '<text data-x="&#34;">&lt;b&gt;&amp;</text>'

    def test_paths_are_short(self) -> None:
        assert path([(1 / 3, 2.0), (10, 0.04)], closed=True) == "M0.3,2L10,0Z"

    def test_every_chart_is_well_formed_and_finite(self) -> None:
        facts = build_facts(**make_sweep().arguments())
        for drawing in (
            *charts.scatter_charts(facts),
            *charts.rank_charts(facts),
            *charts.step_charts(facts),
            charts.interval_bar(facts.models[0], 1),
        ):
            assert all(map(math.isfinite, numbers(str(drawing))))

    @pytest.mark.parametrize("box", [WIDE, NARROW])
    @pytest.mark.parametrize("amount", [0, 1, 2, 300])
    def test_scatter_of_any_size(self, box: Any, amount: int) -> None:
        rows = [model(i) for i in range(amount)]
        drawing = str(scatter(rows, [], METRIC, box, "chart"))
        assert drawing.count('class="mark"') == amount
        assert all(-1 <= each <= 1001 for each in numbers(drawing))

    def test_equal_models_do_not_make_an_empty_axis(self) -> None:
        rows = [model(1, metric=0.9, traceability=0.5) for _ in range(3)]
        assert numbers(str(scatter(rows, [], METRIC | {"floor": None}, WIDE, "chart")))

    def test_better_is_up_also_for_a_metric_that_is_minimised(self) -> None:
        rows = [model(1, metric=0.2), model(2, metric=0.4)]
        metric = METRIC | {"direction": "minimize", "floor": None}
        drawing = ElementTree.fromstring(str(scatter(rows, [], metric, WIDE, "chart")))
        heights = [float(e.attrib["cy"]) for e in drawing.iter("circle")]
        assert heights[0] < heights[1]

    @pytest.mark.parametrize("direction", ["maximize", "minimize"])
    def test_a_model_that_diverged_points_outwards_from_the_edge(self, direction: str) -> None:
        rows = [model(i) for i in range(9)]
        far = {"name": "x", "model_id": "x", "reason": "bad", "traceability": 0.52, "metric": 1e12}
        metric = METRIC | {"direction": direction, "floor": None}
        root = ElementTree.fromstring(str(scatter(rows, [far], metric, WIDE, "chart")))
        arrow = next(e for e in root.iter("path") if "beyond" in e.attrib["class"])
        tip, *base = (
            float(pair.split(",")[1]) for pair in re.findall(r"[-\d.]+,[-\d.]+", arrow.attrib["d"])
        )
        points_up = tip < min(base)
        assert points_up == (direction == "maximize")
        assert (tip < WIDE.height / 2) == points_up

    def test_names_of_leaders_do_not_cover_each_other(self) -> None:
        rows = [model(i, key="ABCDE"[i], traceability=0.5 + i / 1e4) for i in range(5)]
        rows += [model(i) for i in range(6, 40)]
        root = ElementTree.fromstring(str(scatter(rows, [], METRIC, WIDE, "chart")))
        boxes = [
            (float(e.attrib["x"]), float(e.attrib["y"]), len(e.text or "") * 7.0)
            for e in root.iter("text")
            if e.attrib.get("class") == "name"
        ]
        assert len(boxes) == 5
        for i, (x, y, width) in enumerate(boxes):
            for other_x, other_y, other_width in boxes[i + 1 :]:
                apart = abs(y - other_y) >= 18
                assert apart or x + width < other_x or other_x + other_width < x

    def test_a_curve_breaks_where_it_has_no_value(self) -> None:
        curve: dict[str, list[float | None]] = {
            "steps": [0.0, 1.0, 2.0, 3.0, 4.0],
            "mean": [1e-3, 2e-3, None, 0.0, 1e-3],
            "low": [1e-3, 2e-3, None, 0.0, 1e-3],
            "high": [1e-3, 3e-3, None, 0.0, 1e-3],
        }
        drawing = str(timeline({"A": curve}, "t", "y", log=True))
        assert drawing.count('class="dot"') == 1
        assert len(re.findall(r'class="curve key-A"><path', drawing)) == 1

    def test_a_timeline_without_values_is_an_empty_frame(self) -> None:
        nothing: dict[str, list[float | None]] = {"steps": [], "mean": [], "low": [], "high": []}
        for log in (True, False):
            drawing = str(timeline({"A": nothing}, "t", "y", log=log))
            assert "badge" not in drawing
            assert numbers(drawing)
