"""Fair shares of a cluster, for the sweeps that run on it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.execution.nodes import Amounts, fits, places, taken


@dataclass(frozen=True)
class Wish:
    """What a training of a sweep needs, and how many trainings it could have out at most."""

    needs: Amounts
    most: int


def shares(nodes: Sequence[Amounts], wishes: Mapping[str, Wish], turn: int = 0) -> dict[str, int]:
    """How many trainings each sweep may have out at once on a cluster of such nodes.

    Shares are max-min fair, for trainings of different needs by the resource of which a sweep has
    the greatest part (Ghodsi et al. 2011, dominant resource fairness): one place after the other
    goes to the sweep that has least, the first by name of equal ones, until nobody has room or
    wishes for more. Where that leaves a sweep without any place, which is first moves on by one
    with each ``turn``, so that everyone has a place in some of them. Takes time
    O(places · log sweeps + nodes · sweeps).
    """
    names = sorted(name for name, wish in wishes.items() if wish.most and places(nodes, wish.needs))
    given = _filled(nodes, wishes, names)
    if any(given[name] == 0 for name in names):
        first = turn % len(names)
        given = _filled(nodes, wishes, names[first:] + names[:first])
    return dict.fromkeys(wishes, 0) | given


def _filled(
    nodes: Sequence[Amounts], wishes: Mapping[str, Wish], names: Sequence[str]
) -> dict[str, int]:
    total: Counter[str] = Counter()
    for node in nodes:
        total.update(node)
    takes = {name: taken(wishes[name].needs) for name in names}
    part = {
        name: max(amount / total[resource] for resource, amount in takes[name].items())
        for name in names
    }
    # What has fewest GPUs and the like first: those are left to whoever needs them.
    left = sorted((dict(node) for node in nodes), key=lambda node: (node.get("GPU", 0), len(node)))
    given = dict.fromkeys(names, 0)
    # A node that is too small for a training stays so: none is looked at again.
    at = dict.fromkeys(names, 0)
    least = [(0.0, order, name) for order, name in enumerate(names)]
    while least:
        _, order, name = heapq.heappop(least)
        while at[name] < len(left) and not fits(left[at[name]], takes[name]):
            at[name] += 1
        if at[name] == len(left):
            continue
        node = left[at[name]]
        for resource, amount in takes[name].items():
            node[resource] -= amount
        given[name] += 1
        if given[name] < wishes[name].most:
            heapq.heappush(least, (round(given[name] * part[name], 9), order, name))
    return given
