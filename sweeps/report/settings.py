"""Settings as the page shows them: what all models share is said once, the rest beside each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


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


def model_name(model: Mapping[str, Any]) -> str:
    """What a model is called in a sentence: its architecture and initialisation."""
    return f"{model['architecture']} · {model['init']}"


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
            rows[name] = "–" if value is None else str(value)
    return rows
