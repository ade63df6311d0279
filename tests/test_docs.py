"""The documentation says what is so: its snippets run, and its links lead somewhere."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from itertools import zip_longest
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["measure.md", pytest.param("python.md", marks=pytest.mark.slow)])
def test_a_page_runs_as_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """Block after block in one namespace; a block of text says what the one before it prints."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / name
    text = page.read_text()
    blocks = list(FENCED.finditer(text))
    scope: dict[str, object] = {}
    for block, following in zip_longest(blocks, blocks[1:]):
        if block[1] != "python":
            continue
        # In its place, so that an error names the page's line.
        code = "\n" * text.count("\n", 0, block.start(2)) + block[2]
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, str(page), "exec"), scope)
        shown = following[2] if following is not None and following[1] == "text" else ""
        assert_says(printed.getvalue(), shown)
    assert "trace" in scope


def assert_says(printed: str, shown: str) -> None:
    """The same words; numbers may differ in the last digit, as they do between processors."""
    assert NUMBER.sub("0", printed) == NUMBER.sub("0", shown)
    ours, theirs = ([float(n) for n in NUMBER.findall(text)] for text in (printed, shown))
    assert ours == pytest.approx(theirs, rel=0.03, abs=0.001)


def anchors(page: Path) -> set[str]:
    """What GitHub calls a page's headings in links: lower case, hyphens for spaces, few signs."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_the_readme_names_every_page() -> None:
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", (ROOT / "README.md").read_text()))
    assert linked >= {page.name for page in (ROOT / "docs").glob("*.md")}
