"""Splitting a data set once and for all, and standardising it by its training part."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from search_spaces.errors import shown
from search_spaces.tasks.task import Array, Part, Splits

# One split for every model and every seed: replicates differ in training, never in the data.
SPLIT_SEED = 20_240_601
FRACTIONS = (0.6, 0.2, 0.2)
PARTS = ("train", "validation", "test")


def stratified_indices(strata: Array) -> tuple[Array, Array, Array]:
    """Indices of the training, validation and test part: 60%, 20% and 20% of every stratum.

    ``strata``: (n,) integers. Within a stratum the order is drawn by a fixed seed, and the parts
    differ from their shares by less than one example; three examples are in all three parts.
    Indices ascend.
    """
    generator = np.random.default_rng(SPLIT_SEED)
    parts: tuple[list[Array], ...] = ([], [], [])
    for stratum in np.unique(strata):
        members = generator.permutation(np.flatnonzero(strata == stratum))
        first = round(FRACTIONS[0] * len(members))
        second = round((FRACTIONS[0] + FRACTIONS[1]) * len(members))
        if len(members) == 3:
            first, second = 1, 2
        for part, chosen in zip(parts, np.split(members, [first, second]), strict=True):
            part.append(chosen)
    train, validation, test = (np.sort(np.concatenate(part)) for part in parts)
    return train, validation, test


def first_of_each(examples: Sequence[Hashable]) -> tuple[Array, Array]:
    """For each of n examples which of k different ones it is, (n,), numbered as they first come,
    and where each of these comes first, (k,).
    """
    numbers: dict[Hashable, int] = {}
    which = np.array([numbers.setdefault(one, len(numbers)) for one in examples], np.int64)
    return which, np.unique(which, return_index=True)[1]


def distinct_indices(examples: Sequence[Hashable], strata: Array) -> tuple[Array, Array, Array]:
    """As `stratified_indices`, where examples that are the same are all in one part.

    Each counts once, in the stratum in which it first comes.
    """
    which, first = first_of_each(examples)
    train, validation, test = (
        np.flatnonzero(np.isin(which, part)) for part in stratified_indices(strata[first])
    )
    return train, validation, test


def scarce(names: Sequence[str], examples: Sequence[Hashable], classes: Array) -> list[str]:
    """The classes, each with its number, of which too few different examples come to have one in
    every part. ``classes``: (n,) numbers of names, for the n examples.
    """
    _, first = first_of_each(examples)
    counts = np.bincount(classes[first], minlength=len(names))
    return [
        f"{shown(name)} ({count})"
        for name, count in zip(names, counts, strict=True)
        if count < len(PARTS)
    ]


def unseen(names: Sequence[str], trained: Array) -> list[str]:
    """The classes that the training part doesn't have. ``trained``: its class numbers."""
    seen = set(trained.tolist())
    return [shown(name) for number, name in enumerate(names) if number not in seen]


def text_splits(texts: Sequence[str], targets: Array, parts: Sequence[Array]) -> Splits:
    """Splits of n texts and their targets (n, ...) by the indices of three parts."""
    inputs = np.empty(len(texts), object)
    inputs[:] = texts
    train, validation, test = (Part(inputs[part], targets[part]) for part in parts)
    return Splits(train, validation, test)


def standardised(values: Array, train: Array, axis: int | None = 0) -> tuple[Array, Array]:
    """``values`` less the mean, over the standard deviation, of the rows ``train``; and the latter.

    ``axis`` 0 takes each column by itself, None all values together. What doesn't vary in the
    training part is divided by 1.
    """
    reference = values[train].astype(np.float64)
    scale = np.asarray(reference.std(axis=axis))
    scale = np.where(scale > 0, scale, 1.0)
    return ((values - reference.mean(axis=axis)) / scale).astype(np.float32), scale


def classification_splits(inputs: Array, classes: Array, axis: int | None = 0) -> Splits:
    """Splits stratified by class, inputs standardised along ``axis``."""
    classes = classes.astype(np.int64)
    parts = stratified_indices(classes)
    inputs, _ = standardised(inputs, parts[0], axis)
    train, validation, test = (Part(inputs[part], classes[part]) for part in parts)
    return Splits(train, validation, test)


def regression_splits(inputs: Array, targets: Array, strata: int = 10) -> Splits:
    """Splits stratified by quantile of the target; inputs and targets standardised by column.

    ``targets``: (n,) in original units; the parts hold them as (n, 1).
    """
    edges = np.quantile(targets, np.linspace(0, 1, strata + 1)[1:-1])
    parts = stratified_indices(np.searchsorted(edges, targets, side="right"))
    inputs, _ = standardised(inputs, parts[0])
    scaled, scale = standardised(targets[:, None], parts[0])
    train, validation, test = (Part(inputs[part], scaled[part]) for part in parts)
    return Splits(train, validation, test, target_scale=float(scale[0]))
