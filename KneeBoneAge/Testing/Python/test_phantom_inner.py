"""What the insides of drawn bones show, and what they must leave alone."""

from dataclasses import replace

import numpy as np
import pytest

from KneeBoneAgeLib.phantom.anatomy import draw_knee
from KneeBoneAgeLib.phantom.build import FEMUR, FIBULA, TIBIA, Build, Placing
from KneeBoneAgeLib.phantom.children import draw_children
from KneeBoneAgeLib.phantom.inner import REACH, End, Table, femoral, tibial
from KneeBoneAgeLib.phantom.solids import Canvas, Pose

EVEN = Build(valgus_deg=0.0)
GROWN = End(75.0, 1, 2.0, 34.0, 39.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def children():
    """Three girls of 4, 9 and 19 years."""
    return draw_children(3, 8, [48.0, 108.0, 230.0], ["F"] * 3, with_oracle=False)


def drawn(child, build, right=True):
    canvas = Canvas(600, 600, 0.4)
    placing = Placing(120.0, 120.0, scale=1.0, lateral_right=not right)
    truth = draw_knee(canvas, child.indicators, placing, build, np.random.default_rng(0), soft=False)
    return canvas, truth


def test_the_inside_leaves_masks_and_landmarks_as_they_are(children):
    for child in children:
        plain, told = drawn(child, EVEN)
        canvas, truth = drawn(child, replace(EVEN, inner_seed=5))
        np.testing.assert_array_equal(canvas.labels, plain.labels)
        assert truth == told


def test_the_inside_changes_bone_only_and_keeps_every_gap(children):
    for child in children:
        plain, _ = drawn(child, EVEN)
        canvas, _ = drawn(child, replace(EVEN, inner_seed=5))
        np.testing.assert_array_equal(canvas.bone_mm[plain.bone_mm == 0], 0)
        ratio = canvas.bone_mm[plain.labels == FEMUR] / plain.bone_mm[plain.labels == FEMUR]
        assert 0.14 < ratio.min() < 0.95
        assert 1.05 < ratio.max() < 1.86


@pytest.mark.parametrize("lateral_right", [True, False])
def test_the_insides_leave_alone_what_was_drawn_beside_the_bones_before(children, lateral_right):
    indicators = children[2].indicators
    placing = Placing(120.0, 120.0, lean_deg=20.0, scale=1.0, lateral_right=lateral_right)
    canvases = Canvas(600, 600, 0.4), Canvas(600, 600, 0.4)
    for canvas, seed in zip(canvases, (None, 5), strict=True):
        canvas.bone_mm[:] = 3.0
        draw_knee(
            canvas, indicators, placing, replace(EVEN, inner_seed=seed), np.random.default_rng(0), soft=False
        )
    plain, inside = (canvas.bone_mm for canvas in canvases)
    x, y = placing.pose().to_film(0.0, 1.0)  # a point of the axis, 1 mm from the joint
    rows, columns = (np.mgrid[:600, :600] + 0.5) * 0.4
    from_axis_mm = np.abs((columns - 120.0) * (y - 120.0) - (rows - 120.0) * (x - 120.0))
    reach_mm = REACH * max(indicators.femur_metaphysis_mm, indicators.tibia_metaphysis_mm)
    beside = from_axis_mm > reach_mm + 0.4
    assert beside.mean() > 0.2
    np.testing.assert_array_equal(inside[beside], plain[beside])
    assert (inside != plain)[from_axis_mm < 20].mean() > 0.3


def test_people_differ_inside_and_each_stays_the_same(children):
    first, again, other = (drawn(children[2], replace(EVEN, inner_seed=s))[0].bone_mm for s in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    inside = drawn(children[2], EVEN)[0].labels == TIBIA
    assert np.abs(first - other)[inside].mean() > 0.03 * first[inside].mean()


def test_a_left_knee_is_a_right_one_in_the_mirror(children):
    build = replace(EVEN, inner_seed=9)
    right, left = (drawn(children[1], build, right)[0].bone_mm for right in (True, False))
    middle = right[250:400] - left[250:400, ::-1]
    assert np.abs(middle).mean() < 0.01 * right[250:400].mean()


@pytest.mark.parametrize("proximal", [1, -1])
@pytest.mark.parametrize("lateral_right", [True, False])
def test_what_a_table_holds_lies_where_the_pose_says(proximal, lateral_right):
    end = replace(GROWN, proximal=proximal, joint=2.0 * proximal, physis=34.0 * proximal)
    table = Table(end, np.random.default_rng(0))
    table.blob(1.0, 0.2, 0.4, 0.05, 0.05)
    canvas = Canvas(500, 500, 0.4)
    canvas.bone_mm[:] = 1.0
    pose = Pose(100.0, 100.0, turn_deg=15.0, scale=1.1, lateral_right=lateral_right)
    table.multiply(canvas, pose)
    rows, columns = np.nonzero(canvas.bone_mm > 1.5)
    x, y = (columns.mean() + 0.5) * 0.4, (rows.mean() + 0.5) * 0.4
    assert (x, y) == pytest.approx(pose.to_film(0.2 * 75, end.joint + proximal * 0.4 * 75), abs=0.4)


def test_a_bone_off_the_film_is_no_trouble():
    canvas = Canvas(0, 0, 0.4)
    femoral(GROWN, np.random.default_rng(1), 0.1).multiply(canvas, Pose(500.0, 500.0))
    assert canvas.bone_mm.size == 0


def test_from_the_side_the_condyles_and_the_plateau_do_not_show():
    def rows_of(maker, frontal):
        """Mean of 40 people: what is where in anybody."""
        ends = [replace(GROWN, frontal=frontal)] * 40
        return np.abs(np.mean([maker(e, np.random.default_rng(i)) for i, e in enumerate(ends)], axis=0)).max()

    for maker in (lambda e, r: femoral(e, r, 0.1).density, lambda e, r: tibial(e, r).density):
        assert rows_of(maker, 1.0) > 1.5 * rows_of(maker, 0.0)


def test_the_inside_of_a_person_does_not_follow_age():
    first = [Build.draw(np.random.default_rng(i), 24.0) for i in range(40)]
    second = [Build.draw(np.random.default_rng(i), 200.0) for i in range(40)]
    for name in ("inner_seed", "fibula_drop", "patella_rim"):
        told = [getattr(build, name) for build in first]
        assert told == [getattr(build, name) for build in second]
        assert len(set(told)) == 40


def test_the_inside_takes_no_numbers_from_the_film():
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    other.spawn(4)  # what is spawned from it now has other numbers, its own are the same
    builds = [vars(Build.draw(one, 100.0)) for one in (rng, other)]
    differing = {name for name in builds[0] if builds[0][name] != builds[1][name]}
    assert differing == {"inner_seed", "fibula_drop", "patella_rim"}
    assert rng.random() == other.random()


def test_fibular_heads_lie_at_their_own_heights(children):
    def top(drop):
        return np.nonzero(drawn(children[2], replace(EVEN, fibula_drop=drop))[0].labels == FIBULA)[0].min()

    unit = children[2].indicators.femur_metaphysis_mm
    assert (top(0.12) - top(0.02)) * 0.4 == pytest.approx(0.1 * unit, abs=0.8)
