"""The page's scripts as one: modules in the order of their imports.

A page that is opened from disk can't load modules from beside it, and nobody should need a build
tool to use or change ours. So the modules are written as such (their linter and their tests see
them so), and joined here, each once, after those it imports, as a function that returns what it
exports.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.MULTILINE)


def bundled(entry: str, read: Callable[[str], str]) -> str:
    """The module ``entry`` and all it imports as one script; ``read`` gives a module's text.

    Raises ValueError where one imports or exports in another way than ``import { name } from
    "./module.js"`` and ``export`` before a definition, or where imports go round in a circle.
    """
    parts: dict[str, str] = {}

    def add(name: str, importers: tuple[str, ...]) -> None:
        if name in importers:
            raise ValueError(f"imports go round: {' → '.join((*importers, name))}")
        if name not in parts:
            text = read(name)
            for _, imported in _IMPORT.findall(text):
                add(imported, (*importers, name))
            parts[name] = _as_function(name, text)

    add(entry, ())
    return '"use strict";\n(() => {\n' + "".join(parts.values()) + "})();\n"


def _as_function(name: str, text: str) -> str:
    exported = [found for _, found in _EXPORT.findall(text)]
    text = _IMPORT.sub(lambda found: f"const {{{found[1]}}} = {_variable(found[2])};\n", text)
    text = _EXPORT.sub(r"\1", text)
    if re.search(r"^(?:import|export)\b", text, re.MULTILINE):
        raise ValueError(f"{name}: an import or export that can't be bundled")
    return (
        f"const {_variable(name)} = (() => {{\n{text}return {{ {', '.join(exported)} }};\n}})();\n"
    )


def _variable(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name)
