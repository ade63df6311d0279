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
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    contexts = []

    def open_report(sweep: Sweep, width: int = 1280, **options: Any) -> Opened:
        path = write_report(tmp_path / "report", **sweep.arguments())
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

    yield open_report
    for context in contexts:
        context.close()
