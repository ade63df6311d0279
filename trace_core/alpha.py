"""One α for a whole pool of models.

The ranking weighs stability S against explainability E by one common α for all models:
``α·S + (1 − α)·E``. It is fixed, or taken from the pool; whatever is taken from the pool moves
when a model joins or leaves it, so that ranks may reverse.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trace_core.alpha_fit import MINIMUM_MODELS, Evidence, Fit, PairSweep, leave_pair_out
from trace_core.alpha_lines import (
    Crossing,
    FloatArray,
    Span,
    breakpoints,
    columns,
    crossings,
    leaders,
    numbers,
    rank_steps,
    share_first,
)
from trace_core.errors import TraceError

__all__ = [
    "DEFAULT_ALPHA",
    "SCHEMES",
    "AlphaChoice",
    "Crossing",
    "Evidence",
    "Fit",
    "PairSweep",
    "Span",
    "breakpoints",
    "common_alpha",
    "crossings",
    "entropy_alpha",
    "leaders",
    "leave_pair_out",
    "parse_alpha",
    "rank_steps",
    "share_first",
    "std_alpha",
]

DEFAULT_ALPHA = 0.5
SCHEMES = ("std", "entropy", "cross_validated")
# Components lie in [0, 1] and carry errors of 1e-16: less spread than this is none. Normalised, it
# would weigh as much as any other.
_ROUNDING = 1e-14
# Inside a narrower interval, scores in floats order the crossing models by their rounding.
_NARROWEST = 1e-12


@dataclass(frozen=True)
class AlphaChoice:
    """The α of a pool, and where it comes from.

    ``source`` is ``fixed`` or the name of a scheme; after a fallback it is
    ``cross_validated: fallback`` and ``alpha`` is 0.5. ``note`` says in plain words how α came
    about. ``fit`` and ``evidence`` are those of ``cross_validated``, where there are any.
    """

    alpha: float
    source: str
    note: str
    fit: Fit | None = None
    evidence: Evidence | None = None

    @property
    def depends_on_pool(self) -> bool:
        """Whether α was taken from the pool: it was not if it is fixed, or fell back."""
        return self.source in SCHEMES


def parse_alpha(value: float | str) -> float | str:
    """A fixed α as a float in [0, 1], or the name of a scheme.

    Raises:
        TraceError: if it is neither.
    """
    if isinstance(value, str) and value in SCHEMES:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number <= 1:
        raise TraceError(
            f"alpha is {value!r}: it must be a number from 0 to 1, or one of {', '.join(SCHEMES)}"
        )
    return number


def _normalised(values: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Each pool (last axis) brought to [0, 1] by its minimum and maximum; which are constant."""
    low = values.min(axis=-1, keepdims=True)
    span = values.max(axis=-1, keepdims=True) - low
    constant = span <= _ROUNDING
    return np.where(constant, 0.0, values - low) / np.where(constant, 1.0, span), constant[..., 0]


