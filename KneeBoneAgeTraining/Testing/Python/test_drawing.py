"""Cohorts of drawn crops."""

from dataclasses import replace

import numpy as np
import pytest

from KneeBoneAgeLib.phantom.children import draw_children
from KneeBoneAgeLib.phantom.cohort import KIND_SHARES
from KneeBoneAgeLib.phantom.scenes import frontal_film
from KneeBoneAgeTrainingLib import drawing
from KneeBoneAgeTrainingLib.crop_cache import CropCache, CropLabels


def labels_of(folder, monkeypatch, **options) -> CropLabels:
    blank = np.zeros((4, 4), np.uint8), np.zeros((len(drawing.LANDMARKS), 2), np.float32)
    monkeypatch.setattr(drawing, "knee_crop", lambda child, rng: blank)
    drawing.draw_crops(folder, 600, 5, **options)
    return CropCache.load(folder).labels


def test_with_even_ages_every_age_is_as_frequent_as_any_other(tmp_path, monkeypatch):
    clinic = labels_of(tmp_path / "clinic", monkeypatch).age_months
    even = labels_of(tmp_path / "even", monkeypatch, even_ages=6.0).age_months
    shares = np.histogram(even, bins=[6, 48, 90, 132, 174, 216])[0] / len(even)
    assert np.all(np.abs(shares - 0.2) < 0.06)
    assert np.mean(clinic < 48) < 0.1 < np.mean(even < 48)
    again = labels_of(tmp_path / "again", monkeypatch, even_ages=6.0, part=200).age_months
    assert np.array_equal(even, again)
    grown = labels_of(tmp_path / "grown", monkeypatch, even_ages=150.0).age_months
    assert 150 <= grown.min() < 153
    assert np.all(np.abs(np.histogram(grown, bins=[150, 172, 194, 216])[0] / len(grown) - 1 / 3) < 0.07)


def test_what_the_oracle_says_is_kept_with_the_crops_when_it_is_asked(tmp_path, monkeypatch):
    labels = labels_of(tmp_path / "told", monkeypatch, oracle=True, even_ages=6.0)
    assert np.isnan(labels_of(tmp_path / "not", monkeypatch).posterior).all()
    share = labels.posterior.astype(float)
    assert np.abs(share.sum(2) - 1).max() < 2e-3
    months = (np.arange(share.shape[2]) + 0.5) * 240 / share.shape[2]
    with_age, without = (share @ months).T
    for found, oracle in ((with_age, labels.oracle_months), (without, labels.oracle_no_age_months)):
        assert np.abs(found - oracle)[oracle > 4].max() < 0.1


def test_crops_that_were_drawn_before_something_was_told_of_them_are_refused(tmp_path, monkeypatch):
    labels_of(tmp_path, monkeypatch)
    path = tmp_path / "labels-0000.npz"
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays if name != "posterior"}
    np.savez(path, **kept)
    with pytest.raises(ValueError, match="images-0000.npy: its labels do not tell the posterior; draw"):
        CropCache.load(tmp_path)


def test_the_command_draws_from_the_youngest_age_that_it_is_told(tmp_path, monkeypatch, capsys):
    blank = np.zeros((4, 4), np.uint8), np.zeros((len(drawing.LANDMARKS), 2), np.float32)
    monkeypatch.setattr(drawing, "knee_crop", lambda child, rng: blank)
    drawing.main(["crops", str(tmp_path), "--children", "40", "--seed", "5", "--even-ages", "144.0"])
    assert CropCache.load(tmp_path).labels.age_months.min() > 144
    for wrong in ("216", "-1", "nan"):
        with pytest.raises(SystemExit):
            drawing.main(["crops", str(tmp_path / "no"), "--even-ages", wrong])
        assert f"--even-ages {wrong}: give 0 to less than 216 months" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.fixture
def films(monkeypatch):
    """Every film that a crop is cut from, as it is drawn."""
    drawn = []

    def spied(*arguments, **options):
        drawn.append(frontal_film(*arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(drawing, "frontal_film", spied)
    return drawn


def test_a_crop_is_cut_from_a_whole_film_around_one_of_its_knees(films):
    children = draw_children(12, 31, chronological_age_months=np.linspace(2, 210, 12), with_oracle=False)
    fields = []
    for number, child in enumerate(children):
        crop, landmarks = drawing.knee_crop(child, np.random.default_rng([31, number]))
        scene = films[-1]
        assert 0.2 <= scene.canvas.spacing_mm <= 0.5
        assert scene.kind in KIND_SHARES
        fields.append(max(scene.canvas.shape) * scene.canvas.spacing_mm)
        assert any(
            np.array_equal(landmarks, drawing.landmarks_in_crop(knee), equal_nan=True) for knee in scene.knees
        )
        middle = slice(crop.shape[0] // 3, 2 * crop.shape[0] // 3)
        assert crop[middle, middle].mean() > np.percentile(crop, 25) + 10
    assert len({scene.kind for scene in films}) >= 3
    assert np.median(fields) > 180  # the surroundings alone are not as wide


def test_a_knee_that_no_film_shows_is_drawn_with_its_surroundings_alone(monkeypatch):
    tried = []

    def missed(*arguments, **options):
        scene = frontal_film(*arguments, **options)
        tried.append(scene.kind)
        return replace(scene, knees=())

    monkeypatch.setattr(drawing, "frontal_film", missed)
    child = draw_children(1, 32, chronological_age_months=[40.0], with_oracle=False)[0]
    crop, landmarks = drawing.knee_crop(child, np.random.default_rng(32))
    assert len(tried) > 1
    assert crop.std() > 5
    assert np.isfinite(landmarks).any()
