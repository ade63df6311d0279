"""What a stored trace can't answer: whether the later path follows from the earlier, and whether
what is called important is.

Both train a model again, as the sweep did, and look at its parameters on the way and at the end.
"""

from __future__ import annotations

import math
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sweeps.candidate import Candidate, Training
from sweeps.course import TrainingError
from sweeps.training import TrainingRun
from trace_core.importance import Probe, fisher, mas

FRACTIONS = (0.01, 0.05, 0.2)
"""Of the parameters that are zeroed."""

DRAWS = 5
Given = tuple[str, dict[str, Any], int]
"""A model's id in its sweep, what determines it, and a seed."""
WORKERS = 2
QUARTERS = 4


def followed(candidates: dict[str, dict[str, Any]], seeds: int) -> pd.DataFrame:
    """How well the second half of each training follows from the first (`path_skill`,
    `loss_skill`), one row for each model and seed.
    """
    given = [(*model, seed) for model in candidates.items() for seed in range(seeds)]
    return _in_processes(_followed, given)


def faithful(candidates: dict[str, dict[str, Any]], seed: int = 0) -> pd.DataFrame:
    """By how much the validation loss rises when parameters are zeroed that each importance puts
    first, last, or that are drawn: from all, or as many from each tensor as stand first in it.
    """
    return _in_processes(_faithful, [(*model, seed) for model in candidates.items()])


def path_skill(places: list[Tensor]) -> float:
    """Skill of foretelling the last of five places, a quarter of the training apart, from the first
    three, over saying that nothing moves any more: 1 is perfect, 0 no better, at least −1.

    The next displacement is taken for κ times the last, κ its regression on the one before.
    """
    first, second = places[1] - places[0], places[2] - places[1]
    later = places[4] - places[2]
    kappa = float(second @ first / (first @ first).clamp_min(1e-30))
    kappa = min(max(kappa, -1.0), 1.0)
    foretold = (kappa + kappa**2) * second
    left, persistent = float((later - foretold).square().sum()), float(later.square().sum())
    return max(-1.0, 1 - left / persistent) if persistent > 0 else math.nan


