"""Runs in the panel: read from their folders, their curves as plots, their results."""

import json
import os

import pytest


@pytest.fixture
def running(application, open_panel, tools, runs_folder, training_process):
    """The module opened while a run of the folder is being trained by a process that it has not started."""
    folder = tools.write_run(runs_folder / "invented-run", pid=training_process.pid, epochs=(30, 30, 17))
    tools.write_progress(folder)
    widget = open_panel()
    widget.ui.studySection.collapsed = widget.ui.trainSection.collapsed = True
    application.process_events()
    return widget


def test_a_run_that_goes_on_is_found_and_shown_when_the_module_is_opened(application, running, tools):
    ui = running.ui
    assert ui.runsTable.rowCount == 1
    assert ui.runsTable.item(0, 1).text() == "running"
    assert "goes on when this module or Slicer is closed" in ui.runStatus.text
    assert ui.progressLabel.text == "Fold 2 (3 of 5), epoch 18 of 30, step 9 of 24, about 1 h 12 min left"
    assert ui.runProgress.value == pytest.approx(1000 * (2 + (17 + 9 / 24) / 30) / 5, abs=1)
    assert "07 fold 2 epoch 17 " in ui.runLog.plainText
    assert ui.stopButton.enabled
    assert not ui.resumeButton.enabled
    application.picture_of_panel(running, tools.OUTPUT / "training-running.png")


def test_curves_of_error_and_loss_are_plots_that_grow_with_the_run(
    application, running, tools, runs_folder, training_process
):
    import slicer

    from KneeBoneAgeTrainingLib import scene

    assert not scene.shown_run(slicer.mrmlScene)
    running.ui.curvesButton.click()
    application.process_events()
    charts = [scene.find(slicer.mrmlScene, "vtkMRMLPlotChartNode", column) for column in scene.CHARTS]
    assert [chart.GetNumberOfPlotSeriesNodes() for chart in charts] == [3, 3]
    names = [charts[0].GetNthPlotSeriesNode(i).GetName() for i in range(3)]
    assert names == ["Fold 0", "Fold 1", "Fold 2"]
    assert charts[0].GetNthPlotSeriesNode(2).GetTableNode().GetNumberOfRows() == 17
    assert slicer.app.layoutManager().layout == scene.LAYOUT
    for column, chart in zip(scene.CHARTS, charts, strict=True):
        view = slicer.mrmlScene.GetSingletonNode(scene.VIEWS[column], "vtkMRMLPlotViewNode")
        assert view.GetPlotChartNode() is chart
    tools.write_run(runs_folder / "invented-run", pid=training_process.pid, epochs=(30, 30, 30, 2))
    application.wait_until(lambda: charts[0].GetNumberOfPlotSeriesNodes() == 4, 10, "the next fold")
    assert charts[0].GetNthPlotSeriesNode(2).GetTableNode().GetNumberOfRows() == 30
    application.picture_of_plots(tools.OUTPUT / "training-curves.png", 900, 820)


def test_curves_come_back_after_the_scene_was_closed_and_follow_the_chosen_run(
    application, running, tools, runs_folder
):
    import slicer

    from KneeBoneAgeTrainingLib import scene

    running.ui.curvesButton.click()
    application.close_scene()
    application.wait_until(lambda: scene.shown_run(slicer.mrmlScene) == "invented-run", 10)
    tools.write_run(runs_folder / "older", state="stopped", epochs=(3,), started="2025-01-01T00:00:00+00:00")
    application.wait_until(lambda: running.ui.runsTable.rowCount == 2, 10)
    running.ui.runsTable.selectRow(1)
    application.wait_until(lambda: scene.shown_run(slicer.mrmlScene) == "older", 10)
    chart = scene.find(slicer.mrmlScene, "vtkMRMLPlotChartNode", scene.CHARTS[0])
    view = slicer.mrmlScene.GetSingletonNode(scene.VIEWS[scene.CHARTS[0]], "vtkMRMLPlotViewNode")
    assert view.GetPlotChartNode() is chart
    assert chart.GetNumberOfPlotSeriesNodes() == 1


def test_the_log_stays_where_it_was_scrolled_to_and_goes_on_below(application, running, runs_folder):
    log = runs_folder / "invented-run" / "train.log"
    before = running.ui.runLog.plainText
    with log.open("a") as stream:
        stream.write("a new line\n")
    application.wait_until(lambda: running.ui.runLog.plainText.endswith("a new line"), 10)
    assert running.ui.runLog.plainText.startswith(before)


