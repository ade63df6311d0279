"""The report of a very large sweep: how long it takes to build, and how its page answers.

The command builds it as the sweep left the run directory, and with no scores kept; then a real
browser opens the page.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks import fresh
from benchmarks.timing import markdown

MODELS = 10_000
COMMANDS, OPENED = 3, 5
"""Times that the report is built, and its page opened."""
STEPS = 60
"""Of the slider, each time."""
BUILT, SIZE, INTERACTIVE, STEP, HEAP = 30.0, 6.0, 1.5, 16.0, 150.0
"""The aims: seconds, MB, seconds, milliseconds, MB."""
STAGES = {
    "the study is read": "sweeps.results.read_trials",
    "the scores": "sweeps.results.replicate_table",
    "the ranking": "sweeps.results.rank",
    "what it tells of performance": "sweeps.results.assess_ranking",
    "what the page says": "sweeps.report.build_facts",
    "the page": "sweeps.report.render",
}
CHROMIUM = Path("/usr/bin/chromium")
SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)

_WATCH = """
let kept;
Object.defineProperty(window, "page", {
  configurable: true,
  get: () => kept,
  set(page) {
    kept = page;
    // A task of its own after the next frame: by then what was drawn is shown.
    requestAnimationFrame(() => setTimeout(() => (window.interactive = performance.now())));
  },
});
"""
_SLIDE = """async (steps) => {
  const slider = document.querySelector("input.alpha");
  const frame = () => new Promise(requestAnimationFrame);
  const taken = [];
  for (let step = 0; step < steps; step++) {
    await frame();
    let from;
    // Asked for before the page asks, so that it comes first in the frame.
    requestAnimationFrame(() => (from = performance.now()));
    const begun = performance.now();
    slider.value = 0.2 + 0.01 * (step % 60);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    const heard = performance.now() - begun;
    await frame();
    document.body.getBoundingClientRect();
    taken.push(heard + performance.now() - from);
  }
  return taken;
}"""


def table(models: int = MODELS) -> str:
    """Both tables, as Markdown."""
    from benchmarks.large_run import make_run

    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), models)
        return f"{building(run.path)}\n\n{browsing(run.report / 'index.html')}"


def building(run: Path) -> str:
    """How long the report takes, by stage, with the scores that are kept and without."""
    kept = [_command(run) for _ in range(COMMANDS)]
    stages = fresh.run("benchmarks.report", str(run))
    scores = run / "scores.npz"
    scores.unlink()
    without = fresh.run("benchmarks.report", str(run))
    scores.unlink()
    alone = _command(run)
    rows = [["", "as the sweep leaves it", "no scores kept", "aim"]]
    rows += [[name, f"{stages[name]:.1f} s", f"{without[name]:.1f} s", ""] for name in STAGES]
    rows.append(
        ["`tracerank report`, in all", _told(kept, "s"), f"{alone:.1f} s", f"≤ {BUILT:g} s"]
    )
    return markdown(rows)


def _command(run: Path) -> float:
    """Seconds of ``tracerank report``, its start included."""
    begun = time.perf_counter()
    command = [sys.executable, "-c", "from sweeps.cli import main; main()", "report", str(run)]
    subprocess.run(command, cwd=fresh.ROOT, check=True, capture_output=True)
    return time.perf_counter() - begun


def stages(run: Path) -> dict[str, float]:
    """Seconds of each stage of the command, in this process."""
    import importlib

    from sweeps.cli import main

    found = dict.fromkeys(STAGES, 0.0)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                found[name] += time.perf_counter() - begun

        return call

    for name, path in STAGES.items():
        module, function = path.rsplit(".", 1)
        owner = importlib.import_module(module)
        patch.object(owner, function, timed(name, getattr(owner, function))).start()
    # What it answers on stdout is nobody's here.
    with contextlib.redirect_stdout(io.StringIO()):
        main(["report", str(run)], standalone_mode=False)
    return found


def browsing(page: Path) -> str:
    """What a real browser makes of the page."""
    rows = [["the page", "", "aim"]]
    rows.append(["index.html", f"{page.stat().st_size / 1e6:.2f} MB", f"≤ {SIZE:g} MB"])
    if not CHROMIUM.exists():
        return markdown([*rows, ["in a browser", f"none at {CHROMIUM}", ""]])
    interactive, steps, heaps = _opened(page)
    medians = [median(each) for each in steps]
    rows += [
        ["interactive after", _told(interactive, "s", 2), f"≤ {INTERACTIVE:g} s"],
        ["a step of α", _told(medians, "ms"), f"≤ {STEP:g} ms"],
        ["JS heap", _told(heaps, "MB"), f"≤ {HEAP:g} MB"],
    ]
    return markdown(rows)


def _opened(page: Path) -> tuple[list[float], list[list[float]], list[float]]:
    """Of each time: seconds to interactive, milliseconds of each step, MB of heap."""
    from playwright.sync_api import sync_playwright

    interactive, steps, heaps = [], [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=SWITCHES.split())
        for _ in range(OPENED):
            context = browser.new_context(viewport={"width": 1280, "height": 844})
            tab = context.new_page()
            tab.add_init_script(_WATCH)
            tab.goto(page.as_uri(), wait_until="commit")
            # The page's policy forbids what Playwright's own waiting would evaluate.
            while (ready := tab.evaluate("window.interactive")) is None:
                tab.wait_for_timeout(50)
            interactive.append(ready / 1e3)
            # The slow drawings follow when nothing has been changed for a while.
            tab.wait_for_timeout(1_500)
            used = context.new_cdp_session(tab).send("Runtime.getHeapUsage")["usedSize"]
            heaps.append(used / 1e6)
            steps.append(tab.evaluate(_SLIDE, STEPS))
            context.close()
        browser.close()
    return interactive, steps, heaps


def _told(values: list[float], unit: str, digits: int = 1) -> str:
    """The median, and the range."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, median, max))
    return f"{middle} {unit} ({low}–{high})"


if __name__ == "__main__":
    print(json.dumps(stages(Path(sys.argv[1]))))
