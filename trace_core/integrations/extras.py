"""What to install, said where an optional package is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Import optional packages in here; one that is missing raises ModuleNotFoundError naming the
    extra of tracerank that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ModuleNotFoundError(
            f"trace_core.integrations.{extra} needs the package {package!r}; install it with: "
            f"pip install 'tracerank[{extra}]'",
            name=package,
        ) from error
