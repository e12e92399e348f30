"""Squares that are dragged, added, reset, undone and deleted, and answers that follow them."""

import pytest

from KneeBoneAgeLib import scene


def drag(application, knee, pixels, resize=1.0, interact=True):
    """Move a square by so many pixels to the viewer's right, as the handles in the view do."""
    import slicer

    kind = slicer.vtkMRMLMarkupsNode
    if interact:
        knee.InvokeEvent(kind.PointStartInteractionEvent)
    x, y, z = knee.GetCenter()
    spacing = scene.film_of(knee).GetSpacing()[0]
    for step in range(1, 6):
        knee.SetCenter(x - pixels * spacing * step / 5, y, z)
        application.process_events()
    if resize != 1.0:
        width, height, depth = knee.GetSize()
        knee.SetSize(width * resize, height, depth)
    if interact:
        application.process_events()
        knee.InvokeEvent(kind.PointEndInteractionEvent)
    application.process_events()


def test_a_dragged_square_stays_square_and_is_marked_as_corrected(application, panel, estimated):
    knee = scene.knees(estimated)[0]
    drag(application, knee, 12, resize=1.3)
    crop = scene.crop_of(knee)
    assert crop["centre_px"] == pytest.approx([122.0, 150.0], abs=0.01)
    assert crop["side_px"] == pytest.approx(90 * 1.3, abs=0.01)
    assert knee.GetSize()[0] == pytest.approx(knee.GetSize()[1])
    assert panel.ui.kneesTable.item(0, 2).text() == "corrected"
    assert [card.out_of_date for card in panel.age_panel.cards] == [True, False]


def test_live_estimates_when_a_drag_ends_and_not_during_it(application, panel, estimated):
    import slicer

    panel.ui.liveBox.click()
    application.process_events()
    knee = scene.knees(estimated)[0]
    before = len(panel.service.requests("estimate"))
    knee.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointStartInteractionEvent)
    x, y, z = knee.GetCenter()
    for step in range(5):
        knee.SetCenter(x - step, y, z)
        application.process_events()
    assert len(panel.service.requests("estimate")) == before
    assert panel.age_panel.cards[0].out_of_date
    knee.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)
    application.wait_until(lambda: not panel.age_panel.cards[0].out_of_date, 60)
    assert len(panel.service.requests("estimate")) == before + 1


def test_live_does_not_try_again_what_has_failed(application, panel, estimated, tools):
    def refuse(request):
        raise tools.Refusal(
            "memory", "The graphics card has too little free memory.", "Choose CPU in the Model section."
        )

    panel.service.answers["estimate"] = refuse
    panel.ui.liveBox.click()
    drag(application, scene.knees(estimated)[0], 10)
    application.wait_until(lambda: "too little free memory" in panel.ui.ageStatus.text, 60)
    for _turn in range(20):
        application.process_events()
    assert len(panel.service.requests("estimate")) == 2
    assert "Choose CPU" in panel.ui.ageStatus.text


def test_a_change_by_another_module_is_settled_after_a_pause(application, panel, estimated):
    knee = scene.knees(estimated)[0]
    drag(application, knee, 8, interact=False)
    application.wait_until(lambda: not panel.corrections.unsettled, 60)
    assert scene.can_undo(estimated) == "changed"
    assert panel.ui.undoButton.enabled


def test_the_last_change_is_undone_and_a_square_goes_back_to_automatic(application, panel, estimated):
    knee = scene.knees(estimated)[0]
    automatic = scene.crop_of(knee)
    drag(application, knee, 10)
    once = scene.crop_of(knee)
    drag(application, knee, 10)
    panel.ui.undoButton.click()
    application.process_events()
    assert scene.crop_of(knee)["centre_px"] == pytest.approx(once["centre_px"])
    assert not panel.ui.undoButton.enabled
    assert panel.ui.resetButton.enabled
    panel.ui.resetButton.click()
    application.process_events()
    assert scene.crop_of(knee) == automatic
    assert not any(card.out_of_date for card in panel.age_panel.cards)
    panel.ui.undoButton.click()
    application.process_events()
    assert scene.crop_of(knee)["centre_px"] == pytest.approx(once["centre_px"])


def test_a_knee_is_added_by_hand_estimated_and_deleted(application, panel, film):
    panel.ui.addButton.click()
    application.process_events()
    assert panel.ui.kneesTable.rowCount == 1
    assert panel.ui.kneesTable.item(0, 2).text() == "added by hand"
    assert "Drag the square" in panel.ui.kneesStatus.text
    panel.ui.estimateButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 1, 60)
    assert not panel.service.requests("find")
    panel.ui.deleteButton.click()
    application.process_events()
    assert panel.ui.kneesTable.rowCount == 0
    assert not panel.age_panel.cards
    panel.ui.undoButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 1, 60)


def test_finding_again_keeps_what_a_person_corrected(application, panel, estimated):
    knee = scene.knees(estimated)[0]
    drag(application, knee, 10)
    crop = scene.crop_of(knee)
    panel.ui.findButton.click()
    application.wait_until(lambda: not panel.knees_panel.task.running, 60)
    assert scene.crop_of(scene.knees(estimated)[0]) == crop
    assert panel.ui.kneesTable.rowCount == 2


