"""What can be sampled, and where a study can be kept: the rules of `sampler`, `first`, `warm_start`
and `storage`.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from search_spaces import Choice, Dimension, Grid, Space, SpaceError, parse_point
from search_spaces.errors import did_you_mean, shown
from sweeps.config_messages import MOST

if TYPE_CHECKING:
    from sweeps.config import SweepConfig

SAMPLERS = ("tpe", "nsga2", "gp", "cmaes", "random", "qmc", "grid")
JOURNAL = "journal"
"""The storage of a study that is kept in its run directory."""

STORAGE_RULE = (
    f"{JOURNAL} (a file in the run directory), sqlite:///PATH or postgresql://USER@HOST/DATABASE"
)


def shared_numbers(space: Space) -> dict[str, Dimension]:
    """The ranges of numbers, of more than one value, that every model of a space has."""
    branches = list(space.branches())
    return {
        name: dimension
        for name, dimension in space.parameters().items()
        if not isinstance(dimension, Choice)
        and dimension.size() != 1
        and all(name in branch for branch in branches)
    }


def checked_storage(value: object) -> str:
    """The storage as it is kept: a path of SQLite's made absolute. Raises ValueError.

    A URL that holds a password is refused, and nothing of it is repeated.
    """
    if value == JOURNAL:
        return JOURNAL
    text = shown(value)
    if "@" in text:
        # It may be a password as well as not.
        text = "something that is no URL"
    if not isinstance(value, str) or "://" not in value or not value.isprintable():
        hint = did_you_mean(value, [JOURNAL]) if isinstance(value, str) else ""
        raise ValueError(f"got {text}; must be {STORAGE_RULE}{hint}")
    try:
        url = urlsplit(value)
        # A password with one of /?#: in it would otherwise end up in other parts.
        torn = url.netloc and (url.fragment or "@" in url.path + url.query or url.port == 0)
        secret = url.password is not None or any(
            key in ("password", "sslpassword") for key, _ in parse_qsl(url.query)
        )
    except ValueError:
        torn, secret = True, False
    if torn:
        raise ValueError(f"got a URL that can't be read; must be {STORAGE_RULE}")
    if secret:
        raise ValueError(
            "the URL holds a password, which would be kept in the run directory; leave it out, and "
            "put it into ~/.pgpass or the file that PGPASSFILE names"
        )
    if url.scheme == "sqlite":
        if url.netloc or not url.path.strip("/") or url.path == "/:memory:":
            raise ValueError(f"got {text}; must be sqlite:///PATH, the path of a file")
        return f"sqlite:///{Path(url.path.removeprefix('/')).absolute()}"
    if url.scheme not in ("postgresql", "postgresql+psycopg"):
        hint = did_you_mean(url.scheme, ["sqlite", "postgresql"])
        raise ValueError(f"got a URL of {shown(url.scheme)}; must be {STORAGE_RULE}{hint}")
    _need("psycopg", "postgresql", "a study in PostgreSQL")
    return value


def _need(package: str, extra: str, what: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{what} needs the package {package!r}; install it with: pip install "
            f"'tracerank[{extra}]'"
        )


def first_points(space: Space | None, value: object) -> tuple[dict[str, Any], ...]:
    """The points to try first, in the types of the space. Raises ValueError or SpaceError.

    Without a valid space nothing can be said of them.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"got {shown(value)}; must be a list of mappings of parameters to values")
    if space is None:
        return ()
    points: list[dict[str, Any]] = []
    problems: list[str] = []
    for position, given in enumerate(value):
        try:
            points.append(parse_point(space, given, f"first.{position}"))
        except SpaceError as error:
            problems += error.problems
        if len(problems) > MOST:
            break
    if problems:
        raise SpaceError(*problems)
    return tuple(points)


def earlier_runs(value: object) -> tuple[str, ...]:
    """The run directories to start from. Raises ValueError."""
    if not isinstance(value, list | tuple) or not all(
        isinstance(path, str) and path.strip() for path in value
    ):
        raise ValueError(f"got {shown(value)}; must be a list of run directories")
    twice = [path for path, count in Counter(value).items() if count > 1]
    if twice:
        raise ValueError(f"got {shown(list(value))}; {shown(twice[0])} stands there twice")
    return tuple(value)


def sampler_problems(config: SweepConfig) -> Sequence[str]:
    """Why the sampler can't do what it is asked for; nothing if it can."""
    checks = {"cmaes": _cmaes_problems, "nsga2": _nsga2_problems, "grid": _grid_problems}
    check = checks.get(config.sampler.name)
    return check(config) if check else ()


def _cmaes_problems(config: SweepConfig) -> list[str]:
    problems = []
    if len(config.objectives) > 1:
        problems.append(
            f"sampler.name: got 'cmaes' with {len(config.objectives)} objectives; "
            "it takes one; all other samplers take several"
        )
    numbers = list(shared_numbers(config.space))
    if len(numbers) < 2:
        problems.append(
            f"sampler.name: got 'cmaes' for a space in which every model has {len(numbers)} ranges "
            f"of numbers ({', '.join(numbers) or 'none'}); it needs two or more, and draws all "
            "else at random; tpe, nsga2 and gp take choices too"
        )
    try:
        _need("cmaes", "cmaes", "sampler cmaes")
    except ValueError as error:
        problems.append(f"sampler.name: {error}")
    return problems


def _nsga2_problems(config: SweepConfig) -> list[str]:
    population = config.sampler.population
    if config.trials > population:
        return []
    return [
        f"sampler.population: got {population} for {config.trials} trials; nsga2 draws its first "
        "population at random: more trials, or a smaller population"
    ]


def _grid_problems(config: SweepConfig) -> list[str]:
    problems = []
    if config.first:
        problems.append("first: sampler grid has an order of its own; leave one of them out")
    try:
        size = Grid(config.space).size
    except SpaceError as error:
        return [*problems, *error.problems]
    if config.trials > size:
        problems.append(
            f"trials: got {config.trials}; must be at most {size}, the size of the grid"
        )
    return problems
