"""What is no film, no knee or no model: the panel says what is wrong and what to do, and nothing is lost."""

import errno
from pathlib import Path

import numpy as np
import pytest

from KneeBoneAgeLib import scene


def load(name, shape, kind="vtkMRMLScalarVolumeNode", seed=0):
    import slicer

    values = np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)
    return slicer.util.addVolumeFromArray(values, np.diag([-1.0, -1.0, 1.0, 1.0]), name, kind)


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ((40, 64, 64), "vtkMRMLScalarVolumeNode", "40 slices"),
        ((1, 64, 64, 3), "vtkMRMLVectorVolumeNode", "colour picture"),
    ],
)
def test_a_volume_that_is_no_film_is_named_with_the_way_out(application, panel, shape, kind, words, tools):
    load("CT" if len(shape) == 3 else "Photograph", shape, kind)
    application.process_events()
    assert words in panel.ui.filmStatus.text
    assert "choose" in panel.ui.filmStatus.text
    assert not panel.ui.findButton.enabled
    assert not panel.ui.estimateButton.enabled
    assert not panel.ui.addButton.enabled
    assert words in panel.ui.estimateButton.toolTip
    assert [request["do"] for request in panel.service.asked] == ["bundles"]
    if len(shape) == 3:
        application.picture_of_panel(panel, tools.OUTPUT / "panel-not-a-film.png")


def test_a_film_is_preferred_to_a_ct_that_was_loaded_before(application, panel, tools):
    load("CT", (40, 64, 64))
    film = tools.make_film()
    panel.parameters.film = None
    application.process_events()
    assert panel.film is film


def test_a_photograph_that_the_reader_refuses_is_told_in_its_words(application, panel, tools):
    def refuse(request):
        raise tools.Refusal(
            "film", "holiday.jpg: a photograph, not a radiograph", "Choose a frontal knee radiograph."
        )

    panel.service.answers["read"] = panel.service.answers["find"] = refuse
    tools.make_film("holiday")
    application.wait_until(lambda: "photograph" in panel.ui.filmStatus.text, 60)
    assert "Choose a frontal knee radiograph" in panel.ui.filmStatus.text
    panel.ui.findButton.click()
    application.wait_until(lambda: "photograph" in panel.ui.kneesStatus.text, 60)


def test_a_film_with_no_knee_says_why_and_offers_to_mark_one(application, panel, film, tools):
    panel.service.knees = []
    panel.ui.estimateButton.click()
    application.wait_until(lambda: "No frontal knee" in panel.ui.kneesStatus.text, 60)
    assert "Press Add" in panel.ui.kneesStatus.text
    assert panel.ui.ageStatus.text
    assert not panel.age_panel.cards
    application.picture_of_panel(panel, tools.OUTPUT / "panel-no-knee.png")
    panel.ui.addButton.click()
    application.process_events()
    assert panel.ui.kneesTable.rowCount == 1
    assert "No frontal knee" not in panel.ui.kneesStatus.text


def test_a_full_disk_is_told_and_leaves_no_half_written_film(application, panel, film, monkeypatch):
    folder = Path(panel.logic._folder.name)
    for written in folder.glob("*.npy"):
        written.unlink()

    def fill(stream, values):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(np, "save", fill)
        panel.ui.estimateButton.click()
        application.process_events()
    assert "No space left on device" in panel.ui.ageStatus.text
    assert "Make room on the disk" in panel.ui.ageStatus.text
    assert not list(folder.glob("*.npy"))
    panel.ui.estimateButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)


def test_what_nobody_expected_is_shown_in_a_box_and_the_button_can_be_pressed_again(
    application, panel, found, monkeypatch
):
    if application.real:
        pytest.skip("an application that runs with --testing shows no such box")

    def fail(film):
        raise KeyError("nobody expected this")

    monkeypatch.setattr(panel.logic, "estimate", fail)
    application.answers.expect("could not be started")
    panel.ui.estimateButton.click()
    application.process_events()
    assert len(application.answers.boxes) == 1
    assert any("nobody expected this" in error for error in application.slot_errors)
    application.slot_errors.clear()
    assert (panel.ui.estimateButton.text, panel.ui.estimateButton.enabled) == ("Estimate", True)


def test_a_lateral_film_is_told_to_be_one(application, panel, film):
    panel.ui.viewBox.currentIndex = 2
    application.process_events()
    assert "lateral film" in panel.ui.filmStatus.text


def test_a_square_off_the_film_is_refused_and_can_be_reset(application, panel, estimated, tools):
    def refuse(request):
        raise tools.Refusal(
            "crop", "The square lies outside of the film", "Drag it onto the knee, or reset it."
        )

    knee = scene.knees(estimated)[0]
    panel.service.answers["estimate"] = refuse
    before = scene.result(knee)
    knee.SetCenter(500.0, 500.0, 0.0)
    application.wait_until(lambda: not panel.corrections.unsettled, 60)
    panel.ui.estimateButton.click()
    application.wait_until(lambda: "outside of the film" in panel.ui.ageStatus.text, 60)
    assert "reset it" in panel.ui.ageStatus.text
    assert scene.result(knee) == before
    assert panel.ui.resetButton.enabled


def test_refused_and_mature_knees_are_told_in_words(application, panel, found, tools):
    def answer(request):
        film, (first, second) = request["film"], request["crops"]
        refused = {"status": "refused", "reason": "there is metal in the joint", "refusal_kind": "content"}
        empty = {"bone_age_months": None, "interval_months": None}
        return {
            "bundle_sha256": tools.SHA,
            "records": [
                tools.record(film, 1, first, **refused, **empty, withheld_bone_age_months=120.0),
                tools.record(film, 2, second, mature=True, **empty, at_least_months=186.0),
            ],
        }

    panel.service.answers["estimate"] = answer
    panel.ui.estimateButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)
    refused, mature = panel.age_panel.cards
    assert "Refused: there is metal in the joint" in refused.text
    assert "120" not in refused.text
    assert "Mature, at least 15 y 6 m (186 months)" in mature.text
    application.picture_of_panel(panel, tools.OUTPUT / "panel-refused-mature.png")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("bundle", "/models/x: not a bundle, there is no bundle.json"),
        ("memory", "The graphics card has too little free memory"),
        ("missing", "PyTorch is not installed"),
        ("old", "PyTorch 1.13 is too old; 2.2 or later is needed"),
        ("bug", "Unexpected: KeyError: 'x'"),
    ],
)
def test_what_the_service_refuses_stands_in_the_panel(application, panel, film, kind, message, tools):
    def refuse(request):
        raise tools.Refusal(kind, message, "Choose another model in the Model section")

    panel.service.answers["find"] = refuse
    panel.ui.estimateButton.click()
    application.wait_until(lambda: panel.ui.ageStatus.text and not panel.age_panel.task.running, 60)
    assert "Choose another model" in panel.ui.ageStatus.text
    assert message.split(":")[0] in panel.ui.ageStatus.text
    assert panel.ui.estimateButton.enabled
