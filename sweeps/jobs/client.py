"""The Jobs API of a Ray cluster, asked by HTTP: with time-outs, and errors that say what to do.

Ray's own client waits for ever, lets the environment overrule the address it was given, and takes
seconds to import.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as SlowError

from sweeps.jobs.address import Address
from sweeps.jobs.credentials import Token
from sweeps.jobs.errors import (
    JobError,
    JobNotFoundError,
    RefusedError,
    UnreachableError,
    size,
)
from sweeps.jobs.job import Job, folded
from sweeps.plain_text import plain

CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
PAUSES = (0.5, 1.5)
"""Between the tries of a request that may be made twice."""

RAY_LEAST, RAY_BELOW = (2, 60), (3, 0)
PYTHON_LEAST = (3, 11)


@dataclass(frozen=True)
class Versions:
    """What runs on a cluster; ``python`` is empty where it doesn't say."""

    ray: str
    python: str


class Cluster:
    """One cluster's Jobs API. Every method raises UnreachableError and RefusedError.

    A connection may take CONNECT_SECONDS, and each piece of an answer READ_SECONDS.
    """

    def __init__(
        self, address: Address, token: Token | None = None, authorities: Path | None = None
    ) -> None:
        self.address = address
        self._token = token
        self.tls = _trusting(authorities) if address.secure else None
        self.headers = {"Authorization": f"Bearer {token.value}"} if token else {}
        self.proxy = _proxy(address)
        options: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            "retries": False,
            "ssl_context": self.tls,
        }
        self._pool = (
            urllib3.ProxyManager(self.proxy, **options)
            if self.proxy
            else urllib3.PoolManager(**options)
        )

    def versions(self) -> Versions:
        """What runs there."""
        try:
            ray = self._json("GET", "/api/version")["ray_version"]
        except (KeyError, TypeError):
            raise self._not_a_ray("it tells no Ray version") from None
        status, body = self._ask("GET", "/api/v0/cluster_metadata", safe=True)
        python = ""
        if status == 200:
            try:
                python = json.loads(body)["data"]["pythonVersion"]
            except (ValueError, LookupError, TypeError):
                python = ""
        return Versions(plain(ray), plain(python))

    def jobs(self) -> list[Job]:
        """Every job of ours, the latest first."""
        rows = self._json("GET", "/api/jobs/")
        if not isinstance(rows, list):
            raise self._not_a_ray("it lists no jobs")
        return folded(rows)

    def job(self, job_id: str) -> Job:
        """The job of that id. Raises JobNotFoundError if there is none."""
        for job in self.jobs():
            if job.id == job_id:
                return job
        raise JobNotFoundError(
            f"{job_id}: {self.address.url} knows no such job ('tracerank jobs' lists those it has; "
            "a cluster that was started anew knows none of before)"
        )

    def latest(self, job: Job) -> Job:
        """What has become of the attempt. Raises JobNotFoundError if it has been deleted."""
        row = self._row(job.submission_id)
        found = folded([row])
        if not found or found[0].id != job.id:
            raise JobNotFoundError(f"{job.id}: {self.address.url} doesn't know this job any more")
        return replace(found[0], attempts=job.attempts)

    def is_taken(self, submission_id: str) -> bool:
        """Whether Ray has a job of that id, ours or another's."""
        return self._row(submission_id) is not None

    def _row(self, submission_id: str) -> object:
        path = job_path(submission_id)
        status, body = self._ask("GET", path, safe=True)
        if status == 404 and b"does not exist" in body:
            return None
        return self._parsed(path, status, body)

    def submit(self, request: dict[str, Any]) -> bool:
        """Ask for a job. False if its submission id is taken: somebody was faster, or the answer to
        an earlier try was lost.
        """
        name = request["submission_id"]
        try:
            status, answer = self._send(request)
        except UnreachableError:
            # The request may have arrived; if not, an id can't be taken twice.
            if self.is_taken(name):
                return True
            status, answer = self._send(request)
        if status == 200:
            return True
        if self.is_taken(name):
            return False
        raise self._unexpected("POST /api/jobs/", status, answer)

    def _send(self, request: dict[str, Any]) -> tuple[int, bytes]:
        return self._ask("POST", "/api/jobs/", json.dumps(request).encode())

    def stop(self, job: Job) -> bool:
        """Have Ray end it: SIGTERM, and SIGKILL seconds later. False if it wasn't running."""
        answer = self._json("POST", f"{job_path(job.submission_id)}/stop")
        return isinstance(answer, dict) and answer.get("stopped") is True

    def log(self, job: Job) -> str:
        """All that the latest attempt has written so far."""
        answer = self._json("GET", f"{job_path(job.submission_id)}/logs")
        text = answer.get("logs") if isinstance(answer, dict) else None
        if not isinstance(text, str):
            raise self._not_a_ray("it gives no log")
        return text

    def has_package(self, name: str) -> bool:
        """Whether a package is there already; then it is kept for some minutes at least."""
        path = f"/api/packages/gcs/{name}"
        status, body = self._ask("GET", path, safe=True)
        if status == 404 and b"does not exist" in body:
            return False
        if status != 200:
            raise self._unexpected(f"GET {path}", status, body)
        return True

    def send_package(self, name: str, data: bytes) -> None:
        """Store a package."""
        path = f"/api/packages/gcs/{name}"
        status, body = self._ask("PUT", path, data, safe=True)
        if status == 413:
            raise UnreachableError(
                f"{self.address.url} takes no {size(len(data))} at once, as a proxy before it may "
                "be set: have its limit raised, or send less with --exclude"
            )
        if status != 200:
            raise self._unexpected(f"PUT {path}", status, body)

    def _json(self, method: str, path: str) -> Any:
        status, body = self._ask(method, path, safe=True)
        return self._parsed(path, status, body)

    def _parsed(self, path: str, status: int, body: bytes) -> Any:
        if status != 200:
            raise self._unexpected(path, status, body)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            start = plain(body[:60].decode(errors="replace"))
            raise self._not_a_ray(
                f"{path} gave no JSON but {start!r}" if start else f"{path} gave nothing"
            ) from None

    def _ask(
        self, method: str, path: str, body: bytes | None = None, *, safe: bool = False
    ) -> tuple[int, bytes]:
        """Status and body. What is ``safe`` may be asked again where the first try got lost."""
        pauses: Sequence[float] = PAUSES if safe else ()
        for pause in (*pauses, None):
            try:
                status, answer = self._once(method, path, body)
            except HTTPError as error:
                if pause is None or isinstance(error, SlowError | NewConnectionError | SSLError):
                    raise self._unreachable(error) from None
            else:
                if status not in (502, 503, 504) or pause is None:
                    return status, answer
            time.sleep(pause)
        raise AssertionError

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = dict(self.headers)
        if body is not None:
            json_or_not = "octet-stream" if method == "PUT" else "json"
            headers["Content-Type"] = f"application/{json_or_not}"
        answer = self._pool.request(
            method, self.address.url + path, body=body, headers=headers, redirect=False
        )
        if answer.status in (401, 403):
            raise self.refused(answer.status)
        if 300 <= answer.status < 400:
            to = plain(answer.headers.get("Location", "nowhere"))
            raise self._not_a_ray(f"it sends us on to {to}; if that is the cluster, give that")
        return answer.status, answer.data

    def refused(self, status: int) -> RefusedError:
        """The error for 401 and 403, wherever they came up."""
        where = (
            "put the cluster's token into RAY_AUTH_TOKEN, or name its file with --token-file or "
            "RAY_AUTH_TOKEN_PATH ('ray get-auth-token' prints it there)"
        )
        if self._token is None:
            return RefusedError(
                f"{self.address.url} asks for a token ({status}), and none was found: {where}"
            )
        return RefusedError(
            f"{self.address.url} refused the token of {self._token.source} ({status}): {where}"
        )

    def _unreachable(self, error: HTTPError) -> UnreachableError:
        url = self.address.url
        other = "name another with --address or TRACERANK_ADDRESS"
        if isinstance(error, NameResolutionError):
            text = f"{url}: there is no host of that name"
        elif isinstance(error, ProxyError):
            text = f"{url}: its proxy doesn't answer ({_reason(error)})"
        elif isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
            text = f"{url}: nothing answers within {CONNECT_SECONDS:g} s"
        elif isinstance(error, ReadTimeoutError):
            text = f"{url}: takes connections, but gives no answer within {READ_SECONDS:g} s"
        elif isinstance(error, NewConnectionError):
            text = f"{url}: no cluster answers there ({_reason(error)})"
        elif isinstance(error, SSLError):
            return UnreachableError(self._untrusted(str(error)))
        else:
            text = f"{url}: the connection was cut ({_reason(error)})"
            if not self.address.secure:
                other += ", or write https:// if it speaks TLS"
        return UnreachableError(f"{text}; {other}")

    def _untrusted(self, said: str) -> str:
        url = self.address.url
        if re.search("wrong.version.number|record.layer.failure|http.request", said, re.IGNORECASE):
            return f"{url}: doesn't speak TLS; if it speaks plain HTTP, write http://"
        reason = re.search(r"certificate verify failed: ([^(]*)", said)
        why = reason[1].strip() if reason else plain(said)
        return (
            f"{url}: its certificate can't be trusted ({why}); name the file of the authority that "
            "signed it with --ca or TRACERANK_CA, and the host as the certificate does"
        )

    def _not_a_ray(self, why: str) -> UnreachableError:
        return UnreachableError(
            f"{self.address.url} doesn't answer as a Ray cluster's dashboard does: {why}; name "
            "another address with --address or TRACERANK_ADDRESS"
        )

    def _unexpected(self, what: str, status: int, body: bytes) -> UnreachableError:
        lines = [line for line in body.decode(errors="replace").splitlines() if line.strip(" .")]
        last = plain(lines[-1]) if lines else "nothing more"
        if status == 404 or last.startswith("<"):
            return self._not_a_ray(f"{what} gave {status}")
        return UnreachableError(f"{self.address.url}: {what} failed ({status}): {last}")


