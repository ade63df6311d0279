"""The curve of every ranked model: what is left of it once it is small."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from made_up import MadeUpTrace

from sweeps.report.thin_curves import LEVELS, thin_curves
from sweeps.scoring import POINTS, curve


def test_points_are_the_means_of_spans_of_observations() -> None:
    trace = MadeUpTrace(np.random.default_rng(0), 100, 0.003)
    steps, rates = curve(trace, "rms")  # type: ignore[arg-type]
    assert steps.tolist() == [1.5 + 4 * i for i in range(25)]
    known = trace.change_rate()[4:8]
    assert rates[1] == pytest.approx(known.mean(), rel=1e-6)
    # One of the first four is missing, and not counted.
    assert rates[0] == pytest.approx(np.nanmean(trace.change_rate()[:4]), rel=1e-6)
    for count in (3, 31, 32, 33, 64, 65, 1_000):
        short = MadeUpTrace(np.random.default_rng(0), count, 0.003)
        assert curve(short, "rms").shape[1] <= POINTS  # type: ignore[arg-type]


def test_levels_are_within_half_a_step_of_the_rates() -> None:
    rng = np.random.default_rng(1)
    steps = np.arange(20.0)
    models = []
    for _ in range(7):
        rates = np.exp(rng.normal(-6, 2, (2, 20)))
        rates[:, 4] = 0
        rates[0, 7] = np.nan
        models.append([np.stack([steps, each]).astype(np.float32) for each in rates])
    packed = thin_curves(models)
    assert packed["axes"] == [steps.tolist()]
    assert packed["axis"] == [0] * 7
    levels = np.frombuffer(base64.b64decode(packed["levels"]), np.uint8).reshape(7, 20)
    assert (levels[:, 4] == 0).all()
    for model, own in enumerate(models):
        low, high = packed["low"][model], packed["high"][model]
        shown = low * (high / low) ** ((levels[model] - 1.0) / LEVELS)
        mean = np.nanmean([each[1].astype(np.float64) for each in own], axis=0)
        kept = levels[model] > 0
        # Besides half of a level, the ends are rounded to four figures.
        most = np.log(high / low) / LEVELS / 2 + 2e-3
        assert np.abs(np.log(shown[kept] / mean[kept])).max() < most


def test_trainings_of_other_steps_share_what_they_have_in_common() -> None:
    one = np.array([[0, 1, 2, 3], [1, 2, 3, 4]], np.float32)
    other = np.array([[1, 3, 5], [4, 8, 9]], np.float32)
    packed = thin_curves([[one, other], [other]])
    assert packed["axes"] == [[1, 3], [1, 3, 5]]
    assert packed["axis"] == [0, 1]
    assert (packed["low"][0], packed["high"][0]) == (3, 6)


def test_models_of_other_steps_or_other_numbers_of_trainings_stand_in_their_places() -> None:
    rng = np.random.default_rng(5)
    steps = [np.arange(4.0), np.arange(6.0)]

    def model(which: int, trainings: int) -> list[np.ndarray]:
        rates = rng.uniform(0, 1, (trainings, len(steps[which])))
        return [np.stack([steps[which], each]).astype(np.float32) for each in rates]

    models = [model(1, 2), model(0, 2), model(1, 3), model(0, 1), model(1, 2)]
    packed = thin_curves(models)
    assert packed["axes"] == [steps[1].tolist(), steps[0].tolist()]
    assert packed["axis"] == [0, 1, 0, 1, 0]
    alone = [thin_curves([each]) for each in models]
    for name in ("low", "high"):
        assert packed[name] == [each[name][0] for each in alone]
    levels = b"".join(base64.b64decode(each["levels"]) for each in alone)
    assert base64.b64decode(packed["levels"]) == levels


@pytest.mark.parametrize("rates", [[0, 0], [np.nan, np.nan], [3, 3]])
def test_a_curve_of_nothing_or_of_one_rate(rates: list[float]) -> None:
    packed = thin_curves([[np.array([[0, 1], rates], np.float32)]])
    levels = set(base64.b64decode(packed["levels"]))
    assert levels == ({1} if rates[0] == 3 else {0})


def test_of_no_model_there_is_nothing() -> None:
    assert thin_curves([])["levels"] == ""