def test_a_run_whose_process_is_gone_is_interrupted_and_can_be_resumed(
    application, running, tools, training_process
):
    training_process.kill()
    training_process.wait()
    application.wait_until(lambda: "process is gone" in running.ui.runStatus.text, 10)
    assert running.ui.runsTable.item(0, 1).text() == "interrupted"
    assert running.ui.resumeButton.enabled
    assert not running.ui.stopButton.enabled
    assert not running.ui.runProgress.visible


def test_a_run_on_another_computer_is_shown_but_cannot_be_ended_here(
    application, open_panel, tools, runs_folder
):
    tools.write_run(runs_folder / "far", host="cluster-node-7", pid=1)
    panel = open_panel()
    assert panel.ui.runsTable.item(0, 1).text() == "running"
    assert "another computer (cluster-node-7)" in panel.ui.stopButton.toolTip
    assert not panel.ui.resumeButton.enabled


def test_damaged_and_strange_folders_are_left_out(application, open_panel, tools, runs_folder):
    tools.write_run(runs_folder / "good", state="stopped")
    (runs_folder / "bad").mkdir()
    (runs_folder / "bad" / "run.json").write_text('{"format": 1, "sta')
    (runs_folder / "notes.txt").write_text("hello")
    panel = open_panel()
    assert panel.ui.runsTable.rowCount == 1
    assert panel.ui.runTitle.text.startswith("good")
    (runs_folder / "good" / "progress.json").write_text("{")
    (runs_folder / "good" / "fold-0").mkdir()
    (runs_folder / "good" / "fold-0" / "metrics.csv").write_bytes(b"\xff\xfe\x00epoch")
    panel.refresh()
    assert not panel.ui.curvesButton.enabled


def test_results_stand_beside_those_of_age_alone(application, open_panel, tools, runs_folder):
    folder = tools.write_run(runs_folder / "invented-run", state="finished", epochs=(30,) * 5)
    tools.write_metrics(folder)
    tools.write_figure(folder / "figures" / "bland-altman.png")
    panel = open_panel()
    panel.ui.studySection.collapsed = panel.ui.trainSection.collapsed = True
    application.process_events()
    table = panel.ui.metricsTable
    assert [table.horizontalHeaderItem(i).text() for i in range(4)] == [
        "Folds",
        "Age",
        "Test",
        "Age",
    ]
    rows = {table.verticalHeaderItem(i).text(): i for i in range(table.rowCount)}
    errors = [table.item(rows["Mean absolute error"], i).text() for i in range(4)]
    assert errors == ["9.4", "12.9", "8.9", "13.2"]
    assert (
        panel.ui.resultsText.text
        == "Better than chronological age alone on the test set: 8.9 instead of 13.2 months."
    )
    assert panel.ui.runsTable.item(0, 2).text() == "8.9"
    assert panel.ui.firstFigure.visible
    assert not panel.ui.secondFigure.visible
    assert not panel.ui.exportButton.enabled
    assert "only a knee model becomes a bundle" in panel.ui.exportButton.toolTip
    application.picture_of_panel(panel, tools.OUTPUT / "training-results.png")
    panel.ui.curvesButton.click()
    application.process_events()
    application.picture_of_plots(tools.OUTPUT / "training-curves-finished.png", 900, 820)


def test_a_model_no_better_than_age_alone_is_called_so(application, open_panel, tools, runs_folder):
    folder = tools.write_run(runs_folder / "poor", state="finished")
    tools.write_metrics(folder, test=False)
    facts = json.loads((folder / "metrics.json").read_text())
    facts["out_of_fold"]["model"]["mae"] = 14.0
    tools.write_json(folder / "metrics.json", facts)
    panel = open_panel()
    assert panel.ui.resultsText.text.startswith("Not better than chronological age alone")
    assert panel.ui.metricsTable.columnCount == 2


def test_runs_of_another_folder_are_listed_when_it_is_chosen(application, open_panel, tools, tmp_path):
    tools.write_run(tmp_path / "Elsewhere" / "other", state="stopped")
    panel = open_panel()
    assert panel.ui.runsHint.visible
    panel.ui.runsPath.currentPath = str(tmp_path / "Elsewhere")
    application.process_events()
    assert panel.ui.runTitle.text.startswith("other")
    assert os.path.basename(panel.logic.runsFolder) == "Elsewhere"
