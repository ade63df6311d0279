"""Where the cluster is: the address of its Jobs API, and who says so."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from sweeps.jobs.errors import JobError
from sweeps.plain_text import plain

DEFAULT = "http://127.0.0.1:8265"
VARIABLES = ("TRACERANK_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Looked at in this order where no address is given."""

_RULE = "give HOST:PORT, http://HOST:PORT or https://HOST:PORT of the cluster's dashboard"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.%]*")


@dataclass(frozen=True)
class Address:
    """A checked address: ``url`` without a slash at its end, and where it came from."""

    url: str
    source: str

    @property
    def host(self) -> str:
        """The name or number of the machine."""
        return urlsplit(self.url).hostname or ""

    @property
    def secure(self) -> bool:
        """Whether the traffic is encrypted."""
        return self.url.startswith("https:")

    @property
    def loopback(self) -> bool:
        """Whether it is this machine's own."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def find_address(given: str | None, environment: Mapping[str, str]) -> Address:
    """The address as given, else the environment's, else Ray's own default.

    Ray's own tools let the environment overrule what was given; here it never does.
    ``RAY_ADDRESS`` counts only where it is a web address: it may be that of Ray itself.

    Raises JobError for what is no address.
    """
    if given is not None:
        return _checked(given, "--address")
    for name in VARIABLES:
        value = environment.get(name, "").strip()
        if value and (name != "RAY_ADDRESS" or re.match("https?://", value)):
            return _checked(value, name)
    return Address(DEFAULT, "the default")


def _checked(text: str, source: str) -> Address:
    value = text.strip()
    scheme, mark, _ = value.partition("://")
    if mark and scheme.lower() not in ("http", "https"):
        hint = " (ray:// is Ray Client's)" if scheme.lower() == "ray" else ""
        raise _bad(text, source, f"{scheme}:// is not spoken here{hint}")
    try:
        parts = urlsplit(value if mark else f"http://{value}")
        port = parts.port
    except ValueError:
        raise _bad(text, source, "its port is not a number from 1 to 65535") from None
    if parts.username is not None or parts.password is not None:
        shown = f"{parts.scheme}://…@{parts.hostname}"
        raise _bad(shown, source, "it holds a name or password; a token goes into RAY_AUTH_TOKEN")
    problem = _problem(parts, port, bool(mark))
    if problem:
        raise _bad(text, source, problem)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    place = "" if port is None else f":{port}"
    return Address(f"{parts.scheme}://{host}{place}{parts.path.rstrip('/')}", source)


def _problem(parts: SplitResult, port: int | None, has_scheme: bool) -> str:
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        return "it names no host"
    if port == 0 or (port is None and (not has_scheme or parts.netloc.endswith(":"))):
        return "it names no port"
    if not has_scheme and parts.path.strip("/"):
        return "a path needs http:// or https:// before it"
    if parts.query or parts.fragment:
        return "it holds a ? or #"
    if not re.fullmatch(r"[A-Za-z0-9/._~%-]*", parts.path):
        return "its path holds a character that a path can't"
    return ""


def _bad(text: str, source: str, problem: str) -> JobError:
    return JobError(f"{source}: got {plain(text)!r}: {problem}; {_RULE}")
