"""Files of traces: their bytes, the members of their archive, the arrays in these, their header.

Accepted is a trace that answers every question, if only by saying that it can't.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import sandbox
import torch
from fuzzing import Kind, Outcome, content, require_message
from hostile_values import json_values
from hypothesis import strategies as st
from torch import nn

from trace_core import (
    CHANGE_RATES,
    EXPLAINABILITIES,
    READINGS,
    STABILITIES,
    Trace,
    TraceError,
    Tracer,
)
from trace_core.phases import phases

HEADER = "tracerank_trace.npy"


@functools.cache
def good() -> dict[str, bytes]:
    """The members of a small trace's archive."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Tracer(model, optimizer) as tracer:
        for _ in range(12):
            optimizer.zero_grad()
            model(torch.randn(8, 6)).square().mean().backward()
            optimizer.step()
        trace = tracer.trace()
    file = sandbox.scratch("trace") / "good.npz"
    trace.save(file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


class Boom:
    """What pickles into a call, which leaves a mark."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import builtins; builtins.tracerank_fuzz_ran = True",)


def npy(header: str, body: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    """An npy file of whatever is said."""
    text = header.encode("latin-1", "replace")
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text) % 65536)
    return b"\x93NUMPY" + bytes(version) + size + text + body


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


DESCRIPTIONS = (
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (-1, 3), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 99999999999999999999), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (9,), }",
    "{'descr': '<U9999999', 'fortran_order': False, 'shape': (9,), }",
    "{'descr': [('a', '<f8'), ('b', '|O')], 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (True,), }",
    "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1,) * 99, }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 400 + ")" * 400 + ", }",
    "{'descr': __import__('os').system('x'), 'fortran_order': False, 'shape': (1,), }",
    "[" * 9000,
    "",
    "\0\x1b[31m",
)


@functools.cache
def bomb(name: str, size: int) -> bytes:
    """A trace's file of which one member unpacks to so many zeros."""
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}".ljust(117) + "\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for each, data in good().items():
            with archive.open(each, "w", force_zip64=True) as member:
                member.write(npy(head, b"") if each == name else data)
                for _ in range(size // 10**7 if each == name else 0):
                    member.write(bytes(10**7))
    return file.getvalue()


def _changed_array(data: bytes, draw: Callable[..., Any]) -> bytes:
    try:
        array = np.load(io.BytesIO(data))
    except (ValueError, EOFError, MemoryError):
        # Changed before.
        return data
    way = draw(st.sampled_from(["value", "dtype", "shape", "empty", "longer", "order"]))
    if way == "value" and array.size:
        bad = draw(st.sampled_from([0, 1, -1, 255, 2**31, 2**62, -(2**63), np.nan, np.inf, 1e300]))
        flat = array.reshape(-1).copy()
        with np.errstate(all="ignore"):
            flat[
                draw(st.integers(0, flat.size - 1)) :: draw(st.sampled_from([1, 7, flat.size]))
            ] = np.array([bad]).astype(array.dtype)
        return saved(flat.reshape(array.shape))
    if way == "dtype":
        kind = draw(st.sampled_from(["f2", "f4", ">f8", "c16", "i1", "u8", "?", "S3", "U2", "V8"]))
        return saved(array.astype(kind) if array.dtype.kind != "U" else array)
    if way == "shape":
        return saved(
            draw(
                st.sampled_from(
                    [array.reshape(-1), array[None], array.T, array[:-1] if array.ndim else array]
                )
            )
        )
    if way == "empty":
        return saved(np.zeros(draw(st.sampled_from([(0,), (0, 0, 0), ()])), array.dtype))
    if way == "longer" and array.ndim:
        return saved(np.concatenate([array] * 2))
    return saved(np.asfortranarray(array))


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """A trace's file, changed in its members, and then in its bytes."""
    members: list[tuple[str, bytes]] = list(good().items())
    if draw(st.integers(0, 99)) == 99:
        return bomb("statistics.npy", draw(st.sampled_from([10**8, 2 * 10**9])))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        at = draw(st.integers(0, len(members) - 1))
        name, data = members[at]
        way = draw(st.sampled_from([*["array"] * 4, *["header"] * 4, *OTHER_WAYS]))
        if way == "array" and name != HEADER:
            members[at] = name, _changed_array(data, draw)
        elif way in ("header", "array"):
            at = [each for each, _ in members].index(HEADER) if HEADER in dict(members) else at
            members[at] = HEADER, saved(np.array(_header(draw)))
        elif way == "description":
            members[at] = name, npy(draw(st.sampled_from(DESCRIPTIONS)), data[-64:])
        elif way == "version":
            members[at] = (
                name,
                data[:6] + bytes(draw(st.tuples(*[st.integers(0, 3)] * 2))) + data[8:],
            )
        elif way == "pickle":
            members[at] = (
                name,
                draw(st.sampled_from([saved(np.array([Boom()], object)), pickle.dumps(Boom())])),
            )
        elif way == "gone":
            del members[at]
            if not members:
                break
        elif way == "twice":
            members.append((name, draw(st.sampled_from(members))[1]))
        elif way == "renamed":
            members[at] = (
                draw(st.sampled_from(["../up.npy", "/abs", "a\x1b.npy", "", name[:-4]])),
                data,
            )
        else:
            members[at] = name, draw(st.sampled_from([b"", data[:-1], data[:40], b"PK", data * 2]))
    written = _zipped(members, draw(st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])))
    return _bytes_changed(written, draw)


