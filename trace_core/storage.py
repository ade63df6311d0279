"""Traces as arrays and as files: a compressed npz with a JSON header, written durably, read with
suspicion.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from os import PathLike
from pathlib import Path
from tokenize import TokenError
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from trace_core.durable import write_atomically
from trace_core.errors import TraceError
from trace_core.histogram import BINS, Histogram
from trace_core.sketch import width
from trace_core.statistics import DISPLACEMENT, STATISTICS_VERSION, Array, Statistic
from trace_core.top import KINDS, TopLists

if TYPE_CHECKING:
    from trace_core.trace import Trace

FORMAT = 2
"""Rises when a file's layout changes."""
_HEADER = "tracerank_trace"
_ARRAYS = ("steps", "sizes", "statistics", "learning_rates", "exact", "sketch_steps", "sketches")
_DTYPES = {
    **dict.fromkeys(("statistics", "learning_rates", "exact", "top_values"), np.float64),
    **dict.fromkeys(("sketches", "histogram_sums"), np.float32),
    "histogram_bins": np.int16,
}
"""Of the arrays that aren't int64."""
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    RuntimeError,  # zipfile's for flags and methods that it doesn't know
    OverflowError,
    MemoryError,  # numpy's for a shape that was damaged
    TokenError,  # numpy's for a header that is none
)
_PREFIX = 10
"""Bytes of an npy file before the text that describes its array: eight, and the text's length."""
_SMALL, _EACH = 1 << 28, 1000
"""Bytes that any trace may unpack to, and of larger ones how many for each tensor at each step."""
_HISTOGRAM = ("observations", "filled", "bins", "counts", "sums")


def to_arrays(trace: Trace) -> dict[str, Array]:
    """Return the trace's arrays by name; they are views."""
    arrays = {name: getattr(trace, name) for name in _ARRAYS}
    arrays |= {"top_places": trace.top.places, "top_values": trace.top.values}
    return arrays | {f"histogram_{name}": getattr(trace.histogram, name) for name in _HISTOGRAM}


def from_arrays(kind: type[Trace], header: Mapping[str, Any], arrays: Mapping[str, Array]) -> Trace:
    """Build a trace from `to_arrays` and its names and settings; raises KeyError, TypeError or
    ValueError if they don't fit.
    """
    trace = kind(
        **{name: arrays[name] for name in _ARRAYS},
        histogram=Histogram(*(arrays[f"histogram_{name}"] for name in _HISTOGRAM)),
        top=TopLists(arrays["top_places"], arrays["top_values"]),
        tensors=tuple(header["tensors"]),
        layers=tuple(header["layers"]),
        every=header["every"],
        importance=header["importance"],
        anchors=tuple(header["anchors"]),
    )
    require_sound(trace)
    return trace


def require_sound(trace: Trace) -> None:
    """Raise TypeError or ValueError unless the arrays of a trace fit together, and hold what those
    of a trace can hold.
    """
    arrays = to_arrays(trace)
    for name, array in arrays.items():
        if array.dtype != _DTYPES.get(name, np.int64):
            raise ValueError(f"{name} has dtype {array.dtype}")
    observations, tensors, histograms = (
        len(trace.steps),
        len(trace.tensors),
        len(trace.histogram.observations),
    )
    nodes = tensors + len(trace.layer_names) + len(trace.block_names) + 1
    expected = {
        "steps": (observations,),
        "sketch_steps": (len(trace.sketch_steps),),
        "histogram_observations": (histograms,),
        "top_values": (len(trace.top.values),),
        "sizes": (tensors,),
        "statistics": (observations, tensors, DISPLACEMENT + len(trace.anchors)),
        "learning_rates": (observations, tensors),
        "exact": (histograms, nodes, 2),
        "histogram_filled": (histograms, tensors),
        "sketches": (
            len(trace.sketch_steps),
            sum(map(width, trace.sizes.tolist())) if len(trace.sketch_steps) else 0,
        ),
        "top_places": (len(trace.top.values), 5),
        **{
            f"histogram_{name}": (int(trace.histogram.filled.sum()),)
            for name in ("bins", "counts", "sums")
        },
    }
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, and {shape} fits the rest")
    _require_sound_values(trace)


def _require_sound_values(trace: Trace) -> None:
    histogram, places, tensors = trace.histogram, trace.top.places, len(trace.tensors)
    counts = trace.statistics[..., Statistic.COUNT]
    summed = np.delete(trace.statistics, [Statistic.THETA_DELTA, Statistic.C_LOG_C], axis=2)
    sound = {
        "tensors": _are_names(trace.tensors) and len(set(trace.tensors)) == tensors,
        "layers": _are_names(trace.layers) and len(trace.layers) == tensors,
        "every": isinstance(trace.every, int) and trace.every >= 1,
        "importance": isinstance(trace.importance, str),
        "anchors": all(isinstance(anchor, int) for anchor in trace.anchors)
        and _rises(np.array(trace.anchors, np.int64)),
        "steps": _rises(trace.steps),
        "sizes": bool((trace.sizes >= 0).all()),
        "statistics": bool(((counts >= 0) & (counts <= trace.sizes)).all())
        and not (summed < 0).any(),
        "sketch_steps": _rises(trace.sketch_steps),
        "histogram_observations": _rises(histogram.observations)
        and bool((histogram.observations < len(trace)).all()),
        "histogram_filled": bool((histogram.filled >= 0).all()),
        "histogram_bins": bool(((histogram.bins >= 0) & (histogram.bins < BINS)).all()),
        "histogram_counts": bool((histogram.counts > 0).all()),
        "histogram_sums": not (histogram.sums < 0).any(),
        "top_places": bool(((places >= 0) & (places < _limits(tensors))).all()),
        "top_values": not (trace.top.values < 0).any(),
    }
    for name, fine in sound.items():
        if not fine:
            raise ValueError(f"{name} holds what no trace has")


