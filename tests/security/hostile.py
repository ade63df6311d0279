"""Files that run code when they are read carelessly."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BOMB = "bomb_5d41402a"
"""Is in every bomb's code."""
MODULE = "module_bomb_5d41402a"
HIT = "and be hit"


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self._command = f"touch {mark} # {BOMB}"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self._command,)


def bomb(mark: Path) -> bytes:
    """A pickle that makes the file ``mark`` when it is loaded."""
    return pickle.dumps(_Bomb(mark), protocol=2)


def array_bomb(mark: Path) -> bytes:
    """An ``.npz`` file whose arrays are of objects, and pickled."""
    file = io.BytesIO()
    held = np.array([_Bomb(mark), 1], dtype=object)
    np.savez(file, allow_pickle=True, header=held, tracerank_trace=held, a=held)
    return file.getvalue()


def tensor_bomb(mark: Path) -> bytes:
    """A file as ``torch.save`` makes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", bomb(mark))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


def yaml_bomb(mark: Path) -> bytes:
    return f"name: !!python/object/apply:os.system ['touch {mark} # {BOMB}']\n".encode()


def template_bomb(mark: Path) -> bytes:
    text = f"{{{{ cycler.__init__.__globals__.os.system('touch {mark} # {BOMB}') }}}}"
    return json.dumps({"name": text, "op_code": text, "models": [text]}).encode()


BOMBS: dict[str, Callable[[Path], bytes]] = {
    "a pickle": bomb,
    "arrays of objects": array_bomb,
    "tensors": tensor_bomb,
    "YAML with a tag": yaml_bomb,
    "a template": template_bomb,
}


MODULE_TEXT = """
from torch import nn

from search_spaces import get_task


def build(shape, hidden=4):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(shape.features, hidden), nn.ReLU(), nn.Linear(hidden, shape.outputs)
    )


def make():
    return get_task("wine")
"""


def module_bomb(mark: Path) -> str:
    """The text of a module that makes the file when it is imported."""
    return f"import os\nos.system('touch {mark} # {BOMB}')\n"
