"""α within one training: what its last observations make of stability against explainability.

The formulas are those for a pool, with the observations of a trailing window in the place of the
models, so that they read the *shape* of the two series and nothing else. What follows from that:

- α depends on this training alone, on no other model and on nothing later.
- Min–max normalisation takes a component that moves by 1e-9 for as important as one that moves by
  0.3, and a longer window doesn't calm it: on two series of pure noise, α at window 50 is .44 to
  .56 by ``std`` and .33 to .67 by ``entropy`` (5% to 95%), no narrower than at window 8. On three
  architectures on digits it was .47 to .63 and .37 to .80, and as good as unrelated between seeds
  of one model (correlation −.03 to .15).
- Scores at adaptive α of two trainings are not comparable: one that is higher in both components
  at every observation may score lower throughout. The ranking takes one common α instead
  (`trace_core.alpha`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from trace_core.alpha import DEFAULT_ALPHA, entropy_alpha, std_alpha
from trace_core.alpha_lines import FloatArray, numbers
from trace_core.errors import TraceError, look_up, whole_number

ADAPTIVE_SCHEMES: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "std": std_alpha,
    "entropy": entropy_alpha,
}
# Bounds the memory for a long training.
_WINDOWS_AT_ONCE = 10_000


def adaptive_alphas(
    stability: npt.ArrayLike, explainability: npt.ArrayLike, scheme: str, window: int = 50
) -> FloatArray:
    """α of every observation, from the trailing window that ends with it.

    Only observations at which both components are defined count, so that both are read at the same
    points. Give NaN where an explainability was not measured rather than carry the last one on:
    on digits with a histogram every 4 to 16 steps, carrying on took α 1.1 to 2.9 times as far from
    that of a histogram at every step, and a window that holds one value only has an α of 1.

    Args:
        stability: shape (O,), one value per observation, NaN where undefined.
        explainability: the same shape.
        scheme: ``std`` or ``entropy``, the formulas `std_alpha` and `entropy_alpha`.
        window: observations in a window, at least 2; there are fewer at the start.

    Returns:
        Shape (O,), in [0, 1], never NaN: 0.5 where fewer than two observations of the window
        count. A component that is constant over them weighs 0 (α is then 0 or 1); if both are,
        0.5. O(O · window) time, in at most ``window`` calls of the formula.

    Raises:
        TraceError: for an unknown scheme, series that are not vectors of one length, or a window
            below 2.
    """
    formula = look_up(scheme, ADAPTIVE_SCHEMES, "adaptive scheme")
    first, second = numbers(stability, "stability"), numbers(explainability, "explainability")
    if first.ndim != 1 or first.shape != second.shape:
        raise TraceError(
            "stability and explainability must be vectors of one length, got shapes "
            f"{first.shape} and {second.shape}"
        )
    window = whole_number("window", window, 2)
    counts = np.isfinite(first) & np.isfinite(second)
    kept = np.stack([first[counts], second[counts]])
    # What counts in a window stands side by side among all that counts: kept[:, start:stop].
    seen = np.concatenate([np.zeros(window, np.int64), np.cumsum(counts)])
    start, stop = seen[:-window], seen[window:]
    alphas = np.full(len(first), DEFAULT_ALPHA)
    sizes = stop - start
    for size in np.unique(sizes[sizes >= 2]):
        of_size = np.flatnonzero(sizes == size)
        windows = sliding_window_view(kept, size, axis=1)
        for begin in range(0, len(of_size), _WINDOWS_AT_ONCE):
            at = of_size[begin : begin + _WINDOWS_AT_ONCE]
            alphas[at] = formula(*windows[:, start[at]])
    return alphas