def loss_skill(losses: list[float]) -> float:
    """Skill of foretelling the logarithms of the losses of the second half of the epochs from those
    of the first, over saying that they stay as they are; at least −1.

    The trend of the first half's last quarter goes on, damped by 0.9 an epoch (Gardner & McKenzie
    1985).
    """
    logs = np.log(np.maximum(losses, 1e-8))
    half = len(logs) // 2
    last = max(2, half // 2)
    slope = (logs[half - 1] - logs[half - last]) / (last - 1)
    ahead = np.cumsum(0.9 ** np.arange(1, len(logs) - half + 1))
    left = logs[half:] - (logs[half - 1] + slope * ahead)
    persistent = logs[half:] - logs[half - 1]
    norm = float((persistent**2).sum())
    return max(-1.0, 1 - float((left**2).sum()) / norm) if norm > 0 else math.nan


def _in_processes(work: Any, given: list[Given]) -> pd.DataFrame:
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as workers:
        found = list(workers.map(partial(_unless_it_diverges, work), given, chunksize=4))
    return pd.DataFrame([row for rows in found for row in rows])


def _unless_it_diverges(work: Any, given: Given) -> list[dict[str, Any]]:
    """Its rows. A training on the edge may diverge here and not in the sweep, which trained it
    together with others: their sums are rounded otherwise.
    """
    try:
        rows: list[dict[str, Any]] = work(given)
    except TrainingError:
        return []
    return rows


def _run(given: Given) -> tuple[TrainingRun, dict[str, Any]]:
    name, described, seed = given
    checkpoint = Path(tempfile.gettempdir()) / f"tracerank-validity-{os.getpid()}"
    checkpoint.unlink(missing_ok=True)
    run = TrainingRun(Training(Candidate.from_dict(described), seed), checkpoint)
    return run, {"model_id": name, "seed": seed}


def _flat(run: TrainingRun) -> Tensor:
    return torch.cat([each.detach().double().reshape(-1) for each in run.model.parameters()])


def _followed(given: Given) -> list[dict[str, Any]]:
    run, row = _run(given)
    places = [_flat(run)]
    for quarter in range(1, QUARTERS + 1):
        while run.step < round(run.total_steps * quarter / QUARTERS):
            run.advance(0.0)
        places.append(_flat(run))
    losses = [entry["train_loss"] for entry in run.history if entry["train_loss"] is not None]
    return [row | {"path_skill": path_skill(places), "loss_skill": loss_skill(losses)}]


def _faithful(given: Given) -> list[dict[str, Any]]:
    run, row = _run(given)
    run.advance(math.inf)
    inputs, targets = run.course.examples_of("validation")
    # Its examples stand class by class: in their order, neither half would hold every class.
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(given[2]))
    inputs, targets = inputs[order], targets[order]
    half = len(inputs) // 2
    # What is important is asked of one half, and put to the test on the other.
    scores = _importances(run, inputs[:half], targets[:half])
    parameters = list(run.model.parameters())
    sizes = [each.numel() for each in parameters]
    kept = [each.detach().clone() for each in parameters]
    generator = np.random.default_rng(given[2])

    def loss_without(chosen: Tensor) -> float:
        with torch.no_grad():
            for each, old, mask in zip(parameters, kept, chosen.split(sizes), strict=True):
                each.copy_(old.masked_fill(mask.view_as(old), 0))
            loss = float(run.task.loss(run.model(inputs[half:]), targets[half:]))
            for each, old in zip(parameters, kept, strict=True):
                each.copy_(old)
        return loss

    run.model.eval()
    plain = loss_without(torch.zeros(sum(sizes), dtype=torch.bool))
    rows = []
    for name, score in scores.items():
        order = torch.argsort(score, descending=True)
        for fraction in FRACTIONS:
            count = max(1, round(fraction * len(score)))
            top, bottom = (_mask(part, len(score)) for part in (order[:count], order[-count:]))
            drawn = [_mask(_draw(generator, len(score), count), len(score)) for _ in range(DRAWS)]
            shuffled = [_shuffled(generator, top, sizes) for _ in range(DRAWS)]
            rises = {
                "top": loss_without(top) - plain,
                "bottom": loss_without(bottom) - plain,
                "random": float(np.mean([loss_without(each) - plain for each in drawn])),
                "shuffled": float(np.mean([loss_without(each) - plain for each in shuffled])),
            }
            rows.append(row | {"estimator": name, "fraction": fraction, "loss": plain} | rises)
    return rows


def _importances(run: TrainingRun, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The importance of every parameter at the end of a training, flat."""
    task, model = run.task, run.model
    theta = _flat(run).abs()
    gradient = torch.zeros_like(theta)
    taylor = torch.zeros_like(theta)
    count = 0
    size = run.course.candidate.batch_size
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(task.loss(model(x), y))
        g = torch.cat(
            [
                (each.grad if each.grad is not None else torch.zeros_like(each))
                .double()
                .reshape(-1)
                for each in model.parameters()
            ]
        ).abs()
        gradient += g
        taylor += g * theta
        count += 1
    probe = Probe((inputs, targets), lambda outputs, batch: task.loss(outputs, batch[1]))
    names = [name for name, _ in model.named_parameters()]
    estimates = {"fisher": fisher(model, probe), "mas": mas(model, probe)}
    return {
        "taylor": taylor / count,
        "gradient": gradient / count,
        "magnitude": theta,
        **{
            name: torch.cat([found[each].double().reshape(-1) for each in names])
            for name, found in estimates.items()
        },
    }


def _mask(indices: Any, size: int) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[torch.as_tensor(indices)] = True
    return mask


def _draw(generator: np.random.Generator, size: int, count: int) -> Any:
    return generator.choice(size, count, replace=False)


def _shuffled(generator: np.random.Generator, mask: Tensor, sizes: list[int]) -> Tensor:
    """As many of each tensor as the mask has there, drawn."""
    parts = []
    for part in mask.split(sizes):
        parts.append(_mask(_draw(generator, len(part), int(part.sum())), len(part)))
    return torch.cat(parts)
