"""What suggests a trial: a sampler made anew for each, seeded from (the sweep's seed, the trial's
number), so that an interrupted sweep asks what an undisturbed one would have asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler

from search_spaces import Choice, Space
from sweeps.config import SamplerSettings
from sweeps.selection.storage import quiet


def coverage(space: Space) -> list[dict[str, Any]]:
    """What the first trials are fixed to: every architecture and every initialisation once or more.

    As many entries as the longer of the two has, pairing them in order and starting the shorter
    anew.
    """
    architectures = list(space.architectures)
    init = space.dimensions["init"]
    inits = list(init.values) if isinstance(init, Choice) else []
    count = max(len(architectures), len(inits))
    return [
        {"architecture": architectures[i % len(architectures)]}
        | ({"init": inits[i % len(inits)]} if inits else {})
        for i in range(count)
    ]


def sampler(settings: SamplerSettings, number: int, fixed: dict[str, Any]) -> BaseSampler:
    """The sampler for trial ``number``, whose parameters named in ``fixed`` are given."""
    seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
    made: BaseSampler
    with quiet():
        if settings.name == "random":
            made = RandomSampler(seed=seed)
        else:
            made = TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        return PartialFixedSampler(fixed, made) if fixed else made
