"""α within one training: against a loop over windows, by hand, and the limits that are stated."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_core.alpha import entropy_alpha, std_alpha
from trace_core.alpha_adaptive import ADAPTIVE_SCHEMES, adaptive_alphas
from trace_core.errors import TraceError

schemes = pytest.mark.parametrize("scheme", ADAPTIVE_SCHEMES)
values = st.integers(0, 4).map(lambda n: n / 4) | st.floats(0, 1) | st.just(float("nan"))
runs = st.integers(0, 40).flatmap(
    lambda n: st.tuples(*[st.lists(values, min_size=n, max_size=n)] * 2)
)


def slow(stability, explainability, scheme, window):
    formula = {"std": std_alpha, "entropy": entropy_alpha}[scheme]
    found = []
    for stop in range(1, len(stability) + 1):
        both = [
            (s, e)
            for s, e in list(zip(stability, explainability, strict=True))[:stop][-window:]
            if np.isfinite(s) and np.isfinite(e)
        ]
        found.append(float(formula(*zip(*both, strict=True))) if len(both) > 1 else 0.5)
    return found


def noise(observations, seed=0):
    return np.random.default_rng(seed).random((2, observations))


@schemes
@given(runs, st.integers(2, 45))
def test_each_alpha_is_the_formula_of_its_window(scheme, run, window):
    found = adaptive_alphas(*run, scheme, window)
    assert found == pytest.approx(slow(*run, scheme, window), abs=1e-12)
    assert ((found >= 0) & (found <= 1)).all()


@schemes
def test_the_window_is_50_observations_long(scheme):
    S, E = noise(130)
    assert adaptive_alphas(S, E, scheme) == pytest.approx(slow(S, E, scheme, 50))
    S[:80] = 0
    assert adaptive_alphas(S, E, scheme)[129] == pytest.approx(
        adaptive_alphas(*noise(130), scheme)[129]
    )


@schemes
def test_a_long_run_is_taken_in_parts(scheme, monkeypatch):
    S, E = noise(300)
    whole = adaptive_alphas(S, E, scheme)
    monkeypatch.setattr("trace_core.alpha_adaptive._WINDOWS_AT_ONCE", 7)
    assert (adaptive_alphas(S, E, scheme) == whole).all()


@schemes
def test_nothing_later_matters(scheme):
    S, E = noise(120)
    S[:7] = np.nan
    whole = adaptive_alphas(S, E, scheme)
    for stop in (1, 8, 9, 50, 51, 119):
        assert adaptive_alphas(S[:stop], E[:stop], scheme) == pytest.approx(whole[:stop])


@schemes
def test_values_undefined_at_the_start(scheme):
    S, E = noise(60)
    S[:7], E[:3] = np.nan, np.nan
    found = adaptive_alphas(S, E, scheme)
    # One defined observation can't vary, and two vary alike.
    assert found[:9].tolist() == [0.5] * 9
    assert found[9] != 0.5
    assert found[7:] == pytest.approx(adaptive_alphas(S[7:], E[7:], scheme)[:53])


@schemes
def test_a_component_constant_in_the_window_weighs_nothing(scheme):
    S, E = noise(120)
    E[40:] = 0.4
    found = adaptive_alphas(S, E, scheme)
    assert (found[89:] == 1).all()
    assert 0 < found[88] < 1
    assert (adaptive_alphas(E, S, scheme)[89:] == 0).all()
    assert (adaptive_alphas(E, E, scheme)[89:] == 0.5).all()


@schemes
def test_the_size_of_the_moves_does_not_matter(scheme):
    S, E = noise(120)
    tiny = adaptive_alphas(S, 0.7 + 1e-9 * E, scheme)
    assert tiny == pytest.approx(adaptive_alphas(S, E, scheme), abs=1e-5)


@pytest.mark.parametrize(("scheme", "low", "high"), [("std", 0.44, 0.56), ("entropy", 0.33, 0.67)])
def test_a_longer_window_does_not_calm_it(scheme, low, high):
    S, E = np.random.default_rng(0).standard_normal((2, 50_000))
    short, long = (adaptive_alphas(S, E, scheme, window)[50:] for window in (8, 50))
    assert np.quantile(long, [0.05, 0.95]) == pytest.approx([low, high], abs=0.01)
    assert long.std() > 0.9 * short.std()


@schemes
def test_a_training_that_is_better_in_everything_may_score_lower(scheme):
    worse, better = noise(60, seed=1) * 0.02, noise(60, seed=2) * 0.02
    worse += [[0.90], [0.10]]
    better += [[0.94], [0.14]]
    worse[1], better[0] = 0.10, 0.96
    assert (better > worse).all()
    scores = []
    for S, E in (worse, better):
        alpha = adaptive_alphas(S, E, scheme)
        scores.append((alpha * S + (1 - alpha) * E)[10:])
    assert scores[0].min() > 0.8 > 0.2 > scores[1].max()


def test_wrong_arguments_are_refused():
    with pytest.raises(
        TraceError, match=r"unknown adaptive scheme 'cross_validated'.*'std', 'entr"
    ):
        adaptive_alphas([0.1], [0.2], "cross_validated")
    with pytest.raises(TraceError, match=r"one length, got shapes \(2,\) and \(1,\)"):
        adaptive_alphas([0.1, 0.2], [0.2], "std")
    with pytest.raises(TraceError, match="window is 1; it must be a whole number from 2"):
        adaptive_alphas([0.1], [0.2], "std", window=1)


def test_it_needs_numpy_alone():
    code = "import sys, trace_core.alpha_adaptive; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "scipy", "pandas"} & set(done.stdout.split())
