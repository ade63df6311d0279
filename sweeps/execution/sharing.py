"""A sweep on a cluster that is not its own: its nodes come and go, and others train there as well.

Sweeps know of each other by the names of actors: each has one, which does nothing, takes no
resources and dies with its sweep; its name says what a training needs and how many the sweep could
have out at most. From these, and from the nodes, each sweep computes the same fair shares.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray._private.state import available_resources_per_node
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.execution.fair import Wish, shares
from sweeps.execution.nodes import Amounts, places

if TYPE_CHECKING:
    from sweeps.conductor import Conductor

NAMESPACE = "tracerank"
"""Of the actors by which sweeps know of each other."""

LOOK_SECONDS = 1.0
"""Between two looks at the cluster, which cost the driver some milliseconds each."""

TURN_SECONDS = 30.0
"""How long a turn is where there are more sweeps than places."""

IDLE_SECONDS = 5.0
"""How long an actor without a training may keep its place."""

PLACE_SECONDS = 5.0
"""How long others wait for an actor for which there may be no place after all."""


class Present:
    """The actor by whose name a sweep is known."""


class Sharing:
    """Sets ``conductor.workers`` as the cluster and the other sweeps on it allow.

    No training is handed out for which there is no place now, but for one that keeps the sweep in
    Ray's queue, and lets an autoscaler know. ``asked`` is how many the sweep may have at most.
    """

    def __init__(self, conductor: Conductor, asked: int, name: str) -> None:
        self._conductor = conductor
        self._asked = asked
        self._needs: Amounts = conductor.config.resources.demand()
        self._sweep = f"{name}-{uuid.uuid4().hex[:8]}"
        self._actor: Any = None
        self._most = 0
        self._share = 0
        self._next = 0.0
        self._idle_since: float | None = None
        self._asking_since: float | None = None
        self.look()

    @property
    def in_vain(self) -> bool:
        """Whether an actor is waited for that found no place so far."""
        since = self._asking_since
        return since is not None and time.monotonic() - since > PLACE_SECONDS

    def follow(self, controller: Any) -> None:
        """Look at the cluster if it is time to, and let go of what the sweep may not keep; called
        at every step of Tune, whose ``controller`` knows the actors.
        """
        now = time.monotonic()
        tune = controller._tune_controller
        asking = tune._actor_manager.num_pending_actors
        self._asking_since = (self._asking_since or now) if asking else None
        if now >= self._next:
            live = tune._actor_manager.live_actors
            self.look(sum(actor not in tune._stopping_actors for actor in live), asking)
        idle = tune._actor_cache.num_cached_objects
        if not idle or tune._pending_trials:
            self._idle_since = None
            return
        self._idle_since = self._idle_since or now
        over = len(self._conductor.running) + idle > self._conductor.workers
        if over or now > self._idle_since + IDLE_SECONDS:
            tune._cleanup_cached_actors(force_all=True)

    def look(self, held: int = 0, asking: int = 0) -> None:
        """See what there is, and who else; the sweep has ``held`` places, and asks for others."""
        self._next = time.monotonic() + LOOK_SECONDS
        nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        wishes = self._wishes()
        turn = int(time.time() / TURN_SECONDS)
        self._share = shares(list(nodes.values()), wishes, turn)[self._sweep]
        available = available_resources_per_node()
        free = places((available.get(node, {}) for node in nodes), self._needs)
        waiting = ""
        if not places(nodes.values(), self._needs):
            workers, waiting = 1, "no node of the cluster has room now: waiting for one"
        elif not self._share:
            workers = 0
            if not held:
                waiting = f"waiting for its turn: {len(wishes)} sweeps share the cluster"
        else:
            workers = min(self._share, max(1, held + free))
            if asking and not held:
                waiting = "waiting for a place on the cluster"
        self._conductor.workers = workers
        self._conductor.progress.waiting = waiting

    def _wishes(self) -> dict[str, Wish]:
        """Those of all sweeps on the cluster, ours included."""
        most = max(1, min(self._asked, self._conductor.most))
        # Near its end a sweep has use for fewer places than its share.
        if self._actor is None or most < min(self._most, self._share):
            self._announce(most)
        wishes = {self._sweep: Wish(self._needs, self._most)}
        for actor in ray.util.list_named_actors(all_namespaces=True):
            if actor["namespace"] != NAMESPACE:
                continue
            with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
                told = json.loads(actor["name"])
                needs = {
                    name: float(amount) for name, amount in told["needs"].items() if amount > 0
                }
                wish = Wish(needs or {"CPU": 1.0}, int(told["most"]))
                known = wishes.get(told["sweep"])
                # Of two names one is about to go.
                if known is None or wish.most < known.most:
                    wishes[told["sweep"]] = wish
        return wishes

    def _announce(self, most: int) -> None:
        before, self._most = self._actor, most
        told = {"sweep": self._sweep, "most": most, "needs": self._needs}
        here = ray.get_runtime_context().get_node_id()
        self._actor = (
            ray.remote(Present)
            .options(
                name=json.dumps(told),
                namespace=NAMESPACE,
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
            )
            .remote()
        )
        if before is not None:
            ray.kill(before)

    def close(self) -> None:
        """Let the others know that this sweep needs nothing any more."""
        self._conductor.progress.waiting = ""
        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)
            self._actor = None


@contextlib.contextmanager
def sharing(conductor: Conductor, asked: int, name: str) -> Iterator[Sharing]:
    """Share the cluster with others, as a sweep of this name, until it ends."""
    shared = Sharing(conductor, asked, name)
    try:
        yield shared
    finally:
        shared.close()
