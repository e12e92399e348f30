"""What the application does and a test bench does not by itself: scenes loaded at one go, failed starts."""

import importlib
import time
from pathlib import Path

import pytest

from KneeBoneAgeLib import scene


def reload_at_once(application, tmp_path):
    """Close the scene and load it again without a turn of the event loop between, as the application does."""
    import slicer

    path = tmp_path / "scene.mrb"
    application.save_mrb(path)
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    application.process_events()


def test_squares_are_followed_after_a_scene_was_loaded_at_once(application, panel, estimated, tmp_path):
    import slicer

    reload_at_once(application, tmp_path)
    application.wait_until(lambda: panel.film is not None, 60)
    application.process_events()
    knee = scene.knees(panel.film)[0]
    kind = slicer.vtkMRMLMarkupsNode
    knee.InvokeEvent(kind.PointStartInteractionEvent)
    width, height, depth = knee.GetSize()
    knee.SetSize(width * 1.2, height, depth)
    knee.InvokeEvent(kind.PointEndInteractionEvent)
    application.process_events()
    assert knee.GetSize()[0] == pytest.approx(knee.GetSize()[1])
    assert scene.can_undo(panel.film) == "changed"


def test_the_results_shown_are_those_of_the_loaded_scene(application, panel, estimated, tmp_path):
    reload_at_once(application, tmp_path)
    table = panel.results_panel.table
    assert table.GetNumberOfRows() == 2
    assert panel.ui.resultsView.mrmlTableNode() is table


def test_an_explanation_leaves_the_other_views_alone(application, panel, estimated, tools):
    import slicer

    other, over = tools.make_film("Other"), tools.make_film("Over")
    green = slicer.app.layoutManager().sliceWidget("Green").mrmlSliceCompositeNode()
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    green.SetBackgroundVolumeID(other.GetID())
    green.SetForegroundVolumeID(over.GetID())
    green.SetForegroundOpacity(0.3)
    panel.ui.showSaliencyButton.click()
    application.wait_until(lambda: panel.explanation_panel.shown() is not None, 60)
    panel.ui.opacitySlider.value = 80
    application.process_events()
    assert scene.is_saliency(slicer.mrmlScene.GetNodeByID(red.GetForegroundVolumeID()))
    assert red.GetForegroundOpacity() == pytest.approx(0.8)
    assert green.GetForegroundVolumeID() == over.GetID()
    panel.ui.showSaliencyButton.click()
    application.process_events()
    assert not red.GetForegroundVolumeID()
    assert (green.GetForegroundVolumeID(), green.GetForegroundOpacity()) == (over.GetID(), pytest.approx(0.3))


def test_an_explanation_is_seen_when_no_view_shows_the_film(application, panel, estimated, tools):
    import slicer

    other = tools.make_film("Other")
    slicer.util.setSliceViewerLayers(background=other)
    panel.ui.showSaliencyButton.click()
    application.wait_until(lambda: panel.explanation_panel.shown() is not None, 60)
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert red.GetBackgroundVolumeID() == estimated.GetID()


def test_lines_about_one_film_are_not_said_of_another(application, panel, film, tools):
    panel.service.knees = []
    panel.ui.estimateButton.click()
    application.wait_until(lambda: "No frontal knee" in panel.ui.kneesStatus.text, 60)
    panel.parameters.film = tools.make_film("Second")
    application.process_events()
    assert not panel.ui.kneesStatus.text
    assert not panel.ui.ageStatus.text
    panel.parameters.film = film
    application.wait_until(lambda: "No frontal knee" in panel.ui.kneesStatus.text, 20)


def absent_model(application, panel):
    """Have the scene name a model that is not on this computer."""
    panel.parameters.model, panel.parameters.modelName = "f" * 64, "clinic"
    application.process_events()


def test_a_model_that_is_not_here_can_be_changed_for_the_default(application, panel, film):
    absent_model(application, panel)
    assert "not on this computer (clinic)" in panel.ui.modelStatus.text
    assert "not on this computer (clinic)" in panel.ui.noticeLabel.text  # the section Model is folded away
    assert panel.ui.bundleBox.currentIndex == -1
    assert not panel.ui.estimateButton.enabled
    assert "not on this computer" in panel.ui.estimateButton.toolTip
    panel.ui.bundleBox.currentIndex = 0
    application.process_events()
    assert panel.parameters.model == ""
    assert not panel.ui.modelStatus.text
    assert not panel.ui.noticeLabel.visible
    assert panel.ui.estimateButton.enabled


