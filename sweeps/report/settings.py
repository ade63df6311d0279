"""Settings as the page shows them: what all models share once, the rest beside each model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.report import wording


def common_settings(every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that every model has, with the same value; none if there is only one model."""
    if len(every) < 2:
        return {}
    first, *others = every
    return {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in others)
    }


def own_settings(settings: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model that are not ``common``."""
    return {name: value for name, value in settings.items() if name not in common}


def model_names(models: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What each model is called in a sentence: architecture, initialisation, and more if needed.

    Models that share both are told apart by the first two settings in which they differ, and by
    their id where these don't suffice.
    """
    groups: dict[str, list[str]] = {}
    for model_id, model in models.items():
        groups.setdefault(f"{model['architecture']} · {model['init']}", []).append(model_id)
    names: dict[str, str] = {}
    for name, members in groups.items():
        if len(members) == 1:
            names[members[0]] = name
            continue
        every = [models[model_id]["settings"] or {} for model_id in members]
        common = common_settings(every)
        marks = [
            wording.settings(dict(list(own_settings(each, common).items())[:2])) for each in every
        ]
        times = Counter(marks)
        for model_id, mark in zip(members, marks, strict=True):
            unique = mark and times[mark] == 1
            names[model_id] = f"{name} ({mark if unique else model_id})"
    return names


def flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as one, keys joined by a space; values as text."""
    rows: dict[str, str] = {}
    for key, value in mapping.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            rows |= flat(value, f"{name} ")
        elif isinstance(value, (list, tuple)):
            rows[name] = ", ".join(str(item) for item in value)
        else:
            rows[name] = wording.MISSING if value is None else str(value)
    return rows
