"""Checkpoints: those that `tracerank score` reads, and those that a configuration begins from."""

from __future__ import annotations

import builtins
import functools
import io
import json
import math
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sandbox
import torch
from fuzzing import Kind, Outcome, content, require_message
from hostile_values import json_values, keys, mutated
from hypothesis import strategies as st
from safetensors.torch import save
from tiny_checkpoints import image_task, language_task, problems, text_task
from trace_files import Boom

from sweeps.plain_text import plain
from sweeps.series_scores import blocks_by_path, series_notes, series_scores
from trace_core import TraceError
from trace_core.checkpoints import CheckpointError, measure_series, open_series

Draw = Callable[..., Any]


@functools.cache
def tensors(step: int) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(step)
    shapes = {"a.weight": (4, 6), "a.bias": (4,), "b.0.weight": (3, 4), "b.0.bias": (3,)}
    return {name: torch.randn(shape, generator=drawn) for name, shape in shapes.items()}


def safe(found: dict[str, torch.Tensor]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in found.items()})


def pickled(value: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


HEADERS = (
    *(
        "",
        "{",
        "[]",
        "null",
        "3",
        "[" * 5000,
        '{"a": 3}',
        '{"a": {}}',
        '{"__metadata__": 3}',
        " " * 5000,
    ),
    '{"a": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 4000000000000]}}',
    '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
    '{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
    '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
    '{"a": {"dtype": "F32", "shape": [18446744073709551616], "data_offsets": [0, 4]}}',
    '{"a\\u001b[31m": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}',
)


def _odd_tensors(draw: Draw) -> dict[str, torch.Tensor]:
    """Tensors of which one is of another kind, or goes by another name."""
    found = dict(tensors(draw(st.integers(0, 1))))
    name = draw(st.sampled_from(list(found)))
    way = draw(st.sampled_from(["dtype", "shape", "value", "name", "gone", "only"]))
    tensor = found.pop(name)
    if way == "dtype":
        kinds = (
            "float16",
            "bfloat16",
            "float64",
            "int8",
            "int64",
            "bool",
            "complex64",
            "float8_e4m3fn",
        )
        kind = getattr(torch, draw(st.sampled_from(kinds)))
        found[name] = tensor.to(kind)
    elif way == "shape":
        shape = draw(st.sampled_from([(0,), (1,), (2, 2), (24,), ()]))
        found[name] = torch.zeros(shape)
    elif way == "value":
        bad = draw(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e38, 1e-45]))
        found[name] = tensor.clone().fill_(bad)
    elif way == "name":
        found[draw(keys.filter(lambda key: len(key) < 20_000))] = tensor
    elif way == "only":
        found = {}
    return found


def _content(draw: Draw) -> tuple[str, bytes]:
    """A file, by how its name ends."""
    way = draw(
        st.sampled_from(["safe", "safe", "header", "pickle", "pickle", "other", "zip", "bytes"])
    )
    try:
        whole = safe(_odd_tensors(draw))
    except (UnicodeError, RuntimeError, ValueError):
        whole = safe(tensors(0))
    if way == "safe":
        return ".safetensors", _damaged(whole, draw)
    if way == "header":
        text = draw(st.sampled_from(HEADERS)).encode()
        size = draw(st.sampled_from([len(text)] * 3 + [0, 2**63, 2**40, 7]))
        return ".safetensors", struct.pack("<Q", size) + text + bytes(
            draw(st.sampled_from([0, 4, 8]))
        )
    if way == "pickle":
        loaded = draw(st.sampled_from([_nested, _bare, _plain]))(draw)
        old = draw(st.booleans())
        return ".pt", _damaged(pickled(loaded, _use_new_zipfile_serialization=not old), draw)
    if way == "other":
        return ".pt", pickled(draw(st.sampled_from([Boom(), {"a": Boom()}, [Boom()], print])))
    if way == "zip":
        return ".pt", _rezipped(pickled(tensors(0)), draw)
    return draw(st.sampled_from([".pt", ".safetensors", ".bin", ".txt"])), draw(
        st.binary(max_size=99)
    )


def _nested(draw: Draw) -> Any:
    key = draw(st.sampled_from(["state_dict", "model", "module", "params", "other"]))
    return {key: _odd_tensors(draw), "global_step": draw(json_values)}


def _bare(draw: Draw) -> Any:
    return _odd_tensors(draw)


def _plain(draw: Draw) -> Any:
    return draw(json_values.filter(lambda value: not isinstance(value, int) or abs(value) < 2**64))