def _are_names(names: tuple[str, ...]) -> bool:
    return all(isinstance(name, str) for name in names)


def _rises(steps: Array) -> bool:
    """Whether these are different numbers from 0, in order."""
    return bool((np.diff(steps, prepend=-1) > 0).all())


def _limits(tensors: int) -> Array:
    """What the columns of `TopLists.places` stay below."""
    limits = np.full(5, np.iinfo(np.int64).max)
    limits[0], limits[3] = len(KINDS), tensors
    return limits


def save(trace: Trace, path: str | PathLike[str], *, durably: bool = True) -> str:
    """Write a trace; see `Trace.save`."""
    file = io.BytesIO()
    write(trace, file)
    write_atomically(Path(path), file.getbuffer(), durably=durably)
    return hashlib.sha256(file.getbuffer()).hexdigest()


def write(trace: Trace, file: IO[bytes]) -> None:
    """Write a trace to an open file."""
    header = {
        "format": FORMAT,
        "statistics_version": STATISTICS_VERSION,
        "tensors": trace.tensors,
        "layers": trace.layers,
        "every": trace.every,
        "importance": trace.importance,
        "anchors": trace.anchors,
    }
    arrays = {name: _pack(array) for name, array in to_arrays(trace).items()}
    np.savez_compressed(
        file, allow_pickle=False, **{_HEADER: np.array(json.dumps(header))}, **arrays
    )


def load(kind: type[Trace], path: str | PathLike[str]) -> Trace:
    """Read a trace; see `Trace.load`."""
    with open(path, "rb") as file:
        return read(kind, file, path)


def read(kind: type[Trace], file: IO[bytes], path: str | PathLike[str]) -> Trace:
    """Read a trace from an open file, which errors call ``path``."""
    if file.read(2) != b"PK":
        raise TraceError(f"{path} is not a trace: a trace is an npz file written by Trace.save")
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            if _HEADER not in members:
                raise TraceError(f"{path} is not a trace: it is an archive without {_HEADER!r}")
            _require_bounded(archive, _SMALL, members[_HEADER])
            header = json.loads(str(_array(archive.read(members.pop(_HEADER)))))
            _require_readable(header, path)
            steps, tensors = _shape(archive, members["steps"])[0], len(header["tensors"])
            _require_bounded(archive, max(_SMALL, _EACH * steps * tensors))
            arrays = {name: _unpack(_array(archive.read(each))) for name, each in members.items()}
            return from_arrays(kind, header, arrays)
    except TraceError:
        raise
    except DAMAGE as error:
        raise TraceError(
            f"{path} is truncated or damaged ({error}); delete it, and make it again"
        ) from error


def _require_bounded(archive: zipfile.ZipFile, most: int, *names: str) -> None:
    """Raise ValueError if the members of those names, or all, unpack to more than ``most`` bytes:
    a small file may unpack to anything, and what is read is held.
    """
    whole = sum(each.file_size for each in map(archive.getinfo, names or archive.namelist()))
    if whole > most:
        raise ValueError(f"it unpacks to {whole:,} bytes, where {most:,} are the most")


def _shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """The shape of an array, of which no more is unpacked."""
    with archive.open(name) as member:
        head = member.read(_PREFIX)
        head += member.read(int.from_bytes(head[-2:], "little"))
    return _described(head)[1]


def _array(member: bytes) -> Array:
    """The array that a member of the archive holds, as `np.load` reads it, in half of the time:
    most of a trace's arrays are small, and what describes one is the same in trace after trace.
    """
    start = _PREFIX + int.from_bytes(member[_PREFIX - 2 : _PREFIX], "little")
    dtype, shape, order = _described(member[:start])
    array: Array = np.frombuffer(member, dtype, math.prod(shape), start)
    # Of the trace's own, which may be written to.
    return array.reshape(shape, order=order).copy()


@lru_cache(maxsize=256)
def _described(head: bytes) -> tuple[Any, tuple[int, ...], Literal["F", "C"]]:
    """Dtype, shape and order of an array, from what stands before it in an npy file."""
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"an array of npy version {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    return dtype, shape, "F" if fortran else "C"


def _pack(array: Array) -> Array:
    """Split floating-point numbers into planes of like bytes, time last: they compress better."""
    if array.dtype.kind != "f":
        return array
    columns = np.ascontiguousarray(np.moveaxis(array, 0, -1))
    return np.ascontiguousarray(np.moveaxis(columns[..., None].view(np.uint8), -1, 0))


def _unpack(array: Array) -> Array:
    if array.dtype != np.uint8:
        return array
    columns = np.ascontiguousarray(np.moveaxis(array, 0, -1)).view(f"f{len(array)}")[..., 0]
    return np.ascontiguousarray(np.moveaxis(columns, -1, 0))


def _require_readable(header: Mapping[str, Any], path: str | PathLike[str]) -> None:
    for name, ours in (("format", FORMAT), ("statistics_version", STATISTICS_VERSION)):
        if header[name] != ours:
            age = "a newer" if header[name] > ours else "an older"
            raise TraceError(
                f"{path} was written by {age} version of tracerank: "
                f"its {name} is {header[name]}, and this one reads {ours}"
            )
