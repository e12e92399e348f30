"""The panel, pressed and dragged: what a person does and what is shown, with a fast stand-in for the networks."""

import pytest


def test_an_empty_scene_says_what_to_do_and_asks_for_nothing(application, panel, tools):
    assert "Load a knee radiograph" in panel.ui.filmStatus.text
    assert not panel.ui.estimateButton.enabled
    assert "No film is chosen" in panel.ui.estimateButton.toolTip
    assert [request["do"] for request in panel.service.asked] == ["bundles"]
    assert "never seen a real child" in panel.ui.researchLabel.text
    application.picture_of_panel(panel, tools.OUTPUT / "panel-empty.png")


def test_a_film_is_taken_by_itself_and_read(application, panel, film, tools):
    assert panel.ui.filmSelector.currentNode() is film
    assert (panel.ui.yearsBox.value, panel.ui.monthsBox.value) == (8, 6)
    assert panel.ui.sexSource.text == "picture"
    assert panel.ui.spacingBox.value == pytest.approx(0.2)
    assert panel.ui.estimateButton.enabled
    application.picture_of_panel(panel, tools.OUTPUT / "panel-film.png")
    application.picture_of_slice(tools.OUTPUT / "slice-film.png", 600, 500)


def test_two_clicks_lead_from_a_film_to_its_bone_ages(application, panel, estimated, tools):
    first, second = panel.age_panel.cards
    assert "Right knee" in first.text
    assert "Left knee" in second.text
    assert "8 y 8 m (104 months)" in first.text
    assert "90% interval: 7 y 10 m to 9 y 7 m" in first.text
    assert "2 months ahead of the chronological age, 8 y 6 m" in first.text
    assert first.picture
    assert second.picture
    application.picture_of_panel(panel, tools.OUTPUT / "panel-estimate.png")
    application.picture_of_slice(tools.OUTPUT / "slice-estimate.png", 600, 500)


def test_estimate_finds_the_knees_by_itself(application, panel, film):
    panel.ui.estimateButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)
    asked = [request["do"] for request in panel.service.asked]
    assert asked[:4] == ["bundles", "read", "find", "estimate"]


def test_a_running_request_can_be_cancelled_from_its_own_button(application, panel, film):
    panel.service.hold = True
    panel.ui.findButton.click()
    application.wait_until(lambda: panel.ui.findButton.text == "Cancel", 20)
    assert panel.ui.kneesStatus.text == "Starting…"
    panel.ui.findButton.click()
    application.process_events()
    assert panel.service.kills == 1
    assert panel.ui.findButton.text == "Find knees"
    assert panel.ui.kneesStatus.text == "Cancelled"
    panel.service.release()
    panel.ui.findButton.click()
    application.wait_until(lambda: panel.ui.kneesTable.rowCount == 2, 60)
    assert panel.service.starts == 2


def test_progress_is_told_where_the_button_was_pressed(application, panel, film, tools):
    panel.service.hold = True
    panel.ui.estimateButton.click()
    panel.service.say(id=panel.logic.worker._number, progress="Loading PyTorch…")
    application.wait_until(lambda: panel.ui.ageStatus.text == "Loading PyTorch…", 20)
    application.picture_of_panel(panel, tools.OUTPUT / "panel-running.png")
    panel.service.say(id=panel.logic.worker._number, progress="Loading the model…")
    assert panel.ui.ageStatus.text == "Loading the model…"
    panel.service.release()
    application.wait_until(lambda: panel.age_panel.cards, 60)
    assert not panel.ui.ageStatus.text


def test_an_answer_that_comes_at_once_lets_nothing_flash_up(application, panel, found):
    button, status = panel.ui.estimateButton, panel.ui.ageStatus
    patience = panel.age_panel.task._patience
    patience.setInterval(60_000)  # however slow the computer is
    panel.service.hold = True
    button.click()
    panel.service.say(id=panel.logic.worker._number, progress="Estimating…")
    application.process_events()
    assert (button.text, status.visible) == ("Estimate", False)
    panel.service.release()
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)
    assert (button.text, status.visible) == ("Estimate", False)
    assert not patience.isActive()


def test_a_double_click_does_not_cancel_what_the_first_click_began(application, panel, found):
    panel.age_panel.task._patience.setInterval(60_000)
    panel.ui.estimateButton.click()
    panel.ui.estimateButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)
    assert panel.service.kills == 0
    assert len(panel.service.requests("estimate")) == 1


def test_a_process_that_dies_is_told_and_started_again(application, panel, film):
    panel.service.hold = True
    panel.ui.findButton.click()
    panel.service.die()
    assert "ended unexpectedly" in panel.ui.kneesStatus.text
    panel.service.release()
    panel.ui.findButton.click()
    application.wait_until(lambda: panel.ui.kneesTable.rowCount == 2, 60)


def test_typed_facts_win_are_marked_and_can_be_taken_back(application, panel, film, tools):
    from KneeBoneAgeLib import scene

    panel.ui.sexBox.currentIndex = 1
    panel.ui.yearsBox.value = 10
    panel.ui.monthsBox.value = 3
    panel.ui.spacingBox.value = 0
    application.process_events()
    known = scene.facts(film)
    assert (known.sex, known.age_months, known.spacing_mm) == ("F", 123.0, None)
    assert panel.ui.sexSource.text == panel.ui.ageSource.text == "typed"
    assert panel.ui.spacingBox.text == "uncalibrated"
    application.picture_of_panel(panel, tools.OUTPUT / "panel-typed.png")
    for button in (panel.ui.sexReset, panel.ui.ageReset, panel.ui.spacingReset):
        button.click()
    application.process_events()
    known = scene.facts(film)
    assert (known.sex, known.age_months, known.spacing_mm) == ("M", 102.4, (0.2, 0.2))
    assert not panel.ui.sexReset.visible
    panel.ui.yearsBox.value = -1
    application.process_events()
    assert scene.facts(film).age_months is None
    assert panel.ui.yearsBox.text == "unknown"
    assert not panel.ui.monthsBox.enabled


