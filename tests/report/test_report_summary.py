"""report.md: what the page says, in Markdown that shows every name as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from made_up import make_sweep

from sweeps.report import write_report

HOSTILE = "[x](http://a) <img src=x> | `b` *c* www.a.b @team"


def test_it_says_what_the_page_says(tmp_path: Path) -> None:
    sweep = make_sweep()
    text = (write_report(tmp_path, **sweep.arguments()).parent / "report.md").read_text()
    leader = sweep.ranking.frame.iloc[0]
    assert leader["model_id"] in text
    assert "scores highest" in text or "is the most traceable" in text
    assert "tracerank run runs/digits/report/winner.yaml" in text
    assert f"Not ranked ({len(sweep.ranking.excluded)})" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "model" not in line]
    assert len(rows) == min(15, len(sweep.ranking.frame))


def test_a_name_makes_neither_a_link_nor_html_nor_a_cell(tmp_path: Path) -> None:
    sweep = make_sweep()
    sweep.models["architecture"] = HOSTILE
    frame = sweep.ranking.frame.assign(architecture=HOSTILE)
    sweep.ranking = replace(sweep.ranking, frame=frame, warnings=(HOSTILE,))
    text = (write_report(tmp_path, **sweep.arguments()).parent / "report.md").read_text()
    assert "[x](" not in text
    assert " <img" not in text
    shown = "\\[x\\](http:\u200b//a) \\<img src=x\\> \\| \\`b\\` \\*c\\* www\u200b.a.b @\u200bteam"
    assert shown in text
    lines = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {11}
