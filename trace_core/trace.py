"""Trace: the stored statistics of a training, and every score as a pure function of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from trace_core import change_rate as rates
from trace_core import concentration, sketch, storage
from trace_core import stability as stabilities
from trace_core.alpha_adaptive import adaptive_alphas
from trace_core.errors import TraceError, look_up, require_known, whole_number
from trace_core.statistics import (
    DISPLACEMENT,
    Array,
    FloatArray,
    IntArray,
    Statistic,
    column_names,
    divide,
    total,
)
from trace_core.top import KINDS, TopElement
from trace_core.trace_data import TraceData

if TYPE_CHECKING:
    import pandas as pd

Value = TypeVar("Value", float, FloatArray)

READINGS = ("calibrated", "article")


def blend(alpha: Any, first: Value, second: Value) -> Value:
    """α · first + (1 − α) · second, α a number or one per value. Raises TraceError unless α lies in
    [0, 1].
    """
    try:
        weight = np.asarray(math.nan if isinstance(alpha, str) else alpha, np.float64)
    except (TypeError, ValueError):
        weight = np.asarray(math.nan)
    if not np.all((weight >= 0.0) & (weight <= 1.0)):
        raise TraceError(f"alpha is {alpha!r}; it weighs two components and must lie in [0, 1]")
    if weight.shape not in ((), np.shape(first)):
        raise TraceError(
            f"alpha has shape {weight.shape}; it is one number, or one for each of the values, of "
            f"shape {np.shape(first)}"
        )
    one_or_each: Any = weight if weight.ndim else float(weight)
    with np.errstate(invalid="ignore"):
        found: Value = one_or_each * first + (1.0 - one_or_each) * second
    return found


@dataclass(frozen=True, eq=False)
class Trace(TraceData):
    """O observations of T parameter tensors: of a model, of one of its layers or tensors, or of a
    window of steps.

    A method that returns one value per observation gives NaN where the kind is undefined, and
    passes on what was recorded of a training that diverged. One that returns a single number raises
    TraceError then, naming the tensor and the step. An unknown kind, layer or tensor raises
    TraceError with the valid choices.
    """

    # ---- one value per observation

    @property
    def active(self) -> IntArray:
        """(O,) number of elements that the optimiser was about to move: N of the article's 1/N."""
        return total(self.statistics, Statistic.COUNT).astype(np.int64)

    @property
    def inactive(self) -> IntArray:
        """(O,) number of elements left out of everything: frozen, without a gradient, or not the
        optimiser's.
        """
        return int(self.sizes.sum()) - self.active

    def learning_rate(self) -> FloatArray:
        """(O,) mean of the groups' learning rates, weighted with their active elements."""
        counts = self.statistics[:, :, Statistic.COUNT]
        weighted = np.sum(self.learning_rates * counts, axis=1, where=counts > 0)
        return divide(weighted, counts.sum(axis=1))

    def change_rate(self, kind: str = "rms") -> FloatArray:
        """(O,) change rate ≥ 0, of a kind in `CHANGE_RATES` (see `trace_core.change_rate`)."""
        return look_up(kind, rates.CHANGE_RATES, "change rate")(self.statistics)

    def angular_update(self) -> FloatArray:
        """(O,) angle in radians, in [0, π], by which a step turned the parameters as one vector;
        NaN where all are 0.

        With normalisation layers it tends to a value that learning rate and weight decay alone set
        (Wan et al. 2020, arXiv 2006.08419).
        """
        theta, delta, both = (
            total(self.statistics, s)
            for s in (Statistic.SQ_THETA, Statistic.SQ_DELTA, Statistic.THETA_DELTA)
        )
        with np.errstate(invalid="ignore"):
            across = np.sqrt(np.maximum(theta * delta - both**2, 0.0))
        angle: FloatArray = np.where(theta > 0, np.arctan2(across, theta + both), np.nan)
        return angle

    def left_out(self, kind: str) -> IntArray:
        """(O,) what each observation left out of a kind.

        Elements with θ = 0 for `elementwise`, tensors with Σ|θ| = 0 for `tensor_l1`, the whole
        observation (1) for `steadiness` where the learning rate or the change rate is 0; nothing
        for the other change rates.
        """
        if kind == "steadiness":
            return 1 - stabilities.usable(self.change_rate(), self.learning_rate()).astype(np.int64)
        return rates.left_out(kind, self.statistics)

    def explainability(self, kind: str = "gini") -> FloatArray:
        """(O,) concentration of the importance, of a kind in `EXPLAINABILITIES` (see
        `trace_core.concentration`).

        `gini` and `top_mass` are NaN where no histogram was taken.
        """
        return self._explainability(kind)[0]

    def explainability_bound(self, kind: str = "gini") -> FloatArray:
        """(O,) most by which `explainability` can differ from the truth: 0 where it is exact."""
        return self._explainability(kind)[1]

    def _explainability(self, kind: str) -> tuple[FloatArray, FloatArray]:
        require_known(kind, concentration.EXPLAINABILITIES, "explainability")
        if kind in concentration.FROM_SUMS:
            return concentration.from_sums(kind, self.statistics), np.zeros(len(self))
        at = self.histogram.observations
        active = self.active[at]
        found = self.exact[:, -1, list(concentration.FROM_ORDER).index(kind)].copy()
        found_bound = np.zeros(len(at))
        # Of a sharded model no exact values are known, also where it is small.
        pooled = (active >= concentration.EXACT_BELOW) | (np.isnan(found) & (active > 1))
        if pooled.any():
            value, bound = concentration.FROM_ORDER[kind](self.histogram.pooled())
            found, found_bound = np.where(pooled, value, found), np.where(pooled, bound, 0.0)
        values, bounds = np.full((2, len(self)), np.nan)
        values[at], bounds[at] = found, found_bound
        return values, bounds

    def alphas(
        self, scheme: str, stability: str = "steadiness", explainability: str = "gini"
    ) -> FloatArray:
        """(O,) α of each observation, by an adaptive scheme over the trailing 50 observations:
        ``std`` or ``entropy`` (`trace_core.alpha_adaptive`, which says what it is not good for).
        """
        return adaptive_alphas(
            self._trailing(stability),
            self.explainability(explainability),
            scheme,
            stabilities.TRAILING,
        )

    def scores(
        self,
        alpha: float | str = 0.5,
        reading: str = "calibrated",
        stability: str = "steadiness",
        change_rate: str = "tensor_l1",
        explainability: str = "gini",
    ) -> FloatArray:
        """(O,) score of each observation; the arguments are those of `score`, and α may also be an
        adaptive scheme of `alphas`, in the calibrated reading.

        A stability other than `magnitude` is that of the trailing 50 observations (fewer at the
        start; `directness` only as long as they begin at an anchor). A `gini` or `top_mass` is
        carried on from the last histogram.
        """
        if require_known(reading, READINGS, "reading") == "article":
            if isinstance(alpha, str):
                raise TraceError(f"alpha is {alpha!r}; the article's reading takes a number")
            return blend(alpha, self.change_rate(change_rate), self.explainability("article"))
        weight = self.alphas(alpha, stability, explainability) if isinstance(alpha, str) else alpha
        index = self.explainability(explainability)
        if explainability in concentration.FROM_ORDER and len(self.histogram.observations):
            last = (
                np.searchsorted(self.histogram.observations, np.arange(len(self)), side="right") - 1
            )
            index = np.where(last < 0, np.nan, index[self.histogram.observations[last]])
        return blend(weight, self._trailing(stability), index)

    def _trailing(self, kind: str) -> FloatArray:
        of_rows = self._stability_of_rows(kind)
        if kind == "magnitude":
            return stabilities.magnitudes(self.change_rate())
        ends = range(1, len(self) + 1)
        return np.array(
            [of_rows(max(0, end - stabilities.TRAILING), end) for end in ends], np.float64
        )

    # ---- which tensors, which parameters

    def top_movers(self, count: int = 10) -> list[tuple[str, float]]:
        """Return the tensors that moved most in this window, for their size, the first first: each
        with the length of its path over its mean length, Σ‖δ‖/mean ‖θ‖.

        With ``every=k`` the path is k times what was observed. Tensors that stood still, or are 0,
        are left out.
        """
        paths = self.every * np.sqrt(self.statistics[:, :, Statistic.SQ_DELTA]).sum(axis=0)
        sizes = np.sqrt(self.statistics[:, :, Statistic.SQ_THETA])
        observed = (self.statistics[:, :, Statistic.COUNT] > 0).sum(axis=0)
        return self._first(divide(paths, divide(sizes.sum(axis=0), observed)), count)

    def most_important(self, count: int = 10) -> list[tuple[str, float]]:
        """Return the tensors with the greatest share of the importance, the mean over this window's
        observations of Σc in the tensor over Σc in all, the first first.
        """
        masses = self.statistics[:, :, Statistic.C]
        shares = divide(masses, masses.sum(axis=1, keepdims=True))
        known = ~np.isnan(shares).any(axis=1)
        return self._first(divide(shares[known].sum(axis=0), np.count_nonzero(known)), count)

    def _first(self, values: FloatArray, count: int) -> list[tuple[str, float]]:
        count = whole_number("count", count, 0)
        order = np.argsort(-np.nan_to_num(values), kind="stable")
        return [(self.tensors[i], float(values[i])) for i in order[:count] if values[i] > 0]

    def top_elements(self, kind: str = "moved") -> list[TopElement]:
        """Return the lists of single parameters that were kept at anchors (`trace_core.top`).

        ``moved``: those that moved farthest from each anchor to the next, or to the end, where
        copies were kept; ``important``: those with the greatest share at each anchor.
        """
        return self.top.named(require_known(kind, KINDS, "list of parameters"), self.tensors)

    # ---- one number for all of the trace's observations

    def stability(self, kind: str = "steadiness") -> float:
        """Stability in [0, 1] of this window, NaN where undefined, of a kind in `STABILITIES`.

        `directness` is exact where the window starts at an anchor with a copy, and good to about 1%
        between two sketched ones; it raises TraceError elsewhere. With ``every=k`` the length of
        its path is k times what was observed.
        """
        of_rows = self._stability_of_rows(kind)
        self._require_finite()
        if kind == "directness":
            self._require_anchored()
        return of_rows(0, len(self))

    def _require_anchored(self) -> None:
        squares = self._squared_displacements(0, len(self))
        if squares is not None:
            if not np.isfinite(squares).all():
                tensor = self.tensors[int(np.argmin(np.isfinite(squares)))]
                raise TraceError(
                    f"the displacement of tensor {tensor!r} from step {self.steps[0]} is not "
                    f"finite at step {self.steps[-1]}, where the training has diverged; choose a "
                    f"window that ends before"
                )
            return
        known = [*map(str, self.anchors), *(f"{step} (sketched)" for step in self.sketch_steps)]
        raise TraceError(
            f"directness needs a window that starts at an anchor, and ends at one where they are "
            f"sketched; this one goes from step {self.steps[0]} to {self.steps[-1]}; the trace has "
            f"anchors at: {', '.join(known) or 'none'}"
        )

    def _squared_displacements(self, start: int, stop: int) -> FloatArray | None:
        """Return the square of how far each tensor went in rows start to stop (exclusive), (T,), if
        they start at an anchor, and with sketched ones both ends were sketched; what follows the
        last observed step up to the next one belongs to it.
        """
        if self.steps[start] in self.anchors:
            column = DISPLACEMENT + self.anchors.index(int(self.steps[start]))
            squares: FloatArray = self.statistics[stop - 1, :, column]
            return squares
        last = self.steps[stop - 1]
        first = np.flatnonzero(self.sketch_steps == self.steps[start])
        ends = np.flatnonzero((self.sketch_steps > last) & (self.sketch_steps <= last + self.every))
        if not len(first) or not len(ends):
            return None
        places = self.sketches[first[0]], self.sketches[ends[-1]]
        return sketch.squared_distances(*places, self.sizes.tolist())

    def _stability_of_rows(self, kind: str) -> Callable[[int, int], float]:
        """Return the stability of the observations start to stop (exclusive), as a function of the
        two.
        """
        require_known(kind, stabilities.STABILITIES, "stability")
        rate, learning_rate = self.change_rate("rms"), self.learning_rate()
        if kind == "directness":
            return self._directness
        if kind == "steadiness":
            return lambda start, stop: stabilities.steadiness(
                rate[start:stop], learning_rate[start:stop]
            )
        of_rates = {
            "steadiness_raw": stabilities.steadiness_raw,
            "magnitude": stabilities.magnitude,
        }[kind]
        return lambda start, stop: of_rates(rate[start:stop])

    def _directness(self, start: int, stop: int) -> float:
        if start >= stop:
            return math.nan
        squares = self._squared_displacements(start, stop)
        if squares is None:
            return math.nan
        path = self.every * np.sqrt(total(self.statistics[start:stop], Statistic.SQ_DELTA)).sum()
        return stabilities.directness(math.sqrt(squares.sum()), float(path))

    def score(
        self,
        alpha: float = 0.5,
        reading: str = "calibrated",
        stability: str = "steadiness",
        change_rate: str = "tensor_l1",
        explainability: str = "gini",
    ) -> float:
        """Score of this window (design §4.5).

        ``calibrated``: α · stability + (1 − α) · mean explainability, in [0, 1], NaN where either
        is undefined; ``article``: the mean over the observations of α · change rate + (1 − α)/N.
        Raises TraceError if α is outside [0, 1], or if no histogram was taken in the window and the
        explainability needs one.
        """
        if require_known(reading, READINGS, "reading") == "article":
            self._require_finite()
            return _mean(self.scores(alpha, "article", change_rate=change_rate))
        steady = self.stability(stability)
        index = self.explainability(explainability)
        if explainability in concentration.FROM_ORDER and not len(self.histogram.observations):
            raise TraceError(
                f"{explainability} needs a histogram of the importance, and none was taken in this "
                f"window of {len(self)} observations; widen it, trace with a smaller "
                f"histogram_every, or choose among: {', '.join(concentration.FROM_SUMS)}"
            )
        return blend(alpha, steady, _mean(index))

    def _require_finite(self) -> None:
        if not len(self):
            raise TraceError("the trace has no observations yet; a score needs at least one")
        finite = np.isfinite(self.statistics[:, :, :DISPLACEMENT])
        # An importance that takes passes of its own is known where a histogram was taken.
        unknown = np.ones(len(self), bool)
        unknown[self.histogram.observations] = False
        finite[unknown, :, Statistic.C :] = True
        if finite.all():
            return
        row, tensor, column = np.argwhere(~finite)[0]
        step = int(self.steps[row])
        raise TraceError(
            f"{Statistic(column).name.lower()} of tensor {self.tensors[tensor]!r} is not finite at "
            f"step {step}, where the training diverged; a score needs finite statistics: choose a "
            f"window that ends before step {step}"
        )

    # ---- out and in

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per observation and tensor: what identifies it, its statistics, rates and
        concentrations.
        """
        import pandas as pd

        shape = self.statistics.shape[:2]
        columns: dict[str, Array] = {
            "step": np.repeat(self.steps, shape[1]),
            "layer": np.tile(np.array(self.layers, object), shape[0]),
            "tensor": np.tile(np.array(self.tensors, object), shape[0]),
            "size": np.tile(self.sizes, shape[0]),
            "learning_rate": self.learning_rates.ravel(),
        }
        columns |= {
            name: self.statistics[:, :, column].ravel()
            for column, name in enumerate(column_names(self.anchors))
        }
        parts = [self.tensor(name) for name in self.tensors]
        for kind in rates.CHANGE_RATES:
            columns[kind] = np.stack([part.change_rate(kind) for part in parts], axis=1).ravel()
        for kind in concentration.EXPLAINABILITIES:
            columns[kind] = np.stack([part.explainability(kind) for part in parts], axis=1).ravel()
        return pd.DataFrame(columns)

    def save(self, path: str | PathLike[str], *, durably: bool = True) -> str:
        """Write the trace to ``path``: a reader sees the old file or all of the new one, and if
        ``durably`` after a crash of the machine too. Returns the SHA-256 of the file, in
        hexadecimal.

        Raises OSError if it can't be written.
        """
        return storage.save(self, path, durably=durably)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Trace:
        """Read a trace that `save` wrote.

        Raises FileNotFoundError, or TraceError naming the path if it isn't a whole trace, or
        another version's.
        """
        return storage.load(cls, path)


def _mean(values: FloatArray) -> float:
    """Mean of the values that are defined, NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