def _rezipped(data: bytes, draw: Draw) -> bytes:
    """An archive of torch.save with one member otherwise, or compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        names = old.namelist()
        changed = draw(st.sampled_from(names))
        way = draw(st.sampled_from(["gone", "empty", "bomb", "compressed", "pickle", "long"]))
        for name in names:
            inside = old.read(name)
            if name == changed:
                inside = {"empty": b"", "bomb": bytes(10**8), "pickle": _call()}.get(way, inside)
                inside = inside * 3 if way == "long" else inside
            if name != changed or way != "gone":
                squeezed = way in ("bomb", "compressed")
                new.writestr(name, inside, zipfile.ZIP_DEFLATED if squeezed else zipfile.ZIP_STORED)
    return file.getvalue()


def _call() -> bytes:
    import pickle

    return pickle.dumps(Boom(), protocol=2)


def _damaged(data: bytes, draw: Draw) -> bytes:
    way = draw(st.sampled_from(["as it is"] * 4 + ["flip", "cut", "longer"]))
    at = draw(st.integers(0, max(0, len(data) - 1)))
    if way == "flip" and data:
        return data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
    if way == "cut":
        return data[:at]
    return data + b"\0" * 9 if way == "longer" else data


@st.composite
def series(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    """Files by their names below a folder."""
    found: list[tuple[str, bytes]] = []
    for number in range(draw(st.sampled_from([1, 2, 2, 2, 3]))):
        ending, data = (
            _content(draw) if draw(st.booleans()) else (".safetensors", safe(tensors(number)))
        )
        name = draw(
            st.sampled_from(["step-{}", "checkpoint-{}", "{}", "step-1{}k", "same"])
        ).format(number)
        if draw(st.integers(0, 3)):
            found.append((f"{name}{ending}", data))
            continue
        found.append((f"{name}/model{ending}", data))
        if draw(st.booleans()):
            state = draw(mutated(STATE, json_values))
            found.append((f"{name}/trainer_state.json", _json(state)))
        if draw(st.booleans()):
            index = draw(mutated(INDEX, json_values))
            found.append((f"{name}/model.safetensors.index.json", _json(index)))
    return found


STATE = st.just(
    {
        "global_step": 3,
        "log_history": [{"step": 1, "learning_rate": 0.1}, {"step": 3, "learning_rate": 0.1}],
    }
)
INDEX = st.just({"weight_map": {"a.weight": "model.safetensors", "b": "../other.safetensors"}})


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except (ValueError, TypeError, RecursionError):
        return b"{"


def check_series(files: list[tuple[str, bytes]]) -> Outcome:
    folder = sandbox.scratch("series")
    for name, data in files:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    paths = sorted(folder.iterdir())
    before = content(folder)
    try:
        opened = open_series(paths)
        measured = measure_series(opened)
        figures, notes = series_scores(measured, opened), series_notes(measured, opened)
        blocks_by_path(measured)
    except (CheckpointError, TraceError) as error:
        # As the command line shows it, which leaves out what a terminal would obey.
        require_message(type(error)(plain(error)), place=folder)
        return "refused"
    finally:
        assert content(folder) == before
        assert not hasattr(builtins, "tracerank_fuzz_ran"), "ran what it read"
    json.dumps(figures, allow_nan=False)
    assert all(isinstance(note, str) for note in notes)
    return "accepted"


CONFIGS = ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")


@st.composite
def pretrained(draw: st.DrawFn) -> tuple[str, str, bytes | None]:
    """One of the checkpoints, the file in it that is changed, and what into; None removes it."""
    name = draw(st.sampled_from(["bert", "gpt2", "vit", "weights.pt"]))
    folder = sandbox.data() / name
    if folder.is_file():
        return name, name, _content(draw)[1]
    files = sorted(path.name for path in folder.iterdir())
    file = draw(st.sampled_from([*files, *[each for each in CONFIGS if each in files]]))
    if draw(st.integers(0, 9)) == 0:
        return name, file, None
    if file.endswith(".safetensors"):
        return (
            name,
            file,
            _content(draw)[1] if draw(st.booleans()) else _weights(folder / file, draw),
        )
    if file.endswith(".json") and draw(st.integers(0, 4)):
        told = json.loads((folder / file).read_text())
        return name, file, _json(draw(mutated(st.just(told), json_values, 2)))
    return name, file, _damaged((folder / file).read_bytes(), draw)


def _weights(file: Path, draw: Draw) -> bytes:
    from safetensors.torch import load

    found = dict(load(file.read_bytes()))
    name = draw(st.sampled_from(sorted(found)))
    bad = draw(
        st.sampled_from([None, math.nan, math.inf, torch.int8, torch.complex64, torch.float16])
    )
    if bad is None:
        del found[name]
    elif isinstance(bad, float):
        found[name] = found[name].clone().fill_(bad)
    else:
        found[name] = found[name].to(bad)
    return _damaged(safe(found), draw)


def check_pretrained(case: tuple[str, str, bytes | None]) -> Outcome:
    name, file, data = case
    folder = sandbox.scratch("pretrained") / "model"
    origin = sandbox.data() / name
    if origin.is_dir():
        shutil.copytree(origin, folder)
        changed = folder / file
        given: dict[str, Any] = {"checkpoint": str(folder)}
    else:
        folder.mkdir()
        changed = folder / file
        given = {"checkpoint": str(changed), "builder": "tiny_checkpoints:Convolutions"}
    changed.unlink(missing_ok=True)
    if data is not None:
        changed.write_bytes(data)
    tasks = {"bert": text_task, "gpt2": lambda: language_task(["a text, " * 9] * 3)}
    before = content(folder)
    found = problems(tasks.get(name, image_task)(), given)
    assert content(folder) == before
    assert not hasattr(builtins, "tracerank_fuzz_ran"), "ran what it read"
    for problem in found:
        require_message(ValueError(problem))
    return "refused" if found else "accepted"


KINDS = [
    Kind("saved checkpoints", series(), check_series, 0.04, sandbox.root),
    Kind("pretrained checkpoints", pretrained(), check_pretrained, 0.02, sandbox.data),
]
