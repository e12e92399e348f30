"""The stand-in opens a scripted module, shows its panel and keeps its parameters in the scene."""

from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "shell" / "example"
OUTPUT = Path(__file__).parent / "Output"


@pytest.fixture
def panel(application):
    return application.open_module("ShellExample", EXAMPLE)


def test_a_module_with_a_ui_file_opens_and_can_be_photographed(application, panel):
    assert panel.ui.applyButton.text == "Apply"
    picture = application.picture_of_panel(panel, OUTPUT / "shell-example-panel.png")
    assert picture.stat().st_size > 5000


def test_properties_setters_and_names_are_those_of_pythonqt(panel):
    button = panel.ui.applyButton
    button.text = "Go"
    assert button.text == "Go"
    button.setText("On")
    assert button.text == "On"
    assert button.name == "applyButton"
    assert panel.ui.sexBox.count == 3
    assert not panel.ui.liveBox.checked
    assert panel.ui.liveBox.isChecked() is False
    assert button.toolTip == "<p>Count</p>"
    assert panel.ui.filmSelector.toolTip == "<p>Choose a film</p>"


def test_parameters_and_widgets_follow_each_other(panel):
    parameters = panel.logic.getParameterNode()
    panel.ui.thresholdSlider.value = 250.5
    panel.ui.liveBox.checked = True
    panel.ui.sexBox.currentIndex = 1
    panel.ui.sideBox.currentIndex = 1
    panel.ui.folderEdit.currentPath = "elsewhere"
    assert (parameters.threshold, parameters.live, parameters.sex) == (250.5, True, "M")
    assert (parameters.side.value, parameters.folder) == ("L", Path("elsewhere"))
    parameters.count = 7
    assert panel.ui.countBox.value == 7


def test_a_value_out_of_range_or_of_another_type_is_refused(panel):
    parameters = panel.logic.getParameterNode()
    with pytest.raises(ValueError, match="within range"):
        parameters.threshold = 501.0
    with pytest.raises(TypeError):
        parameters.live = "yes"
    with pytest.raises(ValueError, match="must be one of"):
        parameters.sex = "X"


def test_an_optional_number_can_be_none_again(panel):
    parameters = panel.logic.getParameterNode()
    assert parameters.age_months is None
    parameters.age_months = 130.5
    assert panel.logic.getParameterNode().age_months == 130.5
    parameters.age_months = None
    assert parameters.age_months is None


def test_a_film_is_chosen_and_its_removal_leaves_none(application, panel):
    import slicer

    assert not panel.ui.applyButton.enabled
    film = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Film")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    assert panel.ui.filmSelector.nodeCount() == 1
    panel.ui.filmSelector.setCurrentNode(film)
    assert panel.ui.applyButton.enabled
    assert panel.ui.stateLabel.text == "Film"
    slicer.mrmlScene.RemoveNode(film)
    application.process_events()
    assert not panel.ui.applyButton.enabled


def test_a_click_gives_false_to_a_slot_that_takes_it(application, panel):
    application.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Film")
    panel.ui.filmSelector.setCurrentNodeIndex(0)
    panel.ui.applyButton.click()
    assert panel.clicks == [False]
    assert panel.ui.countBox.value == 4


def test_a_failure_is_shown_in_a_box_that_nobody_expected(application, panel):
    panel.logic.getParameterNode().count = 9
    with pytest.raises(RuntimeError, match="too many"):
        panel.onApply()
    assert [box.text for box in application.answers.unexpected] == ["It failed.\n\nnine is too many"]


def test_a_question_is_answered_as_the_test_says(application):
    import slicer

    assert slicer.util.confirmOkCancelDisplay("Install PyTorch?") is False
    application.answers.expect("pytorch")
    assert slicer.util.confirmOkCancelDisplay("Install PyTorch?") is True
    assert len(application.answers.unexpected) == 1


def test_a_folded_section_hides_what_is_in_it(panel):
    assert panel.ui.moreSection.collapsed
    assert not panel.ui.moreLabel.visible
    panel.ui.moreSection.collapsed = False
    assert panel.ui.moreLabel.visible
    panel.ui.moreSection.click()
    assert panel.ui.moreSection.collapsed


def test_closing_the_scene_brings_the_defaults_back(application, panel):
    panel.ui.countBox.value = 8
    application.close_scene()
    assert panel.ui.countBox.value == 3


def test_a_saved_scene_brings_parameters_films_and_boxes_back(application, panel, tmp_path):
    import numpy as np
    import slicer

    pixels = np.arange(12, dtype=np.uint16).reshape(1, 3, 4)
    film = slicer.util.addVolumeFromArray(pixels, np.diag([-0.2, -0.2, 1, 1]), "Film")
    film.SetAttribute("KneeBoneAge.facts", '{"sex": "F"}')
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Knee R")
    roi.SetCenter(1, 2, 3)
    roi.SetNodeReferenceID("KneeBoneAge.film", film.GetID())
    panel.ui.filmSelector.setCurrentNode(film)
    panel.ui.countBox.value = 8
    application.save_mrb(tmp_path / "scene.mrb")
    application.close_scene()
    assert panel.ui.filmSelector.nodeCount() == 0
    application.load_mrb(tmp_path / "scene.mrb")
    panel.initialize()
    film = slicer.util.getNode("Film")
    assert panel.ui.countBox.value == 8
    assert panel.ui.filmSelector.currentNode() is film
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(film), pixels)
    assert film.GetAttribute("KneeBoneAge.facts") == '{"sex": "F"}'
    assert slicer.util.getNode("Knee R").GetNodeReference("KneeBoneAge.film") is film
    assert tuple(slicer.util.getNode("Knee R").GetCenter()) == (1, 2, 3)


def test_every_member_the_example_uses_exists_in_the_application(application, panel):
    from shell import api

    if api.missing():
        pytest.skip(api.missing())
    panel.ui.applyButton.click()
    assert application.members_not_in_application() == []


def test_the_modules_own_test_runs(application, panel):
    import slicer

    slicer.selfTests["ShellExample"]()
