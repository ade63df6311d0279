"""How a sweep is stopped from outside: an orderly end on SIGTERM, on Ctrl-C, and where its terminal
is closed (SIGHUP), unless it is to go on then (nohup).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.conductor import Conductor

STOP_SECONDS = 20.0
"""How long an orderly stop on SIGTERM may take."""

STOPPED = 3
"""The exit code of a sweep that was stopped (design §7)."""


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP came while nothing was trained."""


@contextlib.contextmanager
def stoppable_at_once() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Stopped, as Ctrl-C raises KeyboardInterrupt: for all that is done
    before and after the trainings.
    """

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise Stopped

    with _handled_by(terminate):
        yield


@contextlib.contextmanager
def stoppable(conductor: Conductor) -> Iterator[None]:
    """SIGTERM and SIGHUP stop as Ctrl-C does: Tune ends its loop, and lets the actors save their
    trainings.

    Tune leaves its own SIGINT handler behind, which would swallow a later Ctrl-C.
    """

    def terminate(signum: int, frame: FrameType | None) -> None:
        if conductor.stopping:
            return
        conductor.stopping = True
        last_resort.start()
        os.kill(os.getpid(), signal.SIGINT)

    # Where the signal took Ray's own processes as well, Ray waits for them for a minute and then
    # kills us. What is stored is whole at any moment, so we may as well leave.
    last_resort = threading.Timer(STOP_SECONDS, os._exit, (STOPPED,))
    last_resort.daemon = True
    interrupt = signal.getsignal(signal.SIGINT)
    with _handled_by(terminate):
        try:
            yield
        finally:
            last_resort.cancel()
            if _is_main_thread():
                signal.signal(signal.SIGINT, interrupt)


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have the signals that stop a sweep handled so; no other thread than the main one can."""
    taken: list[signal.Signals] = []
    if _is_main_thread():
        taken.append(signal.SIGTERM)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            taken.append(signal.SIGHUP)
    previous = [(number, signal.signal(number, handler)) for number in taken]
    try:
        yield
    finally:
        for number, former in previous:
            signal.signal(number, former)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
