"""Listening: on a loopback address for whoever is at the machine, elsewhere with a token only."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import uvicorn

from sweeps.review.access import is_loopback, read_token
from sweeps.review.app import build_app
from sweeps.review.errors import ReviewError
from sweeps.review.runs import Runs

GRACE = 3
"""Seconds that answers under way get when the server is ended."""


class _Server(uvicorn.Server):
    """Says so once it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def serve(
    folder: Path,
    on_ready: Callable[[str], None] = lambda url: None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token_file: Path | None = None,
    certificate: tuple[Path, Path] | None = None,
) -> None:
    """Serve the runs in a folder until it is interrupted.

    Args:
        folder: a folder of run directories, or a run directory.
        on_ready: called with the server's address once it answers.
        host: the address to listen at. One that other machines reach needs a ``token_file``.
        port: 0 for any that is free.
        token_file: holds the token that whoever asks must give.
        certificate: files of a TLS certificate and its key (PEM), to answer by HTTPS.

    Raises FileNotFoundError if there is no such folder; ReviewError for a token that is missing or
    of no use, or an address that can't be listened at.
    """
    if token_file is None and not is_loopback(host):
        raise ReviewError(
            f"--host {host}: other machines reach this address, so that a token is needed: give "
            "--token-file FILE, a file with one line that only you may read; or listen at "
            "127.0.0.1 and come by ssh -L"
        )
    token = None if token_file is None else read_token(token_file)
    if certificate is not None:
        _require_certificate(*certificate)
    runs = Runs(folder)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    scheme = "http" if certificate is None else "https"
    shown = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{shown}:{port}/"
    config = uvicorn.Config(
        build_app(runs, token),
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        # Whoever never ends a request doesn't keep the server from ending.
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=None if certificate is None else str(certificate[0]),
        ssl_keyfile=None if certificate is None else str(certificate[1]),
    )
    _Server(config, lambda: on_ready(url)).run(sockets=[listening])


def _require_certificate(certificate: Path, key: Path) -> None:
    def asked() -> str:
        # Who starts a server in the background isn't there to type it.
        raise ReviewError(f"--tls: {key} is locked with a passphrase; give a key without one")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, asked)
    except OSError as error:
        raise ReviewError(
            f"--tls: {certificate} and {key} are no certificate and its key, both as PEM ({error})"
        ) from None


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ReviewError(f"--host {host}: no such address ({error})") from None
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise ReviewError(
            f"can't listen at {host}:{port} ({error.strerror}); choose another one with --port"
        ) from None
    return listening
