"""What the nodes of a Ray cluster have, and how many trainings fit on them.

A node is a mapping of Ray's names (CPU, GPU, memory in bytes, custom ones) to amounts, and so is
what a training needs. A training is on one node, so nodes are never added up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

Amounts: TypeAlias = Mapping[str, float]

_SLACK = 1e-6
"""Ray counts in ten-thousandths; ours are floats."""


def taken(needs: Amounts) -> Amounts:
    """What a training takes away from a node: a part of a GPU is a part of one GPU, so that of 0.4
    there are two on each.
    """
    gpus = needs.get("GPU", 0.0)
    return {**needs, "GPU": 1 / math.floor(1 / gpus + _SLACK)} if 0 < gpus < 1 else needs


def fits(node: Amounts, taken: Amounts) -> bool:
    """Whether a node has what a training takes."""
    return all(node.get(name, 0.0) >= amount - _SLACK for name, amount in taken.items())


def places(nodes: Iterable[Amounts], needs: Amounts) -> int:
    """How many trainings fit on the nodes at once."""
    takes = taken(needs)
    return sum(
        max(
            0,
            min(
                math.floor(node.get(name, 0.0) / amount + _SLACK) for name, amount in takes.items()
            ),
        )
        for node in nodes
    )


def described(nodes: Iterable[Amounts], needs: Amounts) -> str:
    """What the nodes have, for people, equal ones counted; of custom resources those needed."""
    counted = Counter(amounts(node, ["CPU", "GPU", "memory", *needs], needs) for node in nodes)
    return "; ".join(
        text if count == 1 else f"{count} with {text} each" for text, count in counted.items()
    )


def amounts(node: Amounts, names: Iterable[str], needs: Amounts) -> str:
    """Amounts for people: those that there are, and those needed that there aren't."""
    words = []
    for name in dict.fromkeys(names):
        amount = node.get(name, 0.0)
        if name == "memory":
            words.append(f"{amount / 2**30:.3g} GiB of memory")
        elif amount or name in needs:
            plural = "s" if name in ("CPU", "GPU") and amount != 1 else ""
            words.append(f"{amount:g} {name}{plural}")
    return ", ".join(words)