def test_a_changed_sex_makes_the_answers_out_of_date_and_live_renews_them(
    application, panel, estimated, tools
):
    panel.ui.sexBox.currentIndex = 1
    application.process_events()
    assert all("out of date" in card.text for card in panel.age_panel.cards)
    application.picture_of_panel(panel, tools.OUTPUT / "panel-out-of-date.png")
    before = len(panel.service.requests("estimate"))
    panel.ui.liveBox.click()
    application.wait_until(lambda: not any("out of date" in card.text for card in panel.age_panel.cards), 60)
    assert len(panel.service.requests("estimate")) == before + 1
    assert panel.service.requests("estimate")[-1]["film"]["sex"] == "F"


def test_several_films_keep_their_own_knees_and_answers(application, panel, estimated, tools):
    other = tools.make_film("Other")
    panel.ui.filmSelector.setCurrentNode(other)
    application.wait_until(lambda: panel.ui.kneesTable.rowCount == 0, 60)
    assert panel.film is other
    assert not panel.age_panel.cards
    panel.ui.estimateButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)
    panel.ui.filmSelector.setCurrentNode(estimated)
    application.wait_until(lambda: panel.film is estimated and len(panel.age_panel.cards) == 2, 60)
    assert panel.results_panel.table.GetNumberOfRows() == 4


def test_an_answer_for_a_film_that_is_gone_changes_nothing(application, panel, found):
    panel.service.hold = True
    panel.ui.estimateButton.click()
    application.scene.RemoveNode(found)
    panel.service.release()
    application.wait_until(lambda: not panel.logic.worker.busy, 60)
    application.process_events()
    assert panel.film is None
    assert not panel.age_panel.cards


def test_a_saved_scene_brings_everything_back(application, panel, estimated, tmp_path, tools):
    from KneeBoneAgeLib import scene

    knee = scene.knees(estimated)[1]
    x, y, z = knee.GetCenter()
    knee.SetCenter(x + 2.0, y, z)
    application.wait_until(
        lambda: scene.crop_of(knee)["origin"] == "corrected" and not panel.corrections.unsettled
    )
    panel.ui.showSaliencyButton.click()
    application.wait_until(lambda: panel.explanation_panel.shown() is not None, 60)
    before = [(scene.crop_of(one), scene.result(one)) for one in scene.knees(estimated)]
    application.save_mrb(tmp_path / "scene.mrb")
    application.close_scene()
    assert panel.film is None
    assert "Load a knee radiograph" in panel.ui.filmStatus.text
    assert panel.ui.kneesTable.rowCount == 0
    application.load_mrb(tmp_path / "scene.mrb")
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)
    after = [(scene.crop_of(one), scene.result(one)) for one in scene.knees(panel.film)]
    assert after == before
    assert panel.ui.kneesTable.item(1, 2).text() == "corrected"
    assert [card.out_of_date for card in panel.age_panel.cards] == [False, True]
    assert panel.explanation_panel.shown() is not None
    assert panel.results_panel.table.GetNumberOfRows() == 2
    assert panel.ui.showSaliencyButton.text == "Hide"


def test_shortcuts_work_only_while_the_module_is_open(application, panel, film):
    import qt
    import slicer

    def keys():
        return [child for child in slicer.util.mainWindow().children() if isinstance(child, qt.QShortcut)]

    assert len(keys()) == 3
    keys()[1].activated.emit()
    application.wait_until(lambda: panel.age_panel.cards, 60)
    application.close_module()
    application.process_events()
    assert not keys()


def buttons(panel):
    return {name: button for name, button in vars(panel.ui).items() if name.endswith("Button")}


def test_every_button_says_what_it_does_and_a_disabled_one_why_it_cannot_be_pressed(application, panel, film):
    enabled = {name: button.toolTip for name, button in buttons(panel).items() if button.enabled}
    for name, tip in enabled.items():
        assert len(tip) > 20, name
    application.scene.RemoveNode(film)
    application.process_events()
    disabled = {name: button for name, button in buttons(panel).items() if not button.enabled}
    assert {"showFilmButton", "findButton", "estimateButton", "copyButton", "stopButton"} <= set(disabled)
    for name, button in disabled.items():
        assert len(button.toolTip) > 20, name
        assert button.toolTip != enabled.get(name), name
        assert button.toolTip.rstrip("</p>").endswith("."), name


def test_shortcuts_are_told_in_the_tooltips(application, panel, film):
    assert "Ctrl+Shift+F" in panel.ui.findButton.toolTip
    assert "Ctrl+Shift+E" in panel.ui.estimateButton.toolTip


def test_only_documented_members_of_the_application_are_used(application, panel, estimated):
    if application.real:
        pytest.skip("the real application is its own record")
    from shell import api

    if api.missing():
        pytest.skip(api.missing())
    assert not application.members_not_in_application()
