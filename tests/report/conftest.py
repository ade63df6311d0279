from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Opened
from made_up import Sweep
from playwright.sync_api import Browser

from sweeps.report import write_report


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Opened]]:
    contexts = []

    def open_page(path: Path, width: int = 1280, **options: Any) -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 844}, **options)
        contexts.append(context)
        page = context.new_page()
        opened = Opened(page, path, [], [])
        page.on("request", lambda request: opened.requests.append(request.url))
        page.on("console", lambda message: opened.complaints.append(message.text))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', "
            "event => console.log('policy: ' + event.violatedDirective))"
        )
        page.goto(path.as_uri(), wait_until="load")
        return opened

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def show(visit: Callable[..., Opened], tmp_path: Path) -> Callable[..., Opened]:
    def open_report(sweep: Sweep, **options: Any) -> Opened:
        return visit(write_report(tmp_path / "report", **sweep.arguments()), **options)

    return open_report
