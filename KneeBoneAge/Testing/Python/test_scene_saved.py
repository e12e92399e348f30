"""Films of one scene keep apart, and all that the scene keeps comes back from an MRB."""

import numpy as np
from scene_films import COLUMNS, CROP, READ, ROWS, SHA, SPREAD, drag, film, new_scene, record, turned

from KneeBoneAgeLib import scene


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