def test_a_scene_names_its_model_by_content_and_finds_it_in_another_place(application, panel, film, tools):
    def listed(path):
        clinic = {**tools.CARD, "name": "clinic", "sha256": "b" * 64, "path": path, "is_default": False}
        panel.service.answers["bundles"] = lambda request: {"bundles": [tools.CARD, clinic]}
        panel.model_panel.ask()
        application.wait_until(lambda: panel.logic.cardAt(path) is not None, 60)
        application.process_events()

    listed("/home/one/models/clinic")
    panel.choose_bundle("/home/one/models/clinic")
    application.process_events()
    assert panel.logic.bundle == "/home/one/models/clinic"
    kept = panel.parameters.parameterNode
    values = [kept.GetParameter(name) for name in kept.GetParameterNames()]
    assert "b" * 64 in values
    assert not [value for value in values if "/models" in value]
    listed("/home/other/clinic")
    assert panel.logic.bundle == "/home/other/clinic"
    assert panel.ui.bundleBox.currentText == "clinic"


def test_a_closed_scene_goes_back_to_the_default_model(application, panel, film):
    absent_model(application, panel)
    application.close_scene()
    application.process_events()
    assert panel.ui.bundleBox.currentIndex == 0
    assert not panel.ui.modelStatus.text


def test_a_pixel_smaller_than_any_is_taken_as_the_smallest(application, panel, film):
    panel.ui.spacingBox.value = 0.0004
    application.process_events()
    assert scene.facts(film).spacing_mm == (0.001, 0.001)


def test_signs_are_shown_as_they_are(application, panel):
    say = importlib.import_module("KneeBoneAgeWidgets.wording").say
    say(panel.ui.modelStatus, "Collecting timm>=1.0 & O'Brien")
    assert panel.ui.modelStatus.text == "Collecting timm>=1.0 & O'Brien"
    say(panel.ui.modelStatus, "timm>=1.0\nnumpy", problem=True)
    assert "timm&gt;=1.0<br>numpy" in panel.ui.modelStatus.text


def test_samples_have_what_the_application_asks_of_a_source(application, panel):
    import SampleData

    sources = SampleData.SampleDataLogic.sampleDataSourcesByCategory("Knee Bone Age")
    assert len(sources) == 3
    for source in sources:
        assert None not in (source.uris, source.fileNames, source.nodeNames)
        assert Path(source.thumbnailFileName).is_file()


@pytest.fixture
def worker(application, monkeypatch):
    """The module with the real process."""
    application.load_module("KneeBoneAge", Path(__file__).parents[2] / "KneeBoneAge")
    return importlib.import_module("KneeBoneAgeWidgets.worker")


def test_a_process_that_cannot_be_started_is_told(application, worker, monkeypatch):
    monkeypatch.setattr(worker, "python_executable", lambda: "/nowhere/PythonSlicer")
    asker = worker.Worker()
    request = asker.ask("check")
    application.wait_until(lambda: request.finished, 20)
    assert request.problem.kind == "ended"
    asker.process.send("nobody listens")


def test_a_process_that_ends_is_told_and_started_again(application, worker, caplog):
    asker = worker.Worker()
    for _time in range(3):
        request = asker.ask("quit")
        application.wait_until(lambda request=request: request.finished, 60)
        application.wait_until(lambda: not asker.process.running, 20)
    asker.process.arguments = ("-c", "import sys; sys.stderr.write('no luck'); sys.exit(3)")
    request = asker.ask("check")
    application.wait_until(lambda: request.finished, 60)
    assert request.problem.kind == "ended"
    assert "no luck" in str(request.problem)
    assert "no luck" in caplog.text
    time.sleep(0.05)
    application.process_events()


def test_saliency_maps_are_not_offered_as_films(application, panel, estimated, tools):
    panel.ui.showSaliencyButton.click()
    application.wait_until(lambda: panel.explanation_panel.shown() is not None, 60)
    application.process_events()
    other = tools.make_film("Other")
    application.process_events()
    selector = panel.ui.filmSelector
    offered = [selector.nodeFromIndex(index) for index in range(selector.nodeCount())]
    assert offered == [estimated, other]
    assert panel.film is estimated


def test_a_loaded_scene_keeps_its_view_and_a_new_film_is_fitted(
    application, panel, estimated, tmp_path, tools
):
    import slicer

    def red():
        return slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()

    red().SetFieldOfView(12.0, 12.0, 1.0)
    red().SetXYZOrigin(3.0, 4.0, 0.0)
    application.save_mrb(tmp_path / "scene.mrb")
    application.load_mrb(tmp_path / "scene.mrb")
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)
    assert red().GetFieldOfView()[1] == pytest.approx(12.0)
    assert red().GetXYZOrigin()[:2] == pytest.approx((3.0, 4.0))
    panel.parameters.film = tools.make_film("Other")
    application.process_events()
    assert red().GetFieldOfView()[1] != pytest.approx(12.0)


def test_no_shortcut_is_one_of_the_applications_own(application, panel):
    import qt
    import slicer

    taken = {"Ctrl+Z", "Ctrl+Y", "Ctrl+Shift+Z", "Ctrl+F", "Ctrl+O", "Ctrl+S", "Ctrl+W"}
    keys = [
        one.key.toString() for one in slicer.util.mainWindow().children() if isinstance(one, qt.QShortcut)
    ]
    assert len(keys) == 3
    assert not set(keys) & taken