def _pools(
    stability: npt.ArrayLike, explainability: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Both components of pools of one shape; raises TraceError for others."""
    first, second = numbers(stability, "stability"), numbers(explainability, "explainability")
    if first.shape != second.shape or not first.ndim or not first.shape[-1]:
        raise TraceError(
            "stability and explainability must be of one shape, with at least one model along the "
            f"last axis; their shapes are {first.shape} and {second.shape}"
        )
    for name, values in (("stability", first), ("explainability", second)):
        if not np.isfinite(values).all():
            raise TraceError(f"{name} must be finite")
    return first, second


def _balance(first: FloatArray, second: FloatArray) -> FloatArray:
    total = first + second
    return np.where(total > 0, first / np.where(total > 0, total, 1.0), DEFAULT_ALPHA)


def std_alpha(stability: npt.ArrayLike, explainability: npt.ArrayLike) -> FloatArray:
    """α from the spread of the components: sd(S) / (sd(S) + sd(E)).

    Population standard deviations of the columns, min–max-normalised over the pool. CRITIC
    (Diakoulaki, Mavrotas and Papayannakis, 1995, Computers & Operations Research 22) weighs a
    criterion by its deviation times its conflict with the others, Σ(1 − r); with two criteria
    the conflict is the same number for both and cancels.

    Args:
        stability: shape (..., M), M ≥ 1: one pool, or many at once.
        explainability: the same shape.

    Returns:
        Shape (...), in [0, 1]. A component that is constant to 1e-14 weighs 0; if both are, 0.5.
        So it is with two models, unless one component is constant.

    Raises:
        TraceError: for unequal shapes, no model, or values that are not finite numbers.
    """
    first, second = (_normalised(pool)[0] for pool in _pools(stability, explainability))
    return _balance(first.std(axis=-1), second.std(axis=-1))


def entropy_alpha(stability: npt.ArrayLike, explainability: npt.ArrayLike) -> FloatArray:
    """α by the entropy weight method: d(S) / (d(S) + d(E)), d = 1 + Σ p ln p / ln M.

    p is a min–max-normalised column divided by its sum: the more unevenly a component is spread
    over the models, the more it weighs (Hwang and Yoon, 1981, Multiple Attribute Decision
    Making; they take the shares of the raw values, which a constant added to a column changes).

    Args:
        stability: shape (..., M), M ≥ 1: one pool, or many at once.
        explainability: the same shape.

    Returns:
        Shape (...), in [0, 1]. A component that is constant to 1e-14 weighs 0; if both are, 0.5.
        With two models, every component that varies has d = 1.

    Raises:
        TraceError: as :func:`std_alpha` does.
    """

    def divergence(values: FloatArray) -> FloatArray:
        scaled, constant = _normalised(values)
        share = scaled / np.where(constant, 1.0, scaled.sum(axis=-1))[..., None]
        terms = share * np.log(np.where(share > 0, share, 1.0))
        models = max(scaled.shape[-1], 2)
        return np.where(constant, 0.0, 1 + terms.sum(axis=-1) / np.log(models))

    first, second = _pools(stability, explainability)
    return _balance(divergence(first), divergence(second))


_FORMULAS: dict[str, tuple[Callable[[FloatArray, FloatArray], FloatArray], str]] = {
    "std": (std_alpha, "in proportion to the components' spread over the eligible models"),
    "entropy": (entropy_alpha, "by the entropy weight method over the eligible models"),
}


def common_alpha(
    scheme: float | str,
    stability: npt.ArrayLike,
    explainability: npt.ArrayLike,
    *,
    validation: npt.ArrayLike | None = None,
    test: npt.ArrayLike | None = None,
) -> AlphaChoice:
    """The one α at which a pool of models is compared.

    ``cross_validated`` takes the α whose order of the models agrees best with the validation
    metric, and keeps it only if the leave-pair-out interval on the test metric lies above 0 and
    the α are not too close together for floats; else α is 0.5 and ``note`` says why. Fitting α to
    performance tends to delete the component that disagrees with performance.

    Args:
        scheme: a number in [0, 1] (also as text), ``std``, ``entropy`` or ``cross_validated``.
        stability: shape (M,).
        explainability: shape (M,).
        validation: shape (M,), higher is better; only ``cross_validated`` reads it.
        test: shape (M,), higher is better; only ``cross_validated`` reads it.

    Returns:
        The α with its source; 0.5 for an empty pool under a scheme.

    Raises:
        TraceError: for an α that is none of these; for components that are not finite vectors
            of one length; for ``cross_validated`` without both metrics.
    """
    value = parse_alpha(scheme)
    first, second = columns(stability, explainability)
    if isinstance(value, float):
        return AlphaChoice(value, "fixed", f"α is fixed at {value:g}")
    if value == "cross_validated":
        if validation is None or test is None:
            raise TraceError("cross_validated needs the validation and the test metric")
        return _cross_validated(first, second, validation, test)
    if not len(first):
        return AlphaChoice(DEFAULT_ALPHA, value, "there is no model to take α from")
    formula, how = _FORMULAS[value]
    alpha = float(formula(first, second))
    return AlphaChoice(alpha, value, f"α = {alpha:.3g} {how}; another pool has another α")


def _cross_validated(
    first: FloatArray, second: FloatArray, validation: npt.ArrayLike, test: npt.ArrayLike
) -> AlphaChoice:
    models = len(first)
    if models < MINIMUM_MODELS:
        return _fallback(f"{models} eligible models are too few for it: it needs {MINIMUM_MODELS}")
    for name, metric in (("validation", validation), ("test", test)):
        if not np.isfinite(numbers(metric, f"the {name} metric")).all():
            return _fallback(f"the {name} metric of some models is missing or not finite")
    sweep = PairSweep(first, second, validation)
    fit = sweep.fit()
    evidence = leave_pair_out(sweep, test)
    if fit.tau is None or evidence is None:
        return _fallback("models that do not differ leave nothing to fit α to", fit, evidence)
    found = (
        f"left-out pairs were ordered as the test metric orders them with concordance "
        f"{evidence.concordance:.3f} (95% interval {evidence.low:.3f} to {evidence.high:.3f})"
    )
    if evidence.high < 0:
        return _fallback(f"the fitted α runs against the test metric: {found}", fit, evidence)
    if evidence.low <= 0:
        return _fallback(f"α carries no evidence: {found}, which includes 0", fit, evidence)
    if fit.stop - fit.start < _NARROWEST:
        return _fallback(
            f"the best α lies between crossings only {float(fit.stop - fit.start):.1g} apart, too "
            "close for scores in floats (components rounded to few decimals do that)",
            fit,
            evidence,
        )
    alpha = float(fit.alpha)
    return AlphaChoice(
        alpha,
        "cross_validated",
        f"α = {alpha:.3g} agrees best with the validation metric (τ-b {fit.tau:.3f}, the same "
        f"from {float(fit.start):.3g} to {float(fit.stop):.3g}); {found}. Fitting α to "
        "performance tends to delete the component that disagrees with it",
        fit,
        evidence,
    )


def _fallback(why: str, fit: Fit | None = None, evidence: Evidence | None = None) -> AlphaChoice:
    return AlphaChoice(
        DEFAULT_ALPHA,
        "cross_validated: fallback",
        f"α falls back to {DEFAULT_ALPHA:g}: {why}",
        fit,
        evidence,
    )
