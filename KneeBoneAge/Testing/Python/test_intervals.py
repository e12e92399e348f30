"""Means, quantiles and conformal intervals of distributions over months."""

import json

import numpy as np
import pytest

from KneeBoneAgeLib.intervals import SMALL_BAND, Calibration, mean_months, quantile_months

CENTRES = np.arange(1, 240, 2.0)


def gauss(mean: np.ndarray, sd: float) -> np.ndarray:
    p = np.exp(-0.5 * ((CENTRES - np.asarray(mean)[:, None]) / sd) ** 2)
    return p / p.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def overconfident() -> tuple[np.ndarray, np.ndarray]:
    """Predictions that claim an error of 3 months and have one of 6, or 12 below 72 months."""
    rng = np.random.default_rng(0)
    said = rng.uniform(20, 220, 6000)
    error = rng.normal(0, np.where(said < 72, 12, 6))
    return gauss(said, 3), np.clip(said + error, 0, 240)


def test_mean_and_quantiles_of_a_gaussian_are_its_own():
    p = gauss(np.array([60.0, 120.0, 180.0]), 10)
    assert mean_months(p) == pytest.approx([60, 120, 180], abs=0.01)
    assert quantile_months(p, 0.5) == pytest.approx([60, 120, 180], abs=0.1)
    assert quantile_months(p, 0.95) == pytest.approx(np.array([60, 120, 180]) + 16.45, abs=0.2)


def test_quantiles_of_a_single_bin_stay_inside_it():
    p = np.zeros((1, 120))
    p[0, 50] = 1
    assert (
        100 <= quantile_months(p, 0.01)[0] <= quantile_months(p, 0.3)[0] <= quantile_months(p, 1.0)[0] <= 102
    )


def test_calibrated_intervals_cover_what_they_claim_in_every_band(overconfident):
    p, bone_age = overconfident
    calibration = Calibration.fit(p[:3000], bone_age[:3000], level=0.9)
    low, high = calibration.interval(p[3000:])
    covered = (low <= bone_age[3000:]) & (bone_age[3000:] <= high)
    assert covered.mean() == pytest.approx(0.9, abs=0.02)
    young = mean_months(p[3000:]) < 72
    assert covered[young].mean() == pytest.approx(0.9, abs=0.03)
    assert (high - low)[young].mean() > 1.5 * (high - low)[~young].mean()


def test_the_uncalibrated_quantiles_cover_too_little(overconfident):
    p, bone_age = overconfident
    covered = (quantile_months(p, 0.05) <= bone_age) & (bone_age <= quantile_months(p, 0.95))
    assert covered.mean() < 0.7


def test_underconfident_predictions_get_narrower_intervals():
    rng = np.random.default_rng(1)
    said = rng.uniform(60, 180, 2000)
    calibration = Calibration.fit(gauss(said, 12), said + rng.normal(0, 4, 2000))
    low, high = calibration.interval(gauss(said, 12))
    assert (high - low).mean() == pytest.approx(2 * 1.645 * 4, rel=0.12)


def test_a_small_band_takes_the_shift_of_all_crops(overconfident):
    p, bone_age = overconfident
    said = mean_months(p)
    few = np.concatenate([np.flatnonzero(said > 72)[:500], np.flatnonzero(said < 36)[: SMALL_BAND - 1]])
    calibration = Calibration.fit(p[few], bone_age[few])
    assert calibration.count[0] == SMALL_BAND - 1
    everyone = Calibration.fit(p[few], bone_age[few], edges_months=()).shift[0]
    assert calibration.shift[0] == everyone
    assert calibration.shift[3] < everyone


def test_an_interval_holds_its_mean_and_stays_within_the_scale():
    tight = Calibration(0.9, "true", (), (-3.0,), (1000,))
    p = gauss(np.array([1.0, 120.0, 239.0]), 10)
    low, high = tight.interval(p)
    assert np.all((low <= mean_months(p)) & (mean_months(p) <= high))
    low, high = Calibration(0.9, "true", (), (9.0,), (1000,)).interval(p)
    assert low.min() == 0
    assert high.max() == 240


def test_a_calibration_survives_json(overconfident):
    calibration = Calibration.fit(*overconfident, target="assigned")
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


def test_predictions_without_their_bone_ages_are_an_error():
    with pytest.raises(ValueError, match="3 predictions for 2 bone ages"):
        Calibration.fit(gauss(np.array([1.0, 2.0, 3.0]), 5), [1.0, 2.0])
