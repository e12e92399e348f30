"""The panel of the training module: study, recipe, start."""


def test_an_empty_panel_says_what_to_do_first(application, panel, tools):
    assert "Choose the folder of a study" in panel.ui.studyStatus.text
    assert not panel.ui.trainButton.enabled
    assert "Choose a study first" in panel.ui.trainButton.toolTip
    assert not panel.ui.runPanel.visible
    assert panel.ui.runsHint.visible
    application.picture_of_panel(panel, tools.OUTPUT / "training-empty.png")


def test_a_study_is_shown_with_its_flow_diagram_and_its_problems(application, with_study, tools):
    ui = with_study.ui
    assert "504 knee films, each with a hand film, of 338 children, in 5 folds" in ui.studyCounts.text
    assert "94 of them are the test set" in ui.studyCounts.text
    assert ui.flowButton.visible
    assert not ui.flowButton.icon.isNull()
    assert ui.problemsBox.title == "Rows that cannot be used (2)"
    assert ui.problemsTable.item(1, 3).text() == "there is no such file"
    assert ui.trainButton.enabled
    ui.problemsBox.collapsed = False
    application.picture_of_panel(with_study, tools.OUTPUT / "training-study.png")
