"""The phantom's solids and the knee made of them."""

from dataclasses import replace

import numpy as np
import pytest

from KneeBoneAgeLib.phantom.anatomy import draw_knee
from KneeBoneAgeLib.phantom.build import FEMUR, FIBULA, PATELLA, TIBIA, Build, Placing
from KneeBoneAgeLib.phantom.children import draw_children
from KneeBoneAgeLib.phantom.scenes import frontal_film, lateral_film
from KneeBoneAgeLib.phantom.solids import Canvas, Pose, see, stack


@pytest.fixture(scope="module")
def children():
    return sorted(draw_children(60, 4, with_oracle=False), key=lambda c: c.true_bone_age_months)


def upright_knee(child, spacing=0.4, right=True):
    """A knee without any lean, turn or tilt, on a canvas that holds it."""
    canvas = Canvas(700, 700, spacing)
    placing = Placing(140.0, 140.0, scale=1.0, lateral_right=not right)
    truth = draw_knee(canvas, child.indicators, placing, Build(valgus_deg=0.0), np.random.default_rng(0))
    return canvas, truth


@pytest.mark.parametrize("view", [0.0, 30.0, 90.0])
def test_the_path_through_an_elliptic_cylinder_is_the_chord_of_its_ellipse(view):
    a, b = 20.0, 12.0
    pose = Pose(50.0, 50.0, view_deg=view)
    seen = see(stack([-40.0, 40.0], [a, a], [b, b]), pose)
    patch = Canvas(200, 200, 0.5).patch(pose, (-40, 40), (-30, 30))
    path = seen.path(patch)
    angle = np.radians(view)
    across = np.hypot(a * np.cos(angle), b * np.sin(angle))
    expected = 2 * a * b / across * np.sqrt(np.clip(1 - (patch.u / across) ** 2, 0, None))
    inside = np.abs(patch.w) < 25
    np.testing.assert_allclose(path[inside], expected[inside], atol=0.02)


def test_a_turned_bone_lies_where_its_pose_says():
    pose = Pose(60.0, 70.0, turn_deg=25.0, scale=1.1, lateral_right=False)
    canvas = Canvas(300, 300, 0.5)
    ball = stack([15.0, 18.0, 20.0, 22.0, 25.0], [0.1, 4.0, 5.0, 4.0, 0.1], centre_u=8.0)
    patch = canvas.patch(pose, (-20, 20), (10, 30))
    path = see(ball, pose).path(patch)
    rows, columns = np.nonzero(path > 0)
    weights = path[rows, columns]
    x = np.average(columns + patch.columns.start + 0.5, weights=weights) * 0.5
    y = np.average(rows + patch.rows.start + 0.5, weights=weights) * 0.5
    assert (x, y) == pytest.approx(pose.to_film(8.0, 20.0), abs=0.2)


@pytest.mark.parametrize("turn", [0.0, 12.0, -40.0, 85.0])
@pytest.mark.parametrize("lateral_right", [True, False])
def test_strips_see_all_that_the_whole_window_sees(turn, lateral_right):
    pose = Pose(70.0, 75.0, turn, view_deg=10.0, tilt_deg=6.0, scale=1.1, lateral_right=lateral_right)
    bone = stack(
        [-60.0, -20.0, 0.0, 15.0, 30.0], [6.0, 5.0, 12.0, 18.0, 0.5], centre_u=[0.0, 2.0, 3.0, 0.0, 1.0]
    )
    seen = see(bone, pose)
    window = Canvas(450, 500, 0.3).window(pose, (-22.0, 22.0), (-70.0, 40.0))
    whole = window.patch()
    path = np.zeros((450, 500), np.float32)
    pixels = 0
    for strip in window.strips(seen):
        path[strip.rows, strip.columns] += seen.path(strip)
        pixels += strip.u.size
    assert path.max() > 30
    np.testing.assert_array_equal(path[whole.rows, whole.columns], seen.path(whole))
    assert pixels < (0.75 if turn < 60 else 1.01) * whole.u.size


