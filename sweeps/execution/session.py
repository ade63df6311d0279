"""Ray itself: its settings, and a connection to a cluster, or one on this machine."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import ray
from ray._private import utils

from sweeps.config import ResourceSettings


@contextlib.contextmanager
def connected(address: str | None, workers: int, needs: ResourceSettings) -> Iterator[int]:
    """The cluster at ``address``, else the Ray that this process has already, else one of our own
    on this machine; gives how many trainings it is asked for at once, each of which ``needs`` its
    share. Raises ConnectionError if the cluster can't be reached, or has too little for one.

    Only what was begun here is ended here. ``address="local"`` because the file that a dead cluster
    leaves behind would otherwise send ``ray.init`` to it.
    """
    if address is None and ray.is_initialized():
        with _quiet():
            yield min(workers, _room(needs, "this process's"))
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"address": "local", "num_cpus": workers * needs.cpus}
        options |= {"include_dashboard": False}
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
def replaced(module: ModuleType, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """A function of a module replaced for a while; where it has none of that name, it has now."""
    usual = getattr(module, name, None)
    setattr(module, name, function)
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
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _room(needs: ResourceSettings, where: str) -> int:
    """How many trainings have room at once. Nodes are added up: one of them may be too small."""
    there = ray.cluster_resources()
    needed = {"CPU": needs.cpus} | ({"GPU": needs.gpus} if needs.gpus else {})
    for name, need in needed.items():
        if there.get(name, 0) < need:
            raise ConnectionError(
                f"Ray at {where} has {there.get(name, 0):g} {name}s; a training needs {need:g} "
                f"(resources.{name.lower()}s)"
            )
    return min(int(there[name] / need) for name, need in needed.items())
