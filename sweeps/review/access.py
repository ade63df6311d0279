"""Who may ask the review server for what.

On a loopback address whoever is at the machine may; elsewhere a token is demanded, as a bearer for
programs, and for a browser typed once and kept as a cookie that is not the token itself. Pages of
other sites that the same browser shows get nothing: neither by a name of theirs that leads to this
machine (without a token the Host header must name a loopback address), nor by a form (what writes
must be from the server's own origin).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import stat
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from h11 import LocalProtocolError

from sweeps.review.errors import ReviewError

COOKIE = "tracerank"
SHORTEST_TOKEN = 16
LONGEST_BODY = 1_000_000
"""Bytes that a request may have: a decision has two texts of 10,000 characters, of 12 bytes at most
as JSON writes them.
"""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = ("/login", "/assets/report.css", "/assets/review.css")
"""Where a token is typed, and how that looks."""
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]


def is_loopback(host: str) -> bool:
    """Whether a host, as it is bound or asked for, is this machine alone."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """The token in a file that nobody else may read.

    Raises ReviewError for a file that is missing, open to others, or holds no token.
    """
    make = f"(umask 077; openssl rand -hex 32 > {path})"
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise ReviewError(f"{path}: there is no such token file; make one with: {make}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReviewError(f"{path}: can't be read as a token ({error})") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ReviewError(f"{path}: others may read it; a token file is for you alone: chmod 600")
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ReviewError(
            f"{path}: holds no token: one line of {SHORTEST_TOKEN} or more printable ASCII "
            f"characters; make one with: {make}"
        )
    return token


class Access:
    """Lets through who may ask, and gives every answer the headers that a browser heeds."""

    def __init__(self, app: App, token: str | None) -> None:
        self._app = app
        self._token = token
        self._session = _session(token) if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is None:
            await self._app(scope, receive, self._with_headers(send))
        else:
            await _refuse(*refused, scope, headers, self._with_headers(send))

    def signed_in(self, token: str) -> str | None:
        """The cookie for someone who gives the token; None for another one."""
        if self._token is None or not hmac.compare_digest(token.encode(), self._token.encode()):
            return None
        return self._session

    def _refused(self, scope: Scope, headers: dict[bytes, str]) -> tuple[int, str] | None:
        host = headers.get(b"host", "")
        if self._token is None and not is_loopback(_hostname(host)):
            return 403, "this server answers to a loopback address alone, such as 127.0.0.1"
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            origin = headers.get(b"origin")
            if origin not in (None, f"http://{host}", f"https://{host}"):
                return 403, "a page of another site may not write here"
            length = headers.get(b"content-length", "0")
            if not length.isdecimal() or int(length) > LONGEST_BODY:
                return 413, f"a request has at most {LONGEST_BODY:,} bytes, and says how many"
            if b"transfer-encoding" in headers:
                return 411, "a request says its Content-Length"
        if self._token is not None and scope["path"] not in _OPEN and not self._known(headers):
            return 401, "a token is needed: send Authorization: Bearer TOKEN, or sign in at /login"
        return None

    def _known(self, headers: dict[bytes, str]) -> bool:
        assert self._token is not None
        assert self._session is not None
        kind, _, given = headers.get(b"authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode(), self._token.encode())
        try:
            cookie = SimpleCookie(headers.get(b"cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(
            cookie.value.encode(), self._session.encode()
        )

    @staticmethod
    def _with_headers(send: Send) -> Send:
        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            # Who broke the protocol in the middle of a request can't be answered.
            with contextlib.suppress(LocalProtocolError):
                await send(message)

        return sending


def _session(token: str) -> str:
    return hmac.new(token.encode(), b"tracerank review session", hashlib.sha256).hexdigest()


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _refuse(
    status: int, reason: str, scope: Scope, headers: dict[bytes, str], send: Send
) -> None:
    from starlette.responses import JSONResponse, RedirectResponse, Response

    wants_page = "text/html" in headers.get(b"accept", "") and scope["method"] == "GET"
    answer: Response
    if status == 401 and wants_page and b"authorization" not in headers:
        answer = RedirectResponse("/login", status_code=303)
    else:
        challenge = {"www-authenticate": "Bearer"} if status == 401 else None
        answer = JSONResponse({"detail": reason}, status_code=status, headers=challenge)
    raw: list[Any] = answer.raw_headers
    await send({"type": "http.response.start", "status": answer.status_code, "headers": list(raw)})
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})
