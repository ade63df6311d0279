"""What is wrong with a configuration, in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from search_spaces.errors import did_you_mean, in_a_line, listing, shown

__all__ = ["ConfigError", "ProblemsError", "one_of", "problems_of", "shown"]


MOST = 50
"""Problems that a message tells; with more there is something else wrong."""


class ConfigError(ValueError):
    """A configuration that is not valid: one message, with a line for each problem, of very many
    for the first.

    Every line of ``problems`` names the key path, the value, and the rule or valid choices;
    ``source`` is the file.
    """

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.source = source
        self.problems = tuple(map(in_a_line, problems))
        lines = self.problems
        if len(lines) > MOST:
            lines = (*lines[:MOST], f"and {len(lines) - MOST} problems more")
        text = f" {lines[0]}" if len(lines) == 1 else "".join(f"\n  {line}" for line in lines)
        super().__init__(f"{in_a_line(source)}:{text}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, tuple[str, ...]]]:
        return type(self), (self.source, self.problems)


class ProblemsError(ValueError):
    """Problems that name their own key paths, raised inside a validator."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def one_of(choices: Iterable[str], rule: str | None = None) -> Callable[[str], str]:
    """A validator for names: one of ``choices``, which ``rule`` may put into other words."""
    names = list(choices)

    def check(value: str) -> str:
        if value in names:
            return value
        must = rule or f"one of {listing(names)}"
        raise ValueError(f"got {shown(value)}; must be {must}{did_you_mean(value, names)}")

    return check


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """The problems of a failed validation of ``model``, one line each, without pydantic's words."""
    problems: dict[str, None] = {}
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, ProblemsError):
            problems.update(dict.fromkeys(cause.problems))
            continue
        location = tuple(part for part in detail["loc"] if isinstance(part, str | int))
        section, rule, names = _describe(model, location)
        key = ".".join(map(str, names))
        if detail["type"] in ("extra_forbidden", "invalid_key"):
            valid = list(section.model_fields)
            text = f"unknown key; valid: {listing(valid)}{did_you_mean(names[-1], valid)}"
        elif detail["type"] == "missing":
            text = f"missing; must be {rule}"
        elif detail["type"] == "value_error" and cause is not None:
            text = str(cause)
        else:
            text = f"got {shown(detail['input'])}; must be {rule}"
            most = detail.get("ctx", {}).get("le")
            if isinstance(most, int) and str(most) not in rule:
                text += f", and at most {most}"
        problems[f"{key}: {text}"] = None
    return list(problems)


def _describe(
    model: type[BaseModel], location: tuple[str | int, ...]
) -> tuple[type[BaseModel], str, tuple[str | int, ...]]:
    """The section a location is in, the rule of its last known field, and the key path."""
    section, rule = model, "a mapping of keys to values"
    for depth, part in enumerate(location, start=1):
        field = section.model_fields.get(str(part))
        if field is None:
            return section, rule, location[:depth]
        extra: Any = field.json_schema_extra
        rule = extra["rule"]
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            # Behind a leaf stand positions in a list, or the branches of a union.
            return section, rule, location[:depth]
        section = field.annotation
    return section, rule, location
