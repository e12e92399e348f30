"""Crop geometry: coordinates go round without loss, cuts land where they say and look the way they must."""

from __future__ import annotations

import time

import numpy as np
import pytest

from KneeBoneAgeLib.crop import (
    PREPROCESSING,
    SIZE_PX,
    KneeCrop,
    crop_from_box,
    cut,
    inside_fraction,
    iou,
    map_to_film,
    normalise,
    sample,
    to_crop,
    to_film,
    whole_film,
)

TURNED = KneeCrop((812.3, 640.7), 733.1, angle_deg=17.3, side="L", mirrored=True)


def ramp(rows: int, cols: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures that hold their own x and y, so that a sampled value tells where it came from."""
    x, y = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("margin", [1.0, 2.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_points_go_to_the_film_and_back_without_loss(mirrored, margin):
    crop = KneeCrop((812.3, 640.7), 733.1, angle_deg=-23.0, mirrored=mirrored)
    points = np.random.default_rng(0).uniform(-200, 400, (50, 2))
    back = to_crop(to_film(points, crop, 160, margin), crop, 160, margin)
    assert np.abs(back - points).max() < 1e-6


@pytest.mark.parametrize("side_px", [90.0, 400.0, 733.1])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_cut_pixel_comes_from_the_place_that_the_geometry_names(mirrored, side_px):
    crop = KneeCrop((812.3, 640.7), side_px, angle_deg=17.3, mirrored=mirrored)
    x, y = ramp(1300, 1700)
    middles = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5), axis=-1)
    wanted = to_film(middles, crop, 64)
    got = np.stack([cut(x, crop, 64), cut(y, crop, 64)], axis=-1)
    assert np.abs(got - wanted).max() < 0.02


def test_the_limb_axis_of_a_cut_is_upright():
    hip = np.array(TURNED.centre_px) + 100 * np.array([np.sin(np.radians(17.3)), -np.cos(np.radians(17.3))])
    u, v = to_crop(hip, TURNED, 160)
    assert u == pytest.approx(80, abs=1e-6)
    assert v < 80


def test_a_mirrored_cut_has_the_fibula_on_the_left():
    film = np.full((400, 400), 0.2, np.float32)
    film[220:400, 260:280] = 1.0  # a fibula on the viewer's right: a left knee
    left_knee = KneeCrop((200.0, 200.0), 300.0, side="L", mirrored=True)
    patch = cut(film, left_knee, 60)
    below = patch[45]
    assert below[:30].max() > 0.9
    assert below[30:].max() < 0.3
    assert np.allclose(patch[:, ::-1], cut(film, KneeCrop((200.0, 200.0), 300.0), 60), atol=1e-5)


def test_fine_patterns_are_averaged_not_aliased():
    film = np.zeros((1024, 1024), np.float32)
    film[:, ::2] = 1.0
    for side in (900.0, 700.0, 512.0):
        patch = cut(film, KneeCrop((512.0, 512.0), side, angle_deg=5), 96)
        assert abs(patch.mean() - 0.5) < 0.01
        assert patch.std() < 0.06


def test_outside_of_the_film_is_zero_and_the_rest_keeps_its_value():
    film = np.full((300, 200), 0.7, np.float32)
    patch = cut(film, KneeCrop((0.0, 150.0), 200.0), 100)
    assert np.all(patch[:, :49] == 0)
    assert np.allclose(patch[:, 52:], 0.7, atol=1e-4)
    assert np.all(cut(film, KneeCrop((-5000.0, 150.0), 200.0), 32) == 0)


@pytest.mark.parametrize("shape", [(500, 300), (2500, 2000), (6000, 1500), (100, 900), (70, 4000)])
def test_a_view_of_a_whole_film_leaves_nothing_out_and_costs_the_same(shape):
    matrix, view = whole_film(shape, 192)
    film = np.ones(shape, np.float32)
    small = sample(film, matrix, view)
    assert small.sum() * matrix[0, 0] ** 2 == pytest.approx(film.sum(), rel=0.03)
    middle = [np.average(np.arange(n) + 0.5, weights=small.sum(axis=1 - i)) / n for i, n in enumerate(view)]
    assert middle == pytest.approx([0.5, 0.5], abs=0.02)
    assert view[0] * view[1] <= 1.5 * 192 * 192
    assert view[0] % 32 == view[1] % 32 == 0


def test_cutting_a_large_film_is_quick():
    film = np.random.default_rng(1).random((2500, 2000), np.float32)
    crop = KneeCrop((1000.0, 1250.0), 1200.0, angle_deg=7)
    times = []
    for _ in range(5):
        start = time.process_time()
        cut(film, crop, 160)
        times.append(time.process_time() - start)
    assert min(times) < 0.05  # about 0.005 s on an idle core


def test_normalising_ignores_exposure_black_borders_and_batches():
    rng = np.random.default_rng(2)
    patch = (0.2 + 0.6 * rng.random((SIZE_PX, SIZE_PX))).astype(np.float32)
    wanted = normalise(patch)
    assert wanted.dtype == np.float32
    assert wanted.min() == -1
    assert wanted.max() == 1
    assert np.allclose(normalise(0.5 * patch + 0.1), wanted, atol=1e-4)
    bordered = patch.copy()
    bordered[:, :70] = 0
    assert np.abs(normalise(bordered)[:, 70:] - wanted[:, 70:]).max() < 0.05
    batch = normalise(np.stack([patch, bordered])[:, None])
    assert batch.shape == (2, 1, SIZE_PX, SIZE_PX)
    assert np.array_equal(batch[0, 0], wanted)
    assert np.all(normalise(np.full((32, 32), 0.4)) == 0)


@pytest.mark.parametrize(
    "kind",
    ["even", "few values", "mostly black", "bright spot", "sorted", "tiny", "dark sample", "bright sample"],
)
def test_percentiles_are_those_of_all_pixels_sorted(kind):
    rng = np.random.default_rng(2)
    grey = rng.random((5, 4) if kind == "tiny" else (90, 70)).astype(np.float32)
    if kind == "few values":
        grey = np.round(grey * 3) / 3
    elif kind == "mostly black":
        grey[grey < 0.8] = 0
    elif kind == "bright spot":
        grey[:, :] = 0.2
        grey[10:20, 10:20] = rng.random((10, 10))
    elif kind == "sorted":
        grey = np.sort(grey.ravel()).reshape(grey.shape)
    elif kind.endswith("sample"):  # every twelfth pixel, which is looked at first, is unlike the others
        grey = rng.uniform(0.1, 0.9, (90, 70)).astype(np.float32)
        grey.ravel()[::12][:20] = np.linspace(0.01, 0.02, 20)
        grey = 1 - grey if kind == "bright sample" else grey
    ranked = np.sort(grey[grey > 0])
    low, high = (float(ranked[int(share * (ranked.size - 1))]) for share in (0.01, 0.99))
    assert high - low > 0.1
    assert np.array_equal(normalise(grey), np.clip((grey - low) * (2 / (high - low)) - 1, -1, 1))


def test_a_box_of_a_person_is_used_as_it_is():
    crop = crop_from_box((100, 50, 300, 250), "L")
    assert crop.box_px == (100, 50, 300, 250)
    assert (crop.origin, crop.confidence, crop.angle_deg, crop.mirrored) == ("person", 1.0, 0.0, True)
    assert crop_from_box((300, 250, 100, 50)).box_px == (100, 50, 300, 250)
    assert crop_from_box((0, 0, 100, 60)).box_px == (0, -20, 100, 80)
    assert crop_from_box((0, 0, 10, 10)).side == "unknown"


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (0, 0, float("nan"), 4), (0, 7, 9, 7)])
def test_a_box_without_area_is_refused_with_its_values(box):
    with pytest.raises(ValueError, match="no area"):
        crop_from_box(box)


def test_a_map_returns_to_the_pixels_it_was_computed_from():
    values = np.zeros((160, 160), np.float32)
    values[30:34, 100:104] = 1.0
    film = map_to_film(values, TURNED, (1300, 1700))
    rows, cols = np.nonzero(film > 0.5)
    wanted = to_film((102, 32), TURNED, 160)
    assert (cols.mean() + 0.5, rows.mean() + 0.5) == pytest.approx(tuple(wanted), abs=0.5)
    again = cut(film, TURNED, 160)
    assert np.abs(again - values).max() < 0.6
    assert abs(again.sum() - values.sum()) < 0.5
    whole = map_to_film(np.ones((8, 8), np.float32), TURNED, (1300, 1700))
    assert whole.sum() == pytest.approx(TURNED.side_px**2, rel=0.01)


def test_overlap_and_what_lies_on_the_film():
    assert iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (1, 1, 2, 2)) == 0
    assert inside_fraction((-1, 0, 1, 2), (10, 10)) == 0.5


def test_a_crop_must_have_a_size_and_a_place():
    with pytest.raises(ValueError, match="positive"):
        KneeCrop((1.0, 1.0), 0.0)
    with pytest.raises(ValueError, match="finite"):
        KneeCrop((float("nan"), 1.0), 10.0)


def test_the_preprocessing_is_plain_data():
    import json

    assert json.loads(json.dumps(PREPROCESSING)) == PREPROCESSING
