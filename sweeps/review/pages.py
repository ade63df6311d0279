"""The server's own pages: the list of runs, two sweeps side by side, and where a token is typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from sweeps.report import wording

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
ASSETS = {
    "report.css": ("sweeps.report", "style.css", "text/css"),
    "review.css": ("sweeps.review", "review.css", "text/css"),
    "runs.js": ("sweeps.review", "runs.js", "text/javascript"),
}


def asset(name: str) -> tuple[bytes, str]:
    """A style sheet or script, and its type. Raises KeyError for another name."""
    package, file, kind = ASSETS[name]
    return files(package).joinpath("page", file).read_bytes(), f"{kind}; charset=utf-8"


def runs_page(runs: Sequence[Mapping[str, Any]], words: str, folder: str) -> str:
    """The list of runs; ``words`` are what was searched for."""
    return _template("runs.html").render(runs=runs, words=words, folder=folder)


def compare_page(names: tuple[str, str], comparison: Mapping[str, Any]) -> str:
    """Two sweeps side by side, whose runs have the ``names``."""
    return _template("compare.html").render(names=names, found=comparison)


def login_page(wrong: bool) -> str:
    """Where a token is typed."""
    return _template("login.html").render(wrong=wrong)


def problem_page(message: str) -> str:
    """What can't be shown, and why."""
    return _template("problem.html").render(message=message)


def run_path(name: str) -> str:
    """Where a run's page is."""
    return f"/runs/{quote(name, safe='')}/"


@lru_cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("sweeps.review", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for each in ("number", "significant", "span", "count", "settings", "capitalised"):
        environment.filters[each] = getattr(wording, each)
    environment.filters["run_path"] = run_path
    return environment.get_template(name)
