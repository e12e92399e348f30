"""Results and saliency of a knee: kept, out of date once what they depend on changes, and rows of a table."""

import csv
import io

import numpy as np
import pytest
from scene_films import COLUMNS, CROP, READ, ROWS, SHA, SPREAD, array_of, drag, estimated, film, record

from KneeBoneAgeLib import scene

vtk = pytest.importorskip("vtk")


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
    np.testing.assert_allclose(array_of(matrices[0]), array_of(matrices[1]))
    display = heat.GetDisplayNode()
    assert display.GetApplyThreshold()
    assert display.GetColorNode().GetNumberOfColors() == 256
    again = scene.show_saliency(volume, node, values, "integrated-gradients", key)
    assert again is heat
    assert scene.method_of(heat) == "integrated-gradients"
    assert not scene.saliency_is_out_of_date(node, SHA)
    drag(node, across_mm=1.0)
    assert scene.saliency_is_out_of_date(node, SHA)
