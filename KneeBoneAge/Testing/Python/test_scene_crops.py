"""Crops are ROIs to a millionth of a pixel; a person's changes stay square and can be taken back."""

import math

import numpy as np
import pytest
from scene_films import COLUMNS, CROP, ROWS, SHA, array_of, drag, film, record, turned

from KneeBoneAgeLib import scene
from KneeBoneAgeLib.scene.geometry import box_of

vtk = pytest.importorskip("vtk")


@pytest.mark.parametrize("spacing", [(0.15, 0.15), (0.1, 0.273), (1.0, 1.0)])
@pytest.mark.parametrize(
    "directions",
    [
        ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
        ((1, 0, 0), (0, -1, 0), (0, 0, 1)),
        ((0, 0, 1), (-1, 0, 0), (0, -1, 0)),
        turned(33.0),
    ],
    ids=["upright", "mirrored", "sagittal", "turned"],
)
def test_crop_to_roi_and_back_is_exact_to_a_millionth_of_a_pixel(mrml, spacing, directions):
    volume = film(mrml, spacing=spacing, directions=directions)
    node = scene.add_knee(volume, CROP)
    half = CROP["side_px"] / 2
    x, y = CROP["centre_px"]
    assert scene.crop_of(node) == CROP
    # The node itself keeps its place in float32.
    assert box_of(node) == pytest.approx((x - half, y - half, x + half, y + half), abs=1e-3)
    drag(node, across_mm=0.0)
    back = scene.crop_of(node)
    assert back["centre_px"] == pytest.approx([x, y], abs=1e-6)
    assert back["side_px"] == pytest.approx(2 * half, abs=1e-6)


@pytest.mark.parametrize("directions", [((-1, 0, 0), (0, -1, 0), (0, 0, 1)), turned(-71.0)])
def test_the_roi_covers_the_crops_pixels_in_the_world(mrml, directions):
    volume = film(mrml, spacing=(0.1, 0.273), directions=directions)
    node = scene.add_knee(volume, CROP)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    x, y = CROP["centre_px"]
    # Pixel (0, 0) covers [0, 1) x [0, 1) and its middle is IJK 0.
    expected = matrix.MultiplyPoint((x - 0.5, y - 0.5, 0.0, 1.0))[:3]
    assert node.GetCenterWorld() == pytest.approx(expected, abs=1e-4)
    assert node.GetSize() == pytest.approx((CROP["side_px"] * 0.273, CROP["side_px"] * 0.1, 1.0), abs=1e-9)
    corner = np.array(expected) + sum(_axis(node, a) * node.GetSize()[a] / 2 for a in (0, 1))
    i, j, _ = np.linalg.inv(array_of(matrix))[:3] @ (*corner, 1.0)
    half = CROP["side_px"] / 2
    assert (i + 0.5, j + 0.5) == pytest.approx((x + half, y + half), abs=1e-4)


def _axis(node, number):
    matrix = node.GetObjectToWorldMatrix()
    return np.array([matrix.GetElement(row, number) for row in range(3)])


def test_a_film_under_a_transform_takes_its_knees_along(mrml):
    volume = film(mrml)
    transform = mrml.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    move = vtk.vtkTransform()
    move.Translate(30, -12, 5)
    transform.SetMatrixTransformToParent(move.GetMatrix())
    volume.SetAndObserveTransformNodeID(transform.GetID())
    node = scene.add_knee(volume, CROP)
    assert np.array(node.GetCenterWorld()) - node.GetCenter() == pytest.approx((30, -12, 5), abs=1e-4)
    assert scene.crop_of(node) == CROP


@pytest.mark.parametrize(("width", "height", "side"), [(1.4, 1.0, 1.4), (1.0, 0.6, 0.6), (1.1, 1.5, 1.5)])
def test_a_drag_keeps_the_dragged_size_and_becomes_square_about_the_centre(mrml, width, height, side):
    node = scene.add_knee(film(mrml, spacing=(0.1, 0.2)), CROP)
    drag(node, width, height)
    assert scene.keep_square(node)
    crop = scene.crop_of(node)
    assert crop["side_px"] == pytest.approx(CROP["side_px"] * side, abs=1e-6)
    assert crop["centre_px"] == pytest.approx(CROP["centre_px"], abs=1e-3)
    assert (crop["origin"], crop["angle_deg"], crop["mirrored"]) == ("corrected", 4.5, False)
    assert node.GetSize()[0] / 0.2 == pytest.approx(node.GetSize()[1] / 0.1, abs=1e-9)
    assert not scene.keep_square(node)


