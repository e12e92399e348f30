"""The other body parts: drawn where asked, as the age has them, without touching what tells of a knee."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from KneeBoneAgeLib.phantom.others import (
    KINDS,
    draw_foot_and_ankle,
    draw_hip,
    draw_holder_hand,
    draw_other,
    film_extent_mm,
)
from KneeBoneAgeLib.phantom.others.rods import block, tube
from KneeBoneAgeLib.phantom.others.skeleton import Part, Plate
from KneeBoneAgeLib.phantom.solids import Canvas, Pose


def drawn(kind: str, age_years: float, seed: int = 0, pose: Pose | None = None) -> Canvas:
    canvas = Canvas(200, 200, film_extent_mm(kind, age_years) / 200)
    draw_other(kind, canvas, np.random.default_rng(seed), age_years, pose)
    return canvas


def plain_part(canvas: Canvas, age_years: float, matrix: np.ndarray | None = None) -> Part:
    """A part of adult size without any variation, its zero in the middle of the canvas."""
    middle = np.array([canvas.shape[1], canvas.shape[0], 0.0]) * canvas.spacing_mm / 2
    layers = np.zeros(canvas.shape, np.float32), np.zeros(canvas.shape, np.float32)
    turned = np.eye(3) if matrix is None else matrix
    return Part(canvas, np.random.default_rng(0), age_years, middle, turned, 1.0, 1.0, 1.0, 1.0, *layers)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("age_years", [0.3, 6.0, 30.0])
def test_every_part_has_flesh_and_bone_within_flesh_and_no_labels(kind, age_years):
    canvas = drawn(kind, age_years)
    assert not canvas.labels.any()
    for layer in (canvas.soft_mm, canvas.bone_mm):
        assert layer.dtype == np.float32
        assert np.isfinite(layer).all()
        assert layer.min() >= 0
        assert layer.max() > 1
    assert (canvas.soft_mm[canvas.bone_mm > 1] > 0).mean() > 0.97
    assert canvas.bone_mm.max() < 150


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same_part_and_another_seed_another(kind):
    first, again, other = drawn(kind, 8, 1), drawn(kind, 8, 1), drawn(kind, 8, 2)
    np.testing.assert_array_equal(first.bone_mm, again.bone_mm)
    assert np.abs(first.bone_mm - other.bone_mm).max() > 1


def test_an_unknown_kind_is_refused():
    with pytest.raises(KeyError, match="knee"):
        draw_other("knee", Canvas(8, 8, 1.0), np.random.default_rng(0), 8)


def test_drawing_adds_to_what_is_there():
    canvas = Canvas(200, 200, 1.0)
    canvas.soft_mm += 10
    canvas.labels += 2
    draw_other("hand", canvas, np.random.default_rng(0), 8)
    assert canvas.soft_mm.min() == 10
    assert canvas.soft_mm.max() > 20
    assert (canvas.labels == 2).all()


def test_a_hand_gains_centres_as_it_grows_and_they_fuse_in_the_adult():
    pose = Pose(150, 90, 0)

    def pieces(age_years: float) -> int:
        counts = []
        for seed in range(3):
            canvas = Canvas(900, 900, 300 / 900)
            draw_other("hand", canvas, np.random.default_rng(seed), age_years, pose)
            labelled = label(canvas.bone_mm > 0.05)[0]
            counts.append(int((np.bincount(labelled.ravel())[1:] > 12).sum()))
        return int(np.median(counts))

    baby, child, adult = pieces(0.5), pieces(7.0), pieces(30.0)
    assert child > baby
    assert child > adult


@pytest.mark.parametrize(
    ("age_years", "pieces", "gap_mm"),
    [(0.5, 1, None), (2.0, 2, (1, 15)), (10.0, 2, (0.8, 4)), (20.0, 1, None)],
)
def test_a_plate_is_cartilage_then_open_then_fused(age_years, pieces, gap_mm):
    canvas = Canvas(400, 100, 0.25)
    part = plain_part(canvas, age_years)
    part.bone((0, -40, 0), (0, 40, 0), tube(8, 5, 8), end=Plate(8, 1, 9, 16), cortex_mm=2)
    axis = part.mineral[:, 50] > 0.2
    runs = np.flatnonzero(np.diff(np.concatenate([[0], axis.astype(int), [0]])))
    assert len(runs) == 2 * pieces
    if gap_mm:
        assert gap_mm[0] <= (runs[2] - runs[1]) * 0.25 <= gap_mm[1]


def test_a_shaft_has_a_bright_cortex_and_a_dark_marrow():
    canvas = Canvas(400, 100, 0.25)
    part = plain_part(canvas, 20)
    part.bone((0, -45, 0), (0, 45, 0), tube(8, 5, 8), cortex_mm=2)
    section = part.mineral[200]
    assert section.max() > 1.5 * section[50]
    expected = 2 * 5 * 0.85 - (2 * 3 * 0.85) * (1 - 0.04)
    assert section[50] == pytest.approx(expected, rel=0.06)


def test_a_foreshortened_body_keeps_its_mineral():
    masses = []
    for degrees in (0, 40, 75):
        canvas = Canvas(300, 300, 0.4)
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        part = plain_part(canvas, 20, np.array([[1, 0, 0], [0, c, -s], [0, s, c]]))
        part.body((0, -25, 0), (0, 25, 0), block(8, 8))
        masses.append(part.mineral.sum())
    assert masses == pytest.approx([masses[0]] * 3, rel=0.25)


def test_parts_beyond_the_film_are_cut_without_complaint():
    canvas = Canvas(100, 100, 1.0)
    for kind in KINDS:
        draw_other(kind, canvas, np.random.default_rng(0), 9, Pose(5000, -5000, 20))
        draw_other(kind, canvas, np.random.default_rng(0), 9, Pose(0, 0, 20))
    assert np.isfinite(canvas.soft_mm).all()


@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
def test_the_holder_hand_comes_in_over_the_nearest_edge(edge):
    near = {"left": (0, 120), "right": (240, 120), "top": (120, 0), "bottom": (120, 240)}[edge]
    for seed in range(12):
        canvas = Canvas(200, 200, 1.2)
        draw_holder_hand(canvas, np.random.default_rng(seed), near=near)
        soft = canvas.soft_mm > 0
        border = {"left": soft[:, 0], "right": soft[:, -1], "top": soft[0], "bottom": soft[-1]}
        opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[edge]
        assert border[edge].any()
        assert not border[opposite].any()


@pytest.mark.parametrize("lateral_right", [True, False])
def test_the_foot_hangs_below_the_ankle_and_the_fibula_lies_lateral(lateral_right):
    canvas = Canvas(300, 300, 1.0)
    pose = Pose(150, 120, lateral_right=lateral_right)
    draw_foot_and_ankle(canvas, np.random.default_rng(0), pose, 14, plantar_deg=20)
    assert canvas.bone_mm[130:].sum() > canvas.bone_mm[:120].sum()
    above = canvas.bone_mm[90] > 0.5
    lateral = np.flatnonzero(above)[-1] - 150 if lateral_right else 150 - np.flatnonzero(above)[0]
    medial = 150 - np.flatnonzero(above)[0] if lateral_right else np.flatnonzero(above)[-1] - 150
    assert lateral > medial + 5


@pytest.mark.parametrize("lateral_right", [True, False])
def test_the_hip_lies_above_the_shaft_with_its_head_medial(lateral_right):
    canvas = Canvas(300, 300, 1.0)
    pose = Pose(150, 200, lateral_right=lateral_right)
    draw_hip(canvas, np.random.default_rng(0), pose, 14, flesh=False)
    assert not (canvas.bone_mm[225:] > 0).any()
    columns = np.flatnonzero((canvas.bone_mm[:190] > 0.5).any(0))
    medial, lateral = (150 - columns[0], columns[-1] - 150)
    assert (medial > lateral) == lateral_right


def test_joined_parts_do_not_double_the_leg_they_belong_to():
    canvas = Canvas(300, 300, 1.0)
    canvas.soft_mm += 500
    canvas.bone_mm += 200
    draw_foot_and_ankle(canvas, np.random.default_rng(0), Pose(150, 120), 14)
    assert canvas.soft_mm.max() == 500
    assert canvas.bone_mm.max() == 200