def test_the_drawn_metaphysis_is_as_wide_as_the_indicator_says(children):
    for child in children[::12]:
        canvas, truth = upright_knee(child)
        points = {name: (x, y) for name, x, y in truth.landmarks_px}
        row = int(points["femur_metaphysis_medial"][1])
        bone = np.isin(
            canvas.labels[row - 15 : row - 2], (FEMUR, PATELLA)
        )  # the wave of the physis cuts its corners
        width = bone.sum(1).max() * canvas.spacing_mm
        assert width == pytest.approx(child.indicators.femur_metaphysis_mm, rel=0.08)


def test_the_truth_lies_between_femur_and_tibia(children):
    for child in children[::6]:
        canvas, truth = upright_knee(child)
        x, y = (int(v) for v in truth.centre_px)
        column = canvas.labels[:, x + int(0.27 * truth.width_px)]  # beside eminence and notch
        assert column[y] == 0
        assert FEMUR in column[:y]
        assert TIBIA not in column[:y]
        assert TIBIA in column[y:]
        assert FEMUR not in column[y:]


def test_an_open_physis_is_a_dark_band_and_a_closed_one_is_bone(children):
    def least_over_most(child):
        """Lowest mineral near the femoral physis in the middle of the medial half, over what lies around it."""
        canvas, truth = upright_knee(child, spacing=0.3)
        points = {name: (x, y) for name, x, y in truth.landmarks_px}
        x = int(0.6 * truth.centre_px[0] + 0.4 * points["femur_metaphysis_medial"][0])
        row = int(points["femur_metaphysis_medial"][1])
        reach = int(0.14 * truth.width_px)
        line = canvas.bone_mm[row - reach : row + reach, x - 3 : x + 4].mean(1)
        return line.min() / np.median(line)

    open_ = [c for c in children if c.indicators.femur_bridging == 0 and c.indicators.femur_width_ratio > 0.8]
    closed = [c for c in children if c.indicators.femur_bridging == 1]
    assert max(least_over_most(c) for c in open_[:5]) < 0.35
    assert min(least_over_most(c) for c in closed[-5:]) > 0.6


@pytest.mark.parametrize("bone", ["femur", "tibia"])
def test_a_physis_that_has_just_closed_leaves_a_line_that_readers_see(children, bone):
    oldest = children[-1]
    assert oldest.indicators.femur_bridging == oldest.indicators.tibia_bridging == 1.0

    def mineral(scar):
        scars = {"femur_scar": 0.0, "tibia_scar": 0.0, f"{bone}_scar": scar}
        shown = replace(oldest.indicators, **scars)
        return upright_knee(replace(oldest, indicators=shown))[0].bone_mm

    without, faded, fresh = (mineral(scar) for scar in (0.0, 0.35, 1.0))
    np.testing.assert_allclose(faded - without, 0.35 * (fresh - without), atol=1e-4)
    share = (fresh - without)[:, 330:370].mean(1) / np.maximum(without[:, 330:370].mean(1), 1.0)
    seen = np.flatnonzero(share > 0.05)
    assert 0.2 < share.max() < 0.6
    assert len(seen) * 0.4 < 6.0  # mm: a line, no band


def test_the_fibula_is_lateral_on_either_side(children):
    child = children[30]
    for right in (True, False):
        canvas, truth = upright_knee(child, right=right)
        fibula = np.nonzero(canvas.labels == FIBULA)[1].mean()
        tibia = np.nonzero(canvas.labels == TIBIA)[1].mean()
        assert (fibula < tibia) == right == truth.fibula_on_left
        assert truth.side == ("R" if right else "L")