def test_a_person_may_turn_or_lift_the_roi_and_it_comes_back_into_the_film(mrml):
    node = scene.add_knee(film(mrml), CROP)
    pose = vtk.vtkMatrix4x4()
    pose.DeepCopy(node.GetObjectToNodeMatrix())
    turn = vtk.vtkTransform()
    turn.SetMatrix(pose)
    turn.RotateZ(10)
    turn.Translate(0, 0, 3)
    node.SetAndObserveObjectToNodeMatrix(turn.GetMatrix())
    assert scene.keep_square(node)
    assert node.GetObjectToNodeMatrix().GetElement(0, 1) == pytest.approx(0, abs=1e-9)
    assert node.GetCenter()[2] == pytest.approx(12.0, abs=1e-5)


def test_the_last_change_can_be_taken_back_once(mrml):
    volume = film(mrml)
    node = scene.add_knee(volume, CROP)
    scene.forget_undo(volume)
    assert scene.can_undo(volume) is None
    assert scene.undo(volume) is None
    drag(node, 1.3)
    scene.keep_square(node)
    first = scene.crop_of(node)
    drag(node, 1.3, 1.3)
    scene.keep_square(node)
    assert scene.can_undo(volume) == "changed"
    assert scene.undo(volume) is node
    assert scene.crop_of(node) == first
    assert scene.can_undo(volume) is None


def test_a_removed_knee_comes_back_with_its_result(mrml):
    volume = film(mrml)
    node = scene.add_knee(volume, CROP)
    scene.store_result(node, record(bone_age_months=91.5), scene.request_key(volume, node, SHA))
    scene.show_saliency(volume, node, np.zeros((ROWS, COLUMNS)), "gradcam")
    scene.remove(node)
    assert scene.knees(volume) == []
    assert mrml.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1
    assert scene.can_undo(volume) == "removed"
    back = scene.undo(volume)
    assert scene.knees(volume) == [back]
    assert scene.crop_of(back) == CROP
    assert scene.result(back)["bone_age_months"] == 91.5
    assert not scene.is_out_of_date(back, SHA)


def test_an_added_knee_can_be_taken_back(mrml):
    volume = film(mrml)
    node = scene.add_knee(volume)
    assert scene.crop_of(node)["origin"] == "person"
    assert not scene.can_reset(node)
    assert scene.can_undo(volume) == "added"
    assert scene.undo(volume) is None
    assert scene.knees(volume) == []


def test_reset_brings_the_automatic_crop_back(mrml):
    volume = film(mrml)
    node = scene.add_knee(volume, CROP)
    assert not scene.can_reset(node)
    drag(node, 1.0, 1.0, across_mm=1.0)
    scene.keep_square(node)
    assert scene.crop_of(node)["origin"] == "corrected"
    assert scene.can_reset(node)
    scene.reset(node)
    assert scene.crop_of(node) == CROP


def test_find_again_keeps_what_a_person_corrected(mrml):
    volume = film(mrml)
    other = {**CROP, "centre_px": [40.0, 31.0], "side": "L", "mirrored": True}
    left, right = scene.take_found(volume, [CROP, other])
    drag(left, 1.3, 1.3)
    scene.keep_square(left)
    corrected = scene.crop_of(left)
    moved = {**CROP, "centre_px": [21.0, 31.0]}
    again = scene.take_found(volume, [moved])
    assert again == [left]
    assert scene.crop_of(left) == corrected
    scene.reset(left)
    assert scene.crop_of(left)["centre_px"] == [21.0, 31.0]
    assert right.GetScene() is None


@pytest.mark.parametrize(("clear", "mirrored"), [(True, False), (False, True)])
def test_a_typed_side_mirrors_only_where_the_fibula_said_nothing(mrml, clear, mirrored):
    node = scene.add_knee(film(mrml), {**CROP, "fibula_clear": clear})
    scene.set_side(node, "L")
    assert scene.crop_of(node)["side"] == "L"
    assert scene.crop_of(node)["mirrored"] is mirrored
    assert node.GetName() == "Left knee"


def test_a_crop_that_is_no_square_is_refused_with_words(mrml):
    volume = film(mrml)
    with pytest.raises(ValueError, match="positive side"):
        scene.add_knee(volume, {"centre_px": [3, 3], "side_px": 0})
    with pytest.raises(ValueError, match="positive side"):
        scene.add_knee(volume, {"centre_px": [math.nan, 3], "side_px": 4})
