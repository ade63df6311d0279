"""Ray itself: its settings, and a connection to a cluster, or one on this machine."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
from ray._private import utils, worker

from sweeps.config_sections import ResourceSettings
from sweeps.execution.nodes import amounts, described, places
from sweeps.jobs.credentials import ensure_token
from sweeps.jobs.errors import JobError

JOINING_SECONDS = 60.0
"""How long a cluster may take until its first node with CPUs has joined it."""


def is_shared(address: str | None) -> bool:
    """Whether `connected` gives a Ray that others may train on as well."""
    return address is not None or ray.is_initialized()


@contextlib.contextmanager
def connected(address: str | None, workers: int, needs: ResourceSettings) -> Iterator[int]:
    """The cluster at ``address``, else the Ray that this process has already, else one of our own
    on this machine; gives how many trainings it is asked for at once, each of which ``needs`` its
    share. Raises ConnectionError if the cluster can't be reached, or no node has enough for one.

    Only what was begun here is ended here. ``address="local"`` because the file that a dead cluster
    leaves behind would otherwise send ``ray.init`` to it.
    """
    if address is None and ray.is_initialized():
        with _quiet():
            yield min(workers, _room(needs, "this process's"))
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # Ray would make it where there is none, for everybody to read.
        with contextlib.suppress(JobError):
            ensure_token(os.environ, Path.home(), lambda text: None)
        options |= {"address": "local", "num_cpus": workers * needs.cpus}
        options |= {"include_dashboard": False}
        # Its GCS would keep the last 100,000 calls for a dashboard: 17 KB a trial.
        options |= {"_system_config": {"task_events_report_interval_ms": 0}}
        # There is nobody else to say what this machine has. Names with a colon Ray finds out
        # itself, and of the others a node has whole numbers.
        own = {
            name: math.ceil(workers * each)
            for name, each in needs.custom.items()
            if ":" not in name
        }
        options |= {"resources": own} if own else {}
    else:
        options |= {"address": address}
    with _quiet():
        try:
            # Ray's handler of SIGTERM would end the process at once, with exit code 15.
            with replaced(utils, "set_sigterm_handler", lambda handler: None):
                ray.init(**options)
        except (ValueError, RuntimeError, OSError) as error:
            raise ConnectionError(f"Ray at {address or 'this machine'}: {error}") from error
        # Ray sets its own level as it starts.
        with _quiet():
            try:
                yield min(workers, _room(needs, address or "this machine"))
            finally:
                ray.shutdown()


@contextlib.contextmanager
def replaced(module: ModuleType | type, name: str, value: Any) -> Iterator[None]:
    """Something of a module or a class replaced for a while; where there is none of that name,
    there is one now.
    """
    usual = getattr(module, name, None)
    setattr(module, name, value)
    try:
        yield
    finally:
        if usual is None:
            delattr(module, name)
        else:
            setattr(module, name, usual)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Ray's log: a lost worker is a record with its reason; Tune would print its traceback
    as well.
    """
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        # And without what Ray writes past its loggers: a screen of text for each worker that dies.
        with replaced(worker, "print_to_stdstream", lambda *given, **named: None):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _room(needs: ResourceSettings, where: str) -> int:
    """How many trainings have room at once.

    A cluster that has a head alone, without CPUs, is one whose other nodes are on their way.
    """
    until = time.monotonic() + JOINING_SECONDS
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any("CPU" in node for node in nodes) or time.monotonic() > until:
            break
        time.sleep(0.5)
    demand = needs.demand()
    room = places(nodes, demand)
    if not room:
        asked = amounts(demand, demand, demand)
        has = described(nodes, demand)
        raise ConnectionError(
            f"Ray at {where} has {has}; a training needs {asked} (resources)"
            if len(nodes) == 1
            else f"Ray at {where} has no node with room for a training, which needs {asked} "
            f"(resources); the nodes have: {has}"
        )
    return room
