"""YAML as a configuration means it: the plain values of YAML 1.2, and no key twice.

PyYAML reads YAML 1.1, in which ``1e-3`` is text, ``no`` is false and ``010`` is eight. Here numbers
are what they look like, only ``true`` and ``false`` are booleans, and dates are text.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from search_spaces.errors import shown

_PLAIN: list[tuple[str, str, str]] = [
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {shown(key)} stands there twice", key_node.start_mark
                )
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


# The same text from libyaml in a fourth of the time, where PyYAML was built with it.
class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _class in (_Loader, _Dumper):
    for _tag, _pattern, _first in _PLAIN:
        _characters = [character if character != "\0" else "" for character in _first]
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _characters
        )


def read(text: str) -> Any:
    """The plain value that a YAML document holds. Raises ValueError, with line and column."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a subclass of SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}{_plain_words(error.problem or 'not YAML')}") from None
    except yaml.reader.ReaderError as error:
        raise ValueError(
            f"character {error.position + 1}: got {chr(int(error.character))!r}; must be text"
        ) from None
    except (AttributeError, KeyError, TypeError) as error:
        # A tag like !!bool before a value that it doesn't fit.
        raise ValueError(f"a tag stands before a value that it doesn't fit ({error})") from None
    except RecursionError:
        raise ValueError("too deeply nested") from None


def _plain_words(problem: str) -> str:
    if r"'\t'" in problem:
        return "got a tab; YAML is indented by spaces"
    return problem


def write(value: Any) -> str:
    """The YAML document that `read` reads back to an equal value, keys in their order."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
    return text
