"""What the scene keeps: crops as ROIs to a millionth of a pixel, facts, results, undo, and all of it after an MRB."""

import csv
import io
import json
import math

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="real MRML is needed: pip install slicer-core")
vtk = pytest.importorskip("vtk")

from KneeBoneAgeLib import scene  # noqa: E402
from KneeBoneAgeLib.report.records import Result  # noqa: E402
from KneeBoneAgeLib.scene.geometry import box_of  # noqa: E402

ROWS, COLUMNS = 60, 48
CROP = {
    "centre_px": [20.3337, 31.8189],
    "side_px": 17.12345,
    "angle_deg": 4.5,
    "side": "R",
    "mirrored": False,
    "origin": "automatic",
    "confidence": 0.93,
    "fibula_clear": True,
}
SHA = "ab" * 32
SPREAD = {"probabilities": [0.25, 0.5, 0.25], "months_to": 240.0}


def new_scene(folder):
    """A scene with what the application gives one: markups, and a cache that MRB files are unpacked into."""
    mrml = slicer.vtkMRMLScene()
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(mrml)
    markups = slicer.vtkSlicerMarkupsLogic()
    markups.SetMRMLApplicationLogic(application)
    markups.SetMRMLScene(mrml)
    cache, manager = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(folder))
    manager.SetCacheManager(cache)
    mrml.SetCacheManager(cache)
    mrml.SetDataIOManager(manager)
    mrml.kept_alive = (application, markups, cache, manager)
    slicer.mrmlScene = mrml
    return mrml


@pytest.fixture
def mrml(tmp_path):
    return new_scene(tmp_path)


def film(
    mrml,
    name="film",
    spacing=(0.15, 0.15),
    directions=((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    shape=(ROWS, COLUMNS),
):
    import slicer.util

    rng = np.random.default_rng(len(name))
    volume = mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(volume, rng.integers(0, 4096, (1, *shape)).astype(np.int16))
    volume.SetSpacing(spacing[1], spacing[0], 1.0)
    volume.SetOrigin(101.25, -37.5, 12.0)
    volume.SetIJKToRASDirections(*np.asarray(directions, float).ravel())
    return volume


def turned(degrees):
    angle = math.radians(degrees)
    return ((-math.cos(angle), math.sin(angle), 0), (math.sin(angle), math.cos(angle), 0), (0, 0, 1))


def record(distribution=None, **known):
    import dataclasses

    result = dataclasses.asdict(Result(file="/films/knee.dcm", status="ok", knee_index=1, **known))
    return result | ({"distribution": distribution} if distribution else {})


def drag(node, width=1.0, height=1.0, across_mm=0.0):
    """What a person's hand does to the node: other sizes, another place."""
    size = node.GetSize()
    node.SetSize(size[0] * width, size[1] * height, size[2])
    x, y, z = node.GetCenter()
    node.SetCenter(x + across_mm, y, z)


# --- volumes ------------------------------------------------------------------------------------------------


def test_no_volume_is_answered_with_what_to_do():
    assert "load a knee radiograph" in scene.check_volume(None)


def test_a_ct_a_colour_picture_and_an_empty_volume_are_no_films(mrml):
    import slicer.util

    assert scene.check_volume(film(mrml)) is None
    ct = mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT thorax")
    slicer.util.updateVolumeFromArray(ct, np.zeros((120, 8, 8), np.int16))
    assert "CT thorax has 120 slices" in scene.check_volume(ct)
    empty = mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    assert "holds no picture" in scene.check_volume(empty)
    photograph = mrml.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photograph")
    colours = np.random.default_rng(0).integers(0, 256, (1, 20, 20, 3)).astype(np.uint8)
    slicer.util.updateVolumeFromArray(photograph, colours)
    assert "colour picture" in scene.check_volume(photograph)
    grey = mrml.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "grey as RGB")
    slicer.util.updateVolumeFromArray(grey, np.repeat(colours[..., :1], 3, axis=-1))
    assert scene.check_volume(grey) is None


def test_a_saliency_map_is_not_taken_for_a_film(mrml):
    volume = film(mrml)
    heat = scene.show_saliency(volume, scene.add_knee(volume, CROP), np.zeros((ROWS, COLUMNS)), "gradcam")
    assert "saliency map" in scene.check_volume(heat)


# --- geometry -----------------------------------------------------------------------------------------------


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
    i, j, _ = np.linalg.inv(_array(matrix))[:3] @ (*corner, 1.0)
    half = CROP["side_px"] / 2
    assert (i + 0.5, j + 0.5) == pytest.approx((x + half, y + half), abs=1e-4)


def _axis(node, number):
    matrix = node.GetObjectToWorldMatrix()
    return np.array([matrix.GetElement(row, number) for row in range(3)])


def _array(matrix):
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


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


# --- corrections --------------------------------------------------------------------------------------------


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


# --- facts --------------------------------------------------------------------------------------------------


READ = {
    "sex": "F",
    "age_months": 102.0,
    "side": "R",
    "view": "frontal",
    "polarity": "normal",
    "spacing_mm": [0.143, 0.143],
    "spacing_source": "PixelSpacing",
    "body_part": "KNEE",
    "notes": ["a note"],
    "uids": {"instance": "1.2.3"},
    "used": "file",
}


def test_what_was_typed_wins_is_marked_and_can_be_taken_back(mrml):
    volume = film(mrml)
    scene.store_read(volume, READ)
    scene.set_fact(volume, "sex", "M")
    scene.set_fact(volume, "age_months", None)
    scene.set_fact(volume, "spacing_mm", (0.2, 0.2))
    known = scene.facts(volume)
    assert (known.sex, known.age_months, known.spacing_mm, known.side) == ("M", None, (0.2, 0.2), "R")
    assert known.spacing_source == "typed"
    assert known.typed == ("sex", "age_months", "spacing_mm")
    scene.store_read(volume, READ)
    assert scene.facts(volume).sex == "M"
    for name in known.typed:
        scene.reset_fact(volume, name)
    known = scene.facts(volume)
    assert (known.sex, known.age_months, known.spacing_mm, known.typed) == ("F", 102.0, (0.143, 0.143), ())
    assert known.spacing_source == "PixelSpacing"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sex", "X"),
        ("age_months", -1),
        ("age_months", 5000),
        ("spacing_mm", (0.0, 1.0)),
        ("name", "Doe"),
        ("side", "B"),
    ],
)
def test_an_impossible_fact_is_refused(mrml, name, value):
    with pytest.raises(ValueError, match=r"not|cannot"):
        scene.set_fact(film(mrml), name, value)


