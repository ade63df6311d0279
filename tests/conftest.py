from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from browsing import CHROMIUM, SWITCHES
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

# A machine that is busy is no fault of what is tested.
settings.register_profile("tracerank", deadline=None)
settings.load_profile("tracerank")


@pytest.fixture(autouse=True)
def import_path_of_its_own() -> Iterator[None]:
    """A sweep in this process adds the folders of its user's modules to the import path."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not for the session: while it runs, other tests can't start a browser of their own.
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=SWITCHES.split())
        yield chromium
        chromium.close()
