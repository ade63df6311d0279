"""The log of a job as it grows, without a gap or a repetition where the stream is cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from sweeps.jobs.client import CONNECT_SECONDS, READ_SECONDS, Cluster, job_path
from sweeps.jobs.errors import JobError, UnreachableError
from sweeps.jobs.job import Job
from sweeps.jobs.watch import Patience

if TYPE_CHECKING:
    from aiohttp import ClientWebSocketResponse

QUIET_SECONDS = 5.0
"""After so long without a word the job's state is asked for: a stream may hang at its end."""
HEARTBEAT_SECONDS = 20.0
_SHORTEST, _LONGEST = 0.5, 8.0


def follow(
    cluster: Cluster,
    job: Job,
    write: Callable[[str], None],
    note: Callable[[str], None],
) -> Job:
    """Write the log of the job's latest attempt as it grows; the job once it has ended.

    A stream begins with the log's first line each time: what was written already is passed over.
    It may stop before the job does, so the state is asked for apart, and what is missing at the end
    read. ``note`` is told when the stream was cut. Raises as `wait`.
    """
    if job.over:
        write(cluster.log(job))
        return job
    following = _Following(cluster, job, write)
    asking = Patience(note)
    pause = _SHORTEST
    while True:
        before = following.written
        try:
            asyncio.run(following.stream())
        except UnreachableError as error:
            asking.failed(error)
        else:
            asking.answered()
        if following.written > before:
            pause = _SHORTEST
        now = asking.ask(lambda: cluster.latest(job))
        if now is not None and now.over:
            rest = asking.ask(lambda: cluster.log(job))
            if rest is not None:
                write(rest[following.written :])
                return now
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST)


class _Following:
    def __init__(self, cluster: Cluster, job: Job, write: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._job = job
        self._write = write
        self.written = 0

    async def stream(self) -> None:
        """Write what one stream brings, until it ends or is cut."""
        try:
            import aiohttp
        except ImportError:
            raise JobError(
                "following a log needs the package aiohttp: pip install 'tracerank[cluster]'"
            ) from None
        url = f"{self._cluster.address.url}{job_path(self._job.submission_id)}/logs/tail"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=None)
        try:
            async with (
                aiohttp.ClientSession(headers=self._cluster.headers, timeout=timeout) as session,
                asyncio.timeout(READ_SECONDS) as opening,
                session.ws_connect(
                    url,
                    heartbeat=HEARTBEAT_SECONDS,
                    max_msg_size=0,
                    proxy=self._cluster.proxy,
                    ssl=self._cluster.tls or True,
                ) as socket,
            ):
                opening.reschedule(None)
                await self._receive(socket)
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (401, 403):
                raise self._cluster.refused(error.status) from None
            raise self._cut(f"status {error.status}") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._cut(str(error) or type(error).__name__) from None

    async def _receive(self, socket: ClientWebSocketResponse) -> None:
        from aiohttp import WSMsgType

        seen, quiet_and_over = 0, False
        while True:
            try:
                message = await socket.receive(timeout=QUIET_SECONDS)
            except TimeoutError:
                if quiet_and_over:
                    return
                with suppress(UnreachableError):
                    now = await asyncio.to_thread(self._cluster.latest, self._job)
                    quiet_and_over = now.over
                continue
            if message.type is not WSMsgType.TEXT:
                return
            text = message.data
            if seen + len(text) > self.written:
                self._write(text[max(0, self.written - seen) :])
                self.written = seen + len(text)
            seen += len(text)

    def _cut(self, reason: str) -> UnreachableError:
        return UnreachableError(f"{self._cluster.address.url}: its log stream was cut ({reason})")