def test_the_request_carries_picture_spacing_and_facts(mrml, tmp_path):
    volume = film(mrml, spacing=(0.1, 0.2))
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3.4")
    scene.set_fact(volume, "sex", "F")
    wanted = scene.film_request(volume, tmp_path)
    assert json.loads(json.dumps(wanted)) == wanted
    np.testing.assert_array_equal(np.load(wanted["pixels"]), scene.pixels_of(volume))
    assert (wanted["spacing_mm"], wanted["spacing_source"]) == ([0.1, 0.2], "array")
    assert (wanted["sex"], wanted["typed"], wanted["file"]) == ("F", ["sex"], None)
    assert wanted["uids"] == {"instance": "1.2.3.4"}
    assert scene.film_request(volume, tmp_path)["pixels"] == wanted["pixels"]
    scene.pixels_of(volume)[:] += 1
    volume.GetImageData().GetPointData().GetScalars().Modified()
    again = scene.film_request(volume, tmp_path)
    assert again["pixels"] != wanted["pixels"]
    assert len(list(tmp_path.glob("*.npy"))) == 1


def test_one_millimetre_is_uncalibrated(mrml, tmp_path):
    assert scene.film_request(film(mrml, spacing=(1.0, 1.0)), tmp_path)["spacing_mm"] is None