def test_the_side_of_a_knee_is_typed_in_its_row(application, panel, estimated):
    panel.ui.kneesTable.cellWidget(0, 0).currentIndex = 2
    application.process_events()
    assert scene.crop_of(scene.knees(estimated)[0])["side"] == "L"
    assert "Left knee" in panel.age_panel.cards[0].text


def test_a_side_that_header_and_fibula_disagree_on_is_told_until_it_is_typed(
    application, panel, film, tmp_path
):
    panel.service.notes = ["the fibula shows a right knee, the header says left: check the side"]
    panel.ui.estimateButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)
    application.wait_until(lambda: "check the side" in panel.ui.kneesStatus.text, 20)
    application.save_mrb(tmp_path / "scene.mrb")
    application.load_mrb(tmp_path / "scene.mrb")
    application.wait_until(lambda: "check the side" in panel.ui.kneesStatus.text, 60)
    panel.ui.kneesTable.cellWidget(0, 0).currentIndex = 0
    application.wait_until(lambda: not panel.ui.kneesStatus.visible, 20)


def test_the_row_of_an_uncertain_square_is_marked_until_a_person_settles_it(application, panel, film):
    panel.service.knees[1]["confidence"] = 0.71
    panel.ui.findButton.click()
    application.wait_until(lambda: panel.ui.kneesTable.rowCount == 2, 60)
    sure, doubted = (panel.ui.kneesTable.item(row, 1) for row in range(2))
    assert (sure.text(), sure.toolTip()) == ("97%", "")
    assert doubted.text() == "71% ⚠"
    assert "confidence 0.71" in doubted.toolTip()
    assert panel.ui.kneesStatus.text.count("crop is uncertain") == 1
    assert "Left knee: the crop is uncertain" in panel.ui.kneesStatus.text
    drag(application, scene.knees(film)[1], 10)
    application.wait_until(lambda: panel.ui.kneesTable.item(1, 1).text() == "–", 20)
    application.wait_until(lambda: not panel.ui.kneesStatus.visible, 20)


@pytest.mark.parametrize("status", ["ok", "refused"])
def test_an_answer_from_an_uncertain_square_says_so(application, panel, found, tools, status):
    def answer(request):
        doubted = {
            "crop_uncertain": True,
            "status": status,
            "reason": None if status == "ok" else "an implant",
        }
        records = [
            tools.record(request["film"], 1, request["crops"][0]),
            tools.record(request["film"], 2, request["crops"][1], **doubted),
        ]
        return {"bundle_sha256": tools.SHA, "records": records}

    panel.service.answers["estimate"] = answer
    panel.ui.estimateButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)
    first, second = panel.age_panel.cards
    assert "square is uncertain" not in first.text
    assert "square is uncertain" in second.text
    assert ("Refused" in second.text) == (status == "refused")


def test_an_answer_says_that_the_sex_is_not_known_and_that_the_header_names_another_side(
    application, panel, found, tools
):
    def answer(request):
        records = [
            tools.record(request["film"], 1, request["crops"][0], sex=None),
            tools.record(request["film"], 2, request["crops"][1], side_conflict=True),
        ]
        return {"bundle_sha256": tools.SHA, "records": records}

    panel.service.answers["estimate"] = answer
    panel.ui.estimateButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)
    first, second = panel.age_panel.cards
    assert "sex is not known" in first.text
    assert "names the other side" not in first.text
    assert "names the other side" in second.text


def test_a_selected_row_shows_its_knee(application, panel, estimated):
    panel.ui.kneesTable.selectRow(1)
    application.process_events()
    first, second = scene.knees(estimated)
    assert panel.knee is second
    assert second.GetDisplayNode().GetOpacity() > first.GetDisplayNode().GetOpacity()


def test_an_explanation_is_shown_hidden_and_told_when_it_is_out_of_date(application, panel, estimated, tools):
    panel.ui.showSaliencyButton.click()
    application.wait_until(lambda: panel.explanation_panel.shown() is not None, 60)
    application.process_events()
    assert panel.ui.showSaliencyButton.text == "Hide"
    assert "not a proof" in panel.ui.explanationStatus.text
    assert panel.ui.legendBar.visible
    application.picture_of_panel(panel, tools.OUTPUT / "panel-explanation.png")
    application.picture_of_slice(tools.OUTPUT / "slice-explanation.png", 600, 500)
    panel.ui.showSaliencyButton.click()
    application.process_events()
    assert panel.explanation_panel.shown() is None
    panel.ui.showSaliencyButton.click()
    application.process_events()
    assert len(panel.service.requests("explain")) == 1
    drag(application, scene.knees(estimated)[0], 10)
    assert panel.explanation_panel.shown() is None
    assert "out of date" in panel.ui.explanationStatus.text
    panel.ui.showSaliencyButton.click()
    application.wait_until(lambda: panel.explanation_panel.shown() is not None, 60)
    panel.ui.methodBox.currentIndex = 1
    application.process_events()
    panel.ui.showSaliencyButton.click()
    application.wait_until(lambda: len(panel.service.requests("explain")) == 3, 60)
    assert panel.service.requests("explain")[-1]["method"] == "gradcam"


def test_the_opacity_fades_the_explanation(application, panel, estimated):
    import slicer

    panel.ui.showSaliencyButton.click()
    application.wait_until(lambda: panel.explanation_panel.shown() is not None, 60)
    panel.ui.opacitySlider.value = 80
    application.process_events()
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetForegroundOpacity() == pytest.approx(0.8)