def job_path(submission_id: str) -> str:
    """Where the Jobs API has an attempt."""
    return f"/api/jobs/{quote(submission_id, safe='')}"


def _proxy(address: Address) -> str | None:
    """The environment's proxy for it, if any."""
    if address.loopback or proxy_bypass(address.host):
        return None
    proxy = getproxies().get("https" if address.secure else "http")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _reason(error: Exception) -> str:
    """The system's words for it."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror.lower()
        below = below.__cause__ or below.__context__
    return plain(str(error).rpartition(": ")[2] or type(error).__name__)


def _trusting(authorities: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities and str(authorities))
    except ssl.SSLError:
        raise JobError(f"--ca {authorities}: holds no certificates; give a PEM file") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise JobError(f"--ca {authorities}: can't be read: {reason}") from None


def check_versions(cluster: Cluster, note: Callable[[str], None]) -> None:
    """Whether we can work with what runs there; ``note`` is told of lesser differences.

    Raises RefusedError if not.
    """
    there = cluster.versions()
    url, ray, python = cluster.address.url, _numbers(there.ray), _numbers(there.python)
    if not RAY_LEAST <= ray < RAY_BELOW:
        raise RefusedError(
            f"{url} runs Ray {there.ray}; must be at least {_words(RAY_LEAST)} and below "
            f"{_words(RAY_BELOW)}: use another cluster, or have that one updated"
        )
    if python and python < PYTHON_LEAST:
        raise RefusedError(
            f"{url} runs Python {there.python}; must be at least {_words(PYTHON_LEAST)}: use "
            "another cluster, or have that one updated"
        )
    for what, theirs, ours in (
        ("Ray", there.ray, _installed("ray")),
        ("Python", there.python, python_version()),
    ):
        if theirs and ours and _numbers(theirs) != _numbers(ours):
            note(f"{what} is {theirs} there and {ours} here")


def _numbers(text: str) -> tuple[int, ...]:
    """Major and minor."""
    match = re.match(r"(\d{1,6})\.(\d{1,6})", text)
    return (int(match[1]), int(match[2])) if match else ()


def _words(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