def test_a_volume_that_is_no_film_makes_no_request(mrml, tmp_path):
    with pytest.raises(ValueError, match="holds no picture"):
        scene.film_request(mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"), tmp_path)


def test_the_file_is_asked_of_the_database_first_and_then_of_the_storage_node(mrml, tmp_path, monkeypatch):
    volume = film(mrml)
    stored, indexed = tmp_path / "added.dcm", tmp_path / "database.dcm"
    stored.touch()
    indexed.touch()
    storage = mrml.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(stored))
    volume.SetAndObserveStorageNodeID(storage.GetID())
    assert scene.file_of(volume) == (str(stored), "file")
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")

    class Database:
        isOpen = True

        def fileForInstance(self, uid):
            return str(indexed) if uid == "1.2.3" else ""

    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    assert scene.file_of(volume) == (str(indexed), "database")
    indexed.unlink()
    assert scene.file_of(volume) == (str(stored), "file")
    stored.unlink()
    assert scene.file_of(volume) == (None, "array")


def test_a_window_that_hides_the_film_is_set_anew_and_another_is_kept(mrml):
    volume = film(mrml)
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(-3000, 100)
    assert scene.fit_window(volume)
    assert display.GetWindowLevelMax() > 3900
    display.SetWindowLevelMinMax(500, 3000)
    assert not scene.fit_window(volume)


# --- results ------------------------------------------------------------------------------------------------


def estimated(mrml, **more):
    volume = film(mrml)
    scene.store_read(volume, READ)
    node = scene.add_knee(volume, CROP)
    scene.store_result(node, record(distribution=SPREAD, **more), scene.request_key(volume, node, SHA))
    return volume, node


def test_a_result_is_up_to_date_until_what_it_depends_on_changes(mrml):
    volume, node = estimated(mrml)
    assert scene.result(node)["file"] == "/films/knee.dcm"
    assert scene.distribution_of(node) == SPREAD
    assert not scene.is_out_of_date(node, SHA)
    assert not scene.is_out_of_date(node)
    assert scene.is_out_of_date(node, "cd" * 32)
    for name, value in (("sex", "M"), ("age_months", 103.0), ("age_months", None), ("polarity", "inverted")):
        scene.set_fact(volume, name, value)
        assert scene.is_out_of_date(node, SHA), name
        scene.reset_fact(volume, name)
        assert not scene.is_out_of_date(node, SHA), name
    scene.set_fact(volume, "view", "frontal")
    assert not scene.is_out_of_date(node, SHA)
    drag(node, across_mm=0.5)
    assert scene.is_out_of_date(node, SHA)
    scene.keep_square(node)
    assert scene.is_out_of_date(node, SHA)
    scene.undo(volume)
    assert not scene.is_out_of_date(node, SHA)


def test_a_typed_side_that_mirrors_makes_the_result_out_of_date(mrml):
    volume = film(mrml)
    node = scene.add_knee(volume, {**CROP, "fibula_clear": False})
    scene.store_result(node, record(), scene.request_key(volume, node, SHA))
    scene.set_side(node, "L")
    assert scene.is_out_of_date(node, SHA)


def test_a_knee_without_result_is_not_out_of_date(mrml):
    node = scene.add_knee(film(mrml), CROP)
    assert scene.result(node) is None
    assert scene.distribution_of(node) is None
    assert not scene.is_out_of_date(node, SHA)


def test_what_must_be_known_of_found_knees_is_kept_until_the_side_of_one_is_typed(mrml):
    volume = film(mrml)
    (node,) = scene.take_found(volume, [CROP], ["fibula unclear: side L taken from the header"])
    assert scene.notes_of(volume) == ("fibula unclear: side L taken from the header",)
    scene.set_side(node, "R")
    assert scene.notes_of(volume) == ()
    scene.take_found(volume, [CROP])
    assert scene.notes_of(volume) == ()


def test_the_table_has_one_row_a_knee_with_all_fields(mrml):
    volume, node = estimated(
        mrml, bone_age_months=91.25, notes=["one", 'two "quoted"\nlines'], box_px=[1, 2, 3, 4]
    )
    table = scene.results_table(mrml)
    assert scene.results_table(mrml) is table
    assert table.GetName() == "Knee bone age results"
    assert scene.append_row(table, node) == 0
    scene.store_result(node, record(bone_age_months=92.0), scene.request_key(volume, node, SHA))
    assert scene.append_row(table, node) == 0
    second = scene.add_knee(volume, {**CROP, "centre_px": [40, 30]})
    scene.store_result(second, record(notes=['a "b"\tc\nd']), scene.request_key(volume, second, SHA))
    assert scene.append_row(table, second) == 1
    rows = list(csv.DictReader(io.StringIO(scene.csv_text(table))))
    assert [row["bone_age_months"] for row in rows] == ["92.0", ""]
    assert rows[1]["notes"] == "a 'b' c d"
    assert rows[0]["film"] == "film"
    assert rows[0]["crop_mirrored"] == "false"
    assert set(rows[0]) >= {"x0", "y1", "bundle_sha256", "instance_uid", "crop_angle_deg", "time"}
    assert scene.csv_text(table, "\t").splitlines()[0].split("\t") == scene.table_columns()


