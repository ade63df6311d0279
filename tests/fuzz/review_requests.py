"""Requests to a review server that listens on this machine, written to its socket as they are: of
all methods, paths, headers and bodies, and of bytes that are no requests.

Accepted is one that is answered with 2xx or 3xx; after each the server answers a plain one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import run_files
import sandbox
from fuzzing import Kind, Outcome
from hostile_values import TEXTS, json_values
from hypothesis import strategies as st

SECRET = "of-the-one-who-serves-3f1c"
HOSTILE = "a<b>&\"'{{e}} é %2e"
SECONDS = 10.0
PATIENCE = 0.4
"""Seconds without an answer after which a request is held to be none that is whole."""
MEBIBYTES = 400
"""More than this the server never takes."""


class Server:
    """A review server in a process of its own, over runs of which some are hostile."""

    def __init__(self) -> None:
        folder = sandbox.root() / "served"
        folder.mkdir()
        (sandbox.root() / "secret").write_text(SECRET)
        self.log = sandbox.root() / "served.log"
        for name in (*GOOD, *BAD):
            shutil.copytree(run_files.good(), folder / name)
        (folder / "damaged" / "study.journal").write_text("{}\n" * 3)
        (folder / "piped" / "decision.json").unlink(missing_ok=True)
        os.mkfifo(folder / "piped" / "decision.json")
        (folder / "linked" / "report" / "ranking.csv").unlink()
        (folder / "linked" / "report" / "ranking.csv").symlink_to(sandbox.root() / "secret")
        (folder / "deviant" / "study.journal").unlink()
        (folder / "deviant" / "study.journal").symlink_to("/dev/zero")
        command = [sys.executable, "-c", "from sweeps.cli import main; main()"]
        log = self.log.open("a")
        self.process = subprocess.Popen(
            [*command, "review", str(folder), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the server ended before it answered"
        self.port = int(self.address.rstrip("/").rpartition(":")[2])

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def peak(self) -> float:
        """MiB that the server took at most."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0

    def send(self, data: bytes) -> bytes:
        """What comes back until the server closes; where it waits for more of the request, until
        it is told that there is none.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as connection:
            found = b""
            # Closed while it was sent: refused.
            with contextlib.suppress(OSError):
                connection.sendall(data)
                connection.settimeout(PATIENCE)
                with contextlib.suppress(TimeoutError):
                    while piece := connection.recv(65536):
                        found += piece
                    return found
                connection.settimeout(SECONDS)
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    found += piece
            return found


@functools.cache
def server() -> Server:
    return Server()


def end() -> None:
    if server.cache_info().currsize:
        server().end()
        server.cache_clear()


GOOD = ("first", HOSTILE)
BAD = ("damaged", "piped", "linked", "deviant")
"""Runs of which the server says what is wrong with them."""
NAMES = (
    *GOOD,
    *BAD,
    "gone",
    "..",
    ".",
    "",
    "a\0b",
    "x" * 3000,
)
SHORT = [text for text in TEXTS if len(text) < 9000]
OVERLONG = (
    "%c0%ae%c0%ae/",
    "%2e%2e%2f" * 9,
    "..%5c",
    "%00",
    "%",
    "%zz",
    "%ff%fe",
    "//",
    "/./",
    ";a=b",
    "\\",
)


@st.composite
def paths(draw: st.DrawFn) -> str:
    among = draw(st.sampled_from([GOOD, GOOD, NAMES, SHORT]))
    name = quote(
        draw(st.sampled_from(among)),
        safe=draw(st.sampled_from(["", "/."])),
        errors="replace",
    )
    model = quote(draw(st.sampled_from(["a", "x", *SHORT])), errors="replace")
    whole = (
        draw(
            st.sampled_from(
                [
                    *(
                        "/",
                        "/api/runs",
                        "/api/runs/{0}",
                        "/api/runs/{0}/live",
                        "/api/runs/{0}/ranking",
                    ),
                    *(
                        "/api/runs/{0}/models/{1}",
                        "/api/runs/{0}/decisions",
                        "/api/compare?a={0}&b={1}",
                    ),
                    *(
                        "/api/compare?a=first&b={0}",
                        "/api/runs?find={0}",
                        "/?find={0}",
                        "/compare?a=first&b={0}",
                    ),
                    *(
                        "/runs/{0}/",
                        "/runs/{0}/ranking.csv",
                        "/runs/{0}/ranking.json",
                        "/runs/{0}/{1}",
                    ),
                    *(
                        "/runs/{0}/ranking.parquet",
                        "/assets/{1}",
                        "/login",
                        "/api/openapi.json",
                        "/{1}",
                        "{1}",
                    ),
                ]
            )
        )
        .replace("{0}", name)
        .replace("{1}", model)
    )
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(whole)))
        whole = whole[:at] + draw(st.sampled_from(OVERLONG)) + whole[at:]
    return whole


METHODS = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "get",
    "X" * 300,
    "",
)
HEADERS = (
    *(
        "Host: evil.example",
        "Host: ",
        "Host: 127.0.0.1:1",
        "Host: [::1",
        "Host: a\x1bb",
        "Origin: http://evil",
    ),
    *(
        "Cookie: tracerank=a",
        'Cookie: tracerank="\\101',
        "Cookie: ;;=;",
        "Cookie: " + "a=b; " * 900,
        "If-None-Match: *",
    ),
    *(
        'If-None-Match: "' + "x" * 5000,
        "Authorization: Bearer ",
        "Authorization: Basic !!",
        "Accept: text/html",
    ),
    *(
        "Content-Length: -1",
        "Content-Length: 99999999999",
        "Content-Length: x",
        "Content-Length: 5\r\nContent-Length: 6",
    ),
    *(
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: x",
        "Expect: 100-continue",
    ),
    *(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a",
        "Range: bytes=0-",
    ),
    *(
        "Content-Type: application/json",
        "Content-Type: text/plain",
        "Content-Type: multipart/form-data; boundary=x",
    ),
    *(
        "X: " + "y" * 70_000,
        "\r\n".join(f"X{i}: y" for i in range(500)),
        "no colon",
        " folded: x",
        ": x",
        "X\0: y",
        "é: é",
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(RAW)) + draw(st.binary(max_size=30))
    method = draw(st.sampled_from(METHODS)) if draw(st.integers(0, 2)) == 2 else "GET"
    head = [
        f"{method} {draw(paths())} HTTP/{draw(st.sampled_from(['1.1'] * 9 + ['1.0', '9.9', '']))}"
    ]
    if draw(st.integers(0, 9)):
        head += [f"Host: 127.0.0.1:{server().port}", "Connection: close"]
    head += draw(
        st.sampled_from([0, 0, 0, 1, 2]).flatmap(
            lambda n: st.lists(st.sampled_from(HEADERS), min_size=n, max_size=n)
        )
    )
    body = _body(draw) if method not in ("GET", "HEAD") else b""
    if body and draw(st.integers(0, 9)):
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape") + body


CHUNKED = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
RAW = (
    *(
        b"",
        b"\r\n" * 50,
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 99,
    ),
    *(
        b"GET / HTTP/1.1\n\n",
        b"GET  /  HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"A" * 200_000,
        b"GET /" + b"a" * 200_000,
    ),
    CHUNKED + b"FFFFFFFFFFFFFFFFF\r\n",
    CHUNKED + b"-1\r\nab\r\n0\r\n\r\n",
    CHUNKED + b"5\r\ntoken\r\n0\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nab",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 30,
)


def _body(draw: Callable[..., Any]) -> bytes:
    choice = {"model_id": "a", "reviewer": "Ada", "reason": "so", "ranking": "0" * 64}
    way = draw(st.sampled_from(["choice", "choice", "json", "bytes", "form", "deep"]))
    if way == "choice":
        choice[draw(st.sampled_from([*choice, "other"]))] = draw(json_values)
        try:
            return json.dumps(choice).encode()
        except (ValueError, RecursionError):
            return b"{"
    if way == "json":
        return draw(
            st.sampled_from([b"", b"null", b"[]", b"NaN", b"{", b"\xff", b"1e999", b'"\\ud800"'])
        )
    if way == "form":
        return b"token=" + draw(st.binary(max_size=40))
    return b"[" * 90_000 if way == "deep" else draw(st.binary(max_size=60))


def check(data: bytes) -> Outcome:
    answer = server().send(data)
    require_fit(answer)
    plain = server().send(
        b"GET /api/runs/first HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )
    assert plain.startswith(b"HTTP/1.1 200"), plain[:200]
    assert server().peak() < MEBIBYTES, server().peak()
    said = server().log.read_text(errors="replace")
    server().log.write_text("")
    assert "Traceback" not in said, said[-1500:]
    return "accepted" if answer[9:10] in (b"2", b"3") else "refused"


def require_fit(answer: bytes) -> None:
    """Raise AssertionError for a failure of the server, or for what should be in no answer."""
    status = answer[9:12]
    assert SECRET.encode() not in answer
    assert b"root:x:0" not in answer
    assert b"Traceback" not in answer
    # What is wrong with a run directory is the server's to tell, in words.
    if status[:1] == b"5":
        assert status in (b"500", b"503"), status
        assert b"the server failed" not in answer, answer[-400:]
        assert any(name.encode() in answer for name in BAD), answer[-400:]
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"text/html" in head:
        # What was asked for is shown as text.
        assert b"<b>x</b>" not in body
        assert b"a<b>&" not in body


KINDS = [Kind("requests", requests(), check, 0.04, server)]
