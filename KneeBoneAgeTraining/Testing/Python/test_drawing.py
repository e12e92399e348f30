"""Cohorts of drawn crops."""

import numpy as np

from KneeBoneAgeTrainingLib import drawing
from KneeBoneAgeTrainingLib.crop_cache import CropCache


def ages_of(folder, monkeypatch, **options) -> np.ndarray:
    blank = np.zeros((4, 4), np.uint8), np.zeros((len(drawing.LANDMARKS), 2), np.float32)
    monkeypatch.setattr(drawing, "knee_crop", lambda child, rng: blank)
    drawing.draw_crops(folder, 600, 5, **options)
    return CropCache.load(folder).labels.age_months


def test_with_even_ages_every_age_is_as_frequent_as_any_other(tmp_path, monkeypatch):
    clinic = ages_of(tmp_path / "clinic", monkeypatch)
    even = ages_of(tmp_path / "even", monkeypatch, even_ages=True)
    shares = np.histogram(even, bins=[6, 48, 90, 132, 174, 216])[0] / len(even)
    assert np.all(np.abs(shares - 0.2) < 0.06)
    assert np.mean(clinic < 48) < 0.1 < np.mean(even < 48)
    again = ages_of(tmp_path / "again", monkeypatch, even_ages=True, part=200)
    assert np.array_equal(even, again)