def test_the_table_shows_knee_and_answer_first_under_titles_and_nobody_types_into_it(mrml):
    table = scene.results_table(mrml)
    titles = [table.GetColumnTitle(name) for name in scene.table_columns()]
    assert titles[:5] == ["Film", "Side", "Bone age (months)", "Status", "Interval from"]
    assert all(titles)
    assert table.GetUseColumnTitleAsColumnHeader()  # or letters would stand there
    assert table.GetLocked()
    assert sorted(scene.table_columns()) == sorted({*scene.table_columns()})


def test_a_row_goes_into_a_table_whose_columns_are_in_another_order(mrml):
    _volume, node = estimated(mrml, bone_age_months=91.25)
    table = scene.results_table(mrml)
    moved = table.GetTable().GetColumnByName("bone_age_months")
    table.GetTable().RemoveColumnByName("bone_age_months")
    table.AddColumn(moved)
    assert [scene.append_row(table, node) for _ in range(2)] == [0, 0]
    (row,) = csv.DictReader(io.StringIO(scene.csv_text(table)))
    assert (row["bone_age_months"], row["film"], row["status"]) == ("91.25", "film", "ok")


def test_records_of_many_films_are_rows_too(mrml):
    table = scene.results_table(mrml)
    assert [scene.append_record(table, record()) for _ in range(2)] == [0, 1]


def test_no_name_or_number_of_a_patient_stands_in_a_node(mrml):
    volume, node = estimated(mrml)
    scene.store_read(volume, {**READ, "PatientName": "Doe^Jane", "patient_id": "4711"})
    scene.append_row(scene.results_table(mrml), node)
    text = ""
    for owner in (volume, node):
        text += "".join(owner.GetAttribute(name) or "" for name in owner.GetAttributeNames())
    assert "102" in text
    assert "Doe" not in text
    assert "4711" not in text


def test_knees_are_read_once_with_all_that_is_drawn_of_them(mrml):
    volume, node = estimated(mrml, bone_age_months=92.0)
    second = scene.add_knee(volume, {**CROP, "centre_px": [5.0, 10.0], "side": "L"})
    left, right = scene.look(volume, SHA)
    assert (left.node, left.record, left.out_of_date) == (second, None, False)
    assert (right.node, right.record, right.crop) == (node, scene.result(node), scene.crop_of(node))
    drag(node, across_mm=0.5)
    assert [knee.out_of_date for knee in scene.look(volume, SHA)] == [False, True]
    assert scene.look(None) == ()


# --- saliency and several films -----------------------------------------------------------------------------


