"""A real browser that opens reports, and notes what they ask for and complain of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page

CHROMIUM = Path("/usr/bin/chromium")
SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
needs_browser = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs a browser at {CHROMIUM}")


@dataclass
class Opened:
    """A page that was loaded, and what it asked for or complained of meanwhile."""

    page: Page
    path: Path
    requests: list[str]
    complaints: list[str]

    def alive(self) -> Page:
        """The page, once its scripts have drawn it."""
        self.page.wait_for_function("window.page !== undefined")
        return self.page

    def assert_quiet(self) -> None:
        """Only the file and the icon inside it were asked for; nothing was complained of."""
        asked = [url for url in self.requests if not url.startswith(("data:", "blob:"))]
        assert asked == [self.path.as_uri()]
        assert self.complaints == []
