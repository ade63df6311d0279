"""Traces as arrays and as files: a compressed npz with a JSON header, written durably, read with
suspicion.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from trace_core.durable import write_atomically
from trace_core.errors import TraceError
from trace_core.histogram import Histogram
from trace_core.sketch import width
from trace_core.statistics import DISPLACEMENT, STATISTICS_VERSION, Array
from trace_core.top import TopLists

if TYPE_CHECKING:
    from trace_core.trace import Trace

FORMAT = 2
"""Rises when a file's layout changes."""
_HEADER = "tracerank_trace"
_ARRAYS = ("steps", "sizes", "statistics", "learning_rates", "exact", "sketch_steps", "sketches")
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, TypeError)
_HISTOGRAM = ("observations", "filled", "bins", "counts", "sums")


def to_arrays(trace: Trace) -> dict[str, Array]:
    """Return the trace's arrays by name; they are views."""
    arrays = {name: getattr(trace, name) for name in _ARRAYS}
    arrays |= {"top_places": trace.top.places, "top_values": trace.top.values}
    return arrays | {f"histogram_{name}": getattr(trace.histogram, name) for name in _HISTOGRAM}


def from_arrays(kind: type[Trace], header: Mapping[str, Any], arrays: Mapping[str, Array]) -> Trace:
    """Build a trace from `to_arrays` and its names and settings; raises KeyError or ValueError if
    they don't fit.
    """
    trace = kind(
        **{name: arrays[name] for name in _ARRAYS},
        histogram=Histogram(*(arrays[f"histogram_{name}"] for name in _HISTOGRAM)),
        top=TopLists(arrays["top_places"], arrays["top_values"]),
        tensors=tuple(header["tensors"]),
        layers=tuple(header["layers"]),
        every=int(header["every"]),
        importance=str(header["importance"]),
        anchors=tuple(header["anchors"]),
    )
    observations, tensors, histograms = (
        len(trace.steps),
        len(trace.tensors),
        len(trace.histogram.observations),
    )
    nodes = tensors + len(trace.layer_names) + len(trace.block_names) + 1
    expected = {
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
    return trace


def save(trace: Trace, path: str | PathLike[str]) -> None:
    """Write a trace; see `Trace.save`."""
    file = io.BytesIO()
    write(trace, file)
    write_atomically(Path(path), file.getvalue())


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
        with np.load(file, allow_pickle=False) as archive:
            if _HEADER not in archive:
                raise TraceError(f"{path} is not a trace: it is an archive without {_HEADER!r}")
            header = json.loads(str(archive[_HEADER]))
            _require_readable(header, path)
            arrays = {name: _unpack(archive[name]) for name in archive.files if name != _HEADER}
            return from_arrays(kind, header, arrays)
    except TraceError:
        raise
    except _DAMAGE as error:
        raise TraceError(
            f"{path} is truncated or damaged ({error}); delete it, and make it again"
        ) from error


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