def test_saliency_lies_on_the_film_and_hides_weak_values(mrml):
    volume = film(mrml, spacing=(0.1, 0.2))
    node = scene.add_knee(volume, CROP)
    values = np.linspace(0, 1, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    key = scene.request_key(volume, node, SHA)
    heat = scene.show_saliency(volume, node, values, "gradcam", key)
    assert scene.saliency_of(node) is heat
    assert scene.film_of(heat) is volume
    np.testing.assert_allclose(scene.pixels_of(heat), values, atol=1e-6)
    matrices = [vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()]
    for one, matrix in zip((volume, heat), matrices, strict=True):
        one.GetIJKToRASMatrix(matrix)
    np.testing.assert_allclose(_array(matrices[0]), _array(matrices[1]))
    display = heat.GetDisplayNode()
    assert display.GetApplyThreshold()
    assert display.GetColorNode().GetNumberOfColors() == 256
    again = scene.show_saliency(volume, node, values, "integrated-gradients", key)
    assert again is heat
    assert scene.method_of(heat) == "integrated-gradients"
    assert not scene.saliency_is_out_of_date(node, SHA)
    drag(node, across_mm=1.0)
    assert scene.saliency_is_out_of_date(node, SHA)


def test_films_of_one_scene_keep_their_own_knees(mrml):
    first, second = film(mrml, "first"), film(mrml, "second")
    right = scene.add_knee(first, {**CROP, "centre_px": [35.0, 30.0]})
    left = scene.add_knee(first, {**CROP, "centre_px": [12.0, 30.0]})
    other = scene.add_knee(second, CROP)
    assert scene.knees(first) == [left, right]
    assert scene.knees(second) == [other]
    scene.undo(second)
    assert scene.knees(second) == []
    assert scene.knees(first) == [left, right]
    mrml.RemoveNode(first)
    assert scene.film_of(left) is None
    assert scene.crop_of(left)["centre_px"] == [12.0, 30.0]


def test_everything_comes_back_from_a_saved_scene(mrml, tmp_path):
    films = {}
    for name, spacing, directions in (
        ("first", (0.1, 0.273), turned(33.0)),
        ("second", (0.15, 0.15), ((-1, 0, 0), (0, -1, 0), (0, 0, 1))),
    ):
        volume = films[name] = film(mrml, name, spacing, directions)
        scene.store_read(volume, READ)
        scene.set_fact(volume, "sex", "M")
        node = scene.take_found(volume, [CROP])[0]
        drag(node, 1.25, 1.25)
        scene.keep_square(node)
        answer = record(bone_age_months=91.5, notes=['a "quoted" note'], distribution=SPREAD)
        scene.store_result(node, answer, scene.request_key(volume, node, SHA))
        scene.append_row(scene.results_table(mrml), node)
    key = scene.request_key(films["first"], scene.knees(films["first"])[0], SHA)
    values = np.random.default_rng(1).random((ROWS, COLUMNS)).astype(np.float32)
    scene.show_saliency(films["first"], scene.knees(films["first"])[0], values, "gradcam", key)
    crop = scene.crop_of(scene.knees(films["first"])[0])
    table = scene.csv_text(scene.results_table(mrml))
    saved = tmp_path / "saved.mrb"
    assert mrml.WriteToMRB(str(saved))

    fresh = new_scene(tmp_path / "cache")
    film(fresh, "already there")  # takes the IDs that the saved nodes had
    fresh_roi = fresh.AddNewNodeByClass("vtkMRMLMarkupsROINode", "of somebody else")
    assert fresh.ReadFromMRB(str(saved), False)
    back = scene.results_table(fresh)
    assert scene.csv_text(back) == table
    assert (back.GetColumnTitle("film"), back.GetLocked()) == ("Film", True)
    assert back.GetUseColumnTitleAsColumnHeader()
    for name in films:
        volume = fresh.GetFirstNodeByName(name)
        (node,) = scene.knees(volume)
        assert node is not fresh_roi
        back = scene.crop_of(node)
        assert back == scene.crop_of(scene.knees(films[name])[0])
        assert back["origin"] == "corrected"
        assert scene.facts(volume).sex == "M"
        assert scene.facts(volume).typed == ("sex",)
        assert scene.result(node)["notes"] == ['a "quoted" note']
        assert scene.distribution_of(node) == SPREAD
        assert not scene.is_out_of_date(node, SHA)
        assert scene.can_reset(node)
        assert scene.can_undo(volume) == "changed"
    node = scene.knees(fresh.GetFirstNodeByName("first"))[0]
    assert crop == scene.crop_of(node)
    heat = scene.saliency_of(node)
    assert scene.method_of(heat) == "gradcam"
    assert scene.film_of(heat) is fresh.GetFirstNodeByName("first")
    np.testing.assert_allclose(scene.pixels_of(heat), values)
    assert heat.GetDisplayNode().GetColorNode().GetColorName(255) == "1.00"
    assert not scene.saliency_is_out_of_date(node, SHA)
    assert scene.saliency_of(scene.knees(fresh.GetFirstNodeByName("second"))[0]) is None
    assert scene.append_row(scene.results_table(fresh), node) == 0
    assert scene.undo(fresh.GetFirstNodeByName("first")) is node
    assert scene.crop_of(node) == CROP
