"""A user's own architecture or task, named by import path.

An import path is ``package.module:attribute``; modules are looked up on ``sys.path``, to which the
command line adds the configuration's folder and the current one.

An architecture is a function ``build(shape: TaskShape, **settings) -> nn.Module``, whose model maps
(batch, *shape.input_shape) to (batch, shape.outputs) and draws from PyTorch's global generator. Its
settings are its parameters after the first: their annotation or default gives the type (int, float,
bool or str), and one without a default must be in the space. ``**kwargs`` takes any setting.

A task is a function without arguments that returns a `Task`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from search_spaces.architecture import Architecture, fits_numbers
from search_spaces.dimensions import Scalar
from search_spaces.errors import SpaceError, did_you_mean, shown
from search_spaces.setting import Kind, Setting
from search_spaces.shape import TaskShape

if TYPE_CHECKING:
    from torch import nn

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_KINDS: dict[object, Kind] = {int: "int", float: "float", bool: "bool", str: "str"}


def is_import_path(name: object) -> bool:
    """Whether the name has the form ``package.module:attribute``."""
    return isinstance(name, str) and _PATH.fullmatch(name) is not None


def load_object(path: str, where: str, expected: str) -> Callable[..., Any]:
    """The callable at an import path.

    ``where`` is the key path and ``expected`` the words for what should be there, for messages.
    Raises SpaceError naming the module, the attribute and what is expected.
    """
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        # Importing runs the user's code, which may raise anything.
        missing = isinstance(error, ModuleNotFoundError)
        hint = "; if it is in another folder, put that on PYTHONPATH" if missing else ""
        raise SpaceError(
            f"{where}: cannot import module {module_name} of {path}: "
            f"{type(error).__name__}: {error}; expected {expected}{hint}"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise SpaceError(
            f"{where}: module {module_name} has no {attribute}; expected {expected}"
            f"{did_you_mean(attribute, public)}"
        )
    if not callable(found):
        raise SpaceError(f"{where}: {path} is {shown(found)}; expected {expected}")
    result: Callable[..., Any] = found
    return result


def load_builder(path: str, where: str) -> Architecture:
    """The user's architecture at an import path. Raises SpaceError."""
    expected = "a function build(shape, **settings) that returns a torch.nn.Module"
    function = load_object(path, where, expected)
    try:
        parameters = list(inspect.signature(function).parameters.values())
        hints = get_type_hints(function)
    except (TypeError, ValueError, NameError):
        raise SpaceError(
            f"{where}: {path} has no readable signature; expected {expected}"
        ) from None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or parameters[0].kind not in positional:
        raise SpaceError(f"{where}: {path} takes no shape; expected {expected}")
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    settings = {p.name: _setting(p, hints) for p in parameters[1:] if p.kind in named}

    def build(shape: TaskShape, **given: Scalar) -> nn.Module:
        from torch import nn

        model = function(shape, **given)
        if not isinstance(model, nn.Module):
            raise SpaceError(f"{path} returned {shown(model)}; expected a torch.nn.Module")
        return model

    return Architecture(
        name=path,
        description=next(iter((inspect.getdoc(function) or "user's own").splitlines())),
        settings=settings,
        fits=fits_numbers,
        builder=build,
        open_settings=any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters),
    )


def unread_builder(path: str) -> Architecture:
    """What stands for the user's architecture at an import path where none of its code may run."""

    def build(shape: TaskShape, **given: Scalar) -> nn.Module:
        raise SpaceError(f"{path} was read as data, and builds nothing")

    return Architecture(
        name=path,
        description="user's own",
        settings={},
        fits=fits_numbers,
        builder=build,
        open_settings=True,
    )


def _setting(parameter: inspect.Parameter, hints: dict[str, Any]) -> Setting:
    required = parameter.default is inspect.Parameter.empty
    default = None if required else parameter.default
    hint = hints.get(parameter.name, None if required else type(default))
    kind = "any" if default is None and not required else _KINDS.get(hint, "any")
    return Setting(kind, default, "of the user's builder", required=required)


@functools.cache
def code_hash(path: str) -> str:
    """SHA-256, in hexadecimal, of the source behind an import path.

    Hashed is the module's file; if the module is in a package, every ``.py`` file in that package's
    folder, by name (not those of folders below it or of other packages). Read once a process, as
    the module itself is: a file that changes later is not what runs. Raises SpaceError if the
    module is not found.
    """
    module_name = path.partition(":")[0]
    source = _find_source(module_name)
    in_package = "." in module_name or source.name == "__init__.py"
    files = sorted(source.parent.glob("*.py")) if in_package else [source]
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _find_source(module_name: str) -> Path:
    try:
        spec = importlib.util.find_spec(module_name)
    except ModuleNotFoundError as error:
        # A package whose own imports fail is not a package that is absent.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise SpaceError(f"no module {module_name} on Python's path")
    return Path(spec.origin)
