"""Two traces, to the last bit."""

from __future__ import annotations

import numpy as np

from trace_core import Trace
from trace_core.storage import to_arrays


def assert_same(found: Trace, expected: Trace) -> None:
    arrays = to_arrays(found)
    for name, array in to_arrays(expected).items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name, strict=True)
    for name in ("tensors", "layers", "every", "importance", "anchors"):
        assert getattr(found, name) == getattr(expected, name)
