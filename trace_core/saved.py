"""What `Tracer.state_dict` returned, read with suspicion: all of it before any of it is used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trace_core.errors import TraceError, whole_number
from trace_core.recording import Recording
from trace_core.statistics import STATISTICS_VERSION, IntArray, Statistic
from trace_core.storage import from_arrays, to_arrays
from trace_core.trace import Trace

if TYPE_CHECKING:
    from trace_core.anchors import Anchors
    from trace_core.followed import Followed
    from trace_core.sources import Source

PARTS = ("anchors", "arrays", "identity", "source", "step")


@dataclass(frozen=True)
class Saved:
    """Where the trace of a model stands, and goes on from."""

    step: int
    recording: Recording
    anchors: Anchors
    source: Source

    def state(self, histogram_every: int) -> dict[str, Any]:
        """Return it as a state: tensors and primitives alone."""
        arrays = to_arrays(self.recording.trace())
        return {
            "identity": self._identity(histogram_every),
            "step": self.step,
            "arrays": {name: torch.from_numpy(array.copy()) for name, array in arrays.items()},
            "anchors": self.anchors.state_dict(),
            "source": self.source.state_dict(),
        }

    def read(self, state: object, histogram_every: int, followed: Followed) -> Saved:
        """Return what a state holds for the same model, with the same settings; this one stays as
        it is.

        Raises TraceError if it was made for other parameters or with other settings, or is damaged.
        """
        identity = self._identity(histogram_every)
        return _read_saved(state, identity, followed, self.anchors, self.source)

    def _identity(self, histogram_every: int) -> dict[str, Any]:
        start = self.recording.trace()
        return {
            "statistics_version": STATISTICS_VERSION,
            "tensors": list(start.tensors),
            "layers": list(start.layers),
            "sizes": start.sizes.tolist(),
            "importance": start.importance,
            "every": start.every,
            "histogram_every": histogram_every,
            "anchors": list(self.anchors.exact),
            "sketched": list(self.anchors.sketched),
        }


def _read_saved(
    state: object,
    identity: Mapping[str, Any],
    followed: Followed,
    anchors: Anchors,
    source: Source,
) -> Saved:
    if not isinstance(state, dict) or not set(state) >= set(PARTS):
        raise TraceError(f"not the state of a tracer: it must be a dict with {', '.join(PARTS)}")
    with _part("identity"):
        _require_same(identity, state["identity"])
    with _part("arrays"):
        arrays = {name: tensor.numpy(force=True) for name, tensor in state["arrays"].items()}
        trace = from_arrays(Trace, identity, arrays)
        if trace.sizes.tolist() != identity["sizes"]:
            raise ValueError(f"sizes holds {trace.sizes.tolist()}")
        taken, histogram_every = trace.histogram.observations, identity["histogram_every"]
        if not _are_all_of(taken, histogram_every, len(trace)):
            raise ValueError(f"histogram_observations holds {taken.tolist()}")
    with _part("step"):
        step = whole_number("step", state["step"], 0)
        if not _are_all_of(trace.steps, trace.every, step):
            raise ValueError(f"{step} steps, and what is recorded of them is {trace.steps}")
    with _part("anchors"):
        resumed = anchors.resumed(state["anchors"], trace, step)
    with _part("source"):
        places = {name: followed.local(i) for i, name in enumerate(followed.names)}
        path = moved_since(trace, max((at for at in anchors.steps if at <= step), default=0))
        return Saved(step, Recording(trace), resumed, source.resumed(state["source"], places, path))


@contextmanager
def _part(name: str) -> Iterator[None]:
    """Turn what damage to a part of the state raises into a TraceError that names the part."""
    try:
        yield
    except TraceError:
        raise
    except (
        AttributeError,
        IndexError,
        KeyError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise TraceError(f"the state is damaged ({name}: {error}); resume from another") from error


def _require_same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    for name, value in ours.items():
        saved = theirs.get(name)
        if type(saved) is not type(value) or saved != value:
            raise TraceError(
                f"the state was saved with {name} {saved!r}; this tracer has {value!r}"
            )


def _are_all_of(found: IntArray, every: int, stop: int) -> bool:
    """Whether these are the multiples of ``every`` from 0 up to, not including, ``stop``."""
    whole = len(found) == -(-stop // every)
    return whole and bool((found == every * np.arange(len(found))).all())


def require_keys(
    name: str, found: object, needed: Collection[object], known: Collection[object]
) -> None:
    """Raise TypeError or ValueError unless ``found`` is a mapping that has all the keys needed, and
    none but those known.
    """
    if not isinstance(found, Mapping):
        raise TypeError(f"{name} is a {type(found).__name__}, and must be a dict")
    for key in needed:
        if key not in found:
            raise ValueError(f"{name} lacks {key!r}")
    for key in found:
        if key not in known:
            raise ValueError(f"{name} has {key!r}, which is none of this tracer's")


def moved_since(trace: Trace, step: int) -> list[str]:
    """Return the tensors that were read at any observed step from this one on."""
    counts = trace.statistics[trace.steps >= step, :, Statistic.COUNT]
    return [trace.tensors[i] for i in np.flatnonzero((counts > 0).any(axis=0))]