def test_a_child_without_ossified_epiphysis_shows_none(children):
    from dataclasses import replace

    child = replace(children[5], indicators=replace(children[5].indicators, femur_width_ratio=0.0))
    canvas, truth = upright_knee(child)
    below = canvas.labels[int(truth.centre_px[1] - 0.3 * truth.width_px) : int(truth.centre_px[1])]
    assert not (below == FEMUR).any()


def test_both_knees_of_a_standing_film_are_truths_right_knee_on_the_viewers_left(children):
    child = children[40]
    scene = frontal_film(
        child.indicators, child.chronological_age_months, np.random.default_rng(3), "bilateral", pixels=300
    )
    assert [k.side for k in scene.knees] == ["R", "L"]
    assert [k.fibula_on_left for k in scene.knees] == [True, False]


@pytest.mark.parametrize("kind", ["bilateral", "long"])
def test_a_film_that_is_too_large_is_thrown_like_any_other_and_not_drawn(children, kind):
    child, films, after = children[2], [], []
    for most in (None, 100):
        rng = np.random.default_rng(8)
        films.append(
            frontal_film(
                child.indicators, child.chronological_age_months, rng, kind, spacing_mm=1.0, most=most
            )
        )
        after.append(rng.random())
    drawn, blank = films
    assert drawn.knees == blank.knees
    assert after[0] == after[1]
    assert drawn.canvas.bone_mm.max() > 5
    assert blank.canvas.bone_mm.size == 0


def test_a_lateral_film_has_nothing_to_crop(children):
    child = children[40]
    scene = lateral_film(
        child.indicators, child.chronological_age_months, np.random.default_rng(3), pixels=300
    )
    assert scene.knees == ()
    assert scene.canvas.bone_mm.max() > 5


def test_size_and_position_say_nothing_about_age(children):
    """Overall size on the film varies more between children of one age than the age band's mean does."""
    old = [c for c in children if 150 < c.true_bone_age_months < 180]
    rng = np.random.default_rng(1)
    widths = [
        frontal_film(c.indicators, c.chronological_age_months, rng, "single", pixels=200).knees[0].width_px
        for c in old
    ]
    assert np.std(widths) / np.mean(widths) > 0.1


@pytest.mark.parametrize("bone", ["femur", "tibia"])
def test_the_drawn_ratio_of_widths_is_the_indicators_whoever_the_child_is(bone):
    """A person's own flare begins above the physis; nothing is drawn on a canvas without pixels, but all is told."""
    indicators = draw_children(1, 4, [100.0], ["F"], with_oracle=False)[0].indicators
    ratios = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        build = Build.draw(rng, 100.0)
        truth = draw_knee(Canvas(0, 0, 0.5), indicators, Placing(0.0, 0.0), build, rng, soft=False)
        x = {name: x for name, x, _ in truth.landmarks_px}
        wide, narrow = (
            x[f"{bone}_{part}_lateral"] - x[f"{bone}_{part}_medial"] for part in ("epiphysis", "metaphysis")
        )
        ratios.append(wide / narrow)
    assert np.std(ratios) < 0.006 * np.mean(ratios)


@pytest.mark.parametrize("bone", ["femur", "tibia"])
def test_an_epiphysis_is_round_at_first_and_flattens_while_it_widens(bone):
    def height_over_width(child):
        points = {name: np.array([x, y]) for name, x, y in upright_knee(child)[1].landmarks_px}
        ends = [points[f"{bone}_end_{part}"][1] for part in ("medial", "middle", "lateral")]
        physis = points[f"{bone}_physis_{'distal' if bone == 'femur' else 'proximal'}"][1]
        wide = points[f"{bone}_epiphysis_lateral"][0] - points[f"{bone}_epiphysis_medial"][0]
        return max(abs(end - physis) for end in ends) / abs(wide)

    shape = {
        age: np.mean(
            [height_over_width(c) for c in draw_children(8, 4, [age] * 8, ["F"] * 8, with_oracle=False)]
        )
        for age in (12.0, 24.0, 84.0)
    }
    assert shape[12.0] > shape[24.0] > shape[84.0]