OTHER_WAYS = ("description", "version", "pickle", "gone", "twice", "renamed", "cut")


def _header(draw: Callable[..., Any]) -> str:
    """The header's text with another value, or none at all."""
    text = str(np.load(io.BytesIO(good()[HEADER])))
    told = json.loads(text)
    key = draw(st.sampled_from(list(told)))
    way = draw(st.sampled_from(["value", "value", "value", "inside", "without", "text"]))
    if way == "text":
        return draw(
            st.sampled_from(["", "[]", "null", "3", "{", "[" * 9000, '{"format": 2}', "NaN"])
        )
    if way == "inside" and isinstance(told[key], list) and told[key]:
        told[key][draw(st.integers(0, len(told[key]) - 1))] = draw(json_values)
    elif way == "without":
        del told[key]
    else:
        told[key] = draw(json_values)
    try:
        return json.dumps(told)
    except (ValueError, RecursionError):
        return text


def _zipped(members: list[tuple[str, bytes]], method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        # Of a name that comes twice.
        warnings.simplefilter("ignore")
        for name, data in members:
            info = zipfile.ZipInfo(name or "x")
            info.compress_type = method
            archive.writestr(info, data)
    return file.getvalue()


def _bytes_changed(data: bytes, draw: Callable[..., Any]) -> bytes:
    way = draw(st.sampled_from(["as it is"] * 4 + ["flip", "cut", "middle", "text"]))
    at = draw(st.integers(0, len(data) - 1))
    if way == "flip":
        return data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
    if way == "cut":
        return data[:at]
    if way == "middle":
        return data[:at] + draw(st.binary(max_size=40)) + data[at + draw(st.integers(0, 40)) :]
    return draw(st.binary(max_size=60)) if way == "text" else data


def questions(trace: Trace) -> list[Callable[[], Any]]:
    """All that a trace can be asked for."""
    asked: list[Callable[[], Any]] = [
        *(functools.partial(trace.change_rate, kind) for kind in CHANGE_RATES),
        *(functools.partial(trace.left_out, kind) for kind in (*CHANGE_RATES, "steadiness")),
        *(functools.partial(trace.explainability, kind) for kind in EXPLAINABILITIES),
        *(functools.partial(trace.explainability_bound, kind) for kind in EXPLAINABILITIES),
        *(functools.partial(trace.stability, kind) for kind in STABILITIES),
        *(functools.partial(trace.score, reading=reading) for reading in READINGS),
        *(functools.partial(trace.scores, reading=reading) for reading in READINGS),
        *(functools.partial(trace.scores, stability=kind) for kind in STABILITIES),
        *(functools.partial(trace.alphas, scheme) for scheme in ("std", "entropy")),
        *(functools.partial(trace.top_elements, kind) for kind in ("moved", "important")),
        *(trace.learning_rate, trace.angular_update, trace.top_movers, trace.most_important),
        *(trace.by_block, trace.by_layer, trace.by_part, trace.to_pandas),
        *(lambda: trace.active, lambda: trace.inactive, lambda: phases(trace)),
        *(lambda: trace.window(2, 9).stability(), lambda: trace.window(0, 10**9).score()),
        *(
            functools.partial(lambda name: trace.tensor(name).score(), name)
            for name in trace.tensors[:2]
        ),
        lambda: [part.explainability() for part in trace.by_block().values()],
    ]
    return asked


def check(data: bytes) -> Outcome:
    folder = sandbox.scratch("trace")
    path = folder / "t.npz"
    path.write_bytes(data)
    before = content(folder)
    try:
        trace = Trace.load(path)
    except TraceError as error:
        require_message(error, place=path)
        return "refused"
    finally:
        assert content(folder) == before
        import builtins

        assert not hasattr(builtins, "tracerank_fuzz_ran"), "ran what it read"
    for question in questions(trace):
        try:
            question()
        except TraceError as error:
            require_message(ValueError(" ".join(str(error).splitlines())), place=" ")
    again = folder / "again.npz"
    trace.save(again)
    assert Trace.load(again).tensors == trace.tensors
    return "accepted"


KINDS = [Kind("traces", archives(), check, 0.06, good)]
