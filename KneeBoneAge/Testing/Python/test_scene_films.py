"""Which volumes are films, what is known of one, and the request that is made of it."""

import json

import numpy as np
import pytest
from scene_films import COLUMNS, CROP, READ, ROWS, film

from KneeBoneAgeLib import scene

slicer = pytest.importorskip("slicer")


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
