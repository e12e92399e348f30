"""Many films at once, and the table that collects the answers."""

import csv
import io
import json
import time

import pytest


@pytest.fixture
def running(application, panel, tmp_path):
    """A run over a folder that has begun."""
    panel.ui.manySection.collapsed = False
    panel.ui.folderPath.currentPath = str(tmp_path)
    application.process_events()
    panel.ui.startButton.click()
    application.process_events()
    return panel.films_process


def done(tools, number, name, **other):
    crop = {"centre_px": [100.0, 100.0], "side_px": 80.0 + number, "side": "R", "origin": "automatic"}
    film = {"file": f"/films/{name}", "sex": "F", "age_months": 100.0}
    record = tools.record(film, 1, crop, **other)
    record.pop("distribution")
    return {"film": number, "of": 3, "file": film["file"], "records": [record]}


def test_a_run_tells_its_progress_and_fills_the_table(application, panel, running, tools):
    assert running.starts == 1
    assert running.arguments[-2] == "--films"
    assert panel.ui.stopButton.enabled
    assert not panel.ui.startButton.enabled
    running.say(of=3)
    running.say(progress="Loading PyTorch…")
    assert panel.ui.manyStatus.text == "Loading PyTorch…"
    panel.many_panel._began -= 300
    running.say(**done(tools, 1, "anna.dcm"))
    assert panel.ui.manyStatus.text == "1 of 3 films, about 10 min left"
    panel.many_panel._began += 300
    blank = {"status": "refused", "reason": "blank film: it shows no contrast", "bone_age_months": None}
    running.say(**done(tools, 2, "ben.dcm", **blank, interval_months=None, knee_index=0))
    application.process_events()
    assert panel.ui.manyProgress.value == 2
    assert "2 of 3 films" in panel.ui.manyStatus.text
    assert "anna.dcm: Right knee: 8 y 5 m (101 months)" in panel.ui.manyLog.plainText
    assert "ben.dcm: blank film: it shows no contrast" in panel.ui.manyLog.plainText
    panel.ui.resultsSection.collapsed = False
    application.picture_of_panel(panel, tools.OUTPUT / "panel-many-films.png")
    running.say(**done(tools, 3, "carl.dcm"))
    running.say(finished=True, films=3)
    running.die()
    application.process_events()
    assert "Knees estimated: 2, refused: 1, files not read: 0" in panel.ui.manyStatus.text
    assert panel.ui.startButton.enabled
    assert panel.results_panel.table.GetNumberOfRows() == 3


def test_cancel_ends_the_process_and_keeps_what_is_finished(application, panel, running, tools):
    running.say(of=3)
    running.say(**done(tools, 1, "anna.dcm"))
    panel.ui.stopButton.click()
    application.process_events()
    assert running.kills == 1
    assert "Cancelled. Knees estimated: 1" in panel.ui.manyStatus.text
    assert panel.results_panel.table.GetNumberOfRows() == 1
    assert panel.ui.startButton.enabled
    assert not panel.ui.stopButton.enabled


def test_a_run_that_dies_or_cannot_begin_is_told(application, panel, running):
    running.on_log("Killed")
    running.die()
    application.process_events()
    assert "ended unexpectedly" in panel.ui.manyStatus.text
    assert "Killed" in panel.ui.manyLog.plainText
    panel.ui.startButton.click()
    running.say(
        error={"kind": "usage", "message": "No film was found", "way_out": "Choose a folder with films"}
    )
    running.die()
    application.process_events()
    assert "No film was found. Choose a folder with films." in panel.ui.manyStatus.text
    assert panel.ui.startButton.enabled


def test_results_are_copied_and_exported_as_csv(application, panel, estimated, tmp_path):
    import slicer

    application.answers.choose(tmp_path / "out.csv")
    panel.ui.exportButton.click()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["side"] for row in rows] == ["R", "L"]
    assert [row["film"] for row in rows] == ["Film", "Film"]
    assert {"bundle_sha256", "box_px", "sex", "chronological_age_months", "time"} <= rows[0].keys() | {
        "box_px"
    }
    assert "Written" in panel.ui.resultsStatus.text
    panel.ui.copyButton.click()
    assert slicer.app.clipboard().text().splitlines()[0].split("\t")[0] == "film"
    application.answers.choose(tmp_path / "absent" / "out.csv")
    panel.ui.exportButton.click()
    assert "cannot be written" in panel.ui.resultsStatus.text
    application.answers.choose()
    panel.ui.exportButton.click()


def test_estimating_a_knee_again_takes_the_place_of_its_row(application, panel, estimated):
    panel.ui.estimateButton.click()
    application.wait_until(lambda: not panel.age_panel.task.running, 60)
    assert panel.results_panel.table.GetNumberOfRows() == 2
    assert panel.ui.resultsSection.text == "Results (2)"


def test_series_of_the_dicom_database_are_listed_and_those_checked_are_estimated(
    application, panel, tmp_path, tools
):
    import qt
    import slicer

    from KneeBoneAgeLib.phantom.samples import draw_sample

    film = application.load_dicom(draw_sample("toddler", tmp_path))
    application.wait_until(lambda: panel.film is film, 60)
    application.wait_until(lambda: panel.ui.sexSource.text == "DICOM", 60)
    panel.ui.manySection.collapsed = False
    panel.ui.databaseChoice.click()
    application.wait_until(lambda: panel.ui.seriesTable.rowCount == 1, 60)
    application.process_events()
    assert not panel.ui.startButton.enabled
    assert "Select series" in panel.ui.startButton.toolTip
    panel.ui.seriesTable.item(0, 0).setCheckState(qt.Qt.Checked)
    application.process_events()
    application.picture_of_panel(panel, tools.OUTPUT / "panel-dicom-database.png")
    panel.ui.startButton.click()
    with open(panel.films_process.arguments[-1]) as stream:
        (path,) = json.load(stream)["films"]
    assert path in slicer.dicomDatabase.filesForSeries(slicer.dicomDatabase.seriesForFile(path))


class LargeDatabase:
    """A DICOM database with many series of many patients, and with nobody who asks for its files."""

    isOpen = True

    def __init__(self, qt_signal, patients=400):
        self.databaseChanged = qt_signal
        self.count = patients

    def patients(self):
        return [str(number) for number in range(self.count)]

    def studiesForPatient(self, patient):
        return [f"{patient}.1"]

    def seriesForStudy(self, study):
        return [f"{study}.{number}" for number in range(3)]

    def fieldForSeries(self, field, series):
        assert field == "Modality"
        time.sleep(0.0002)
        return {"0": "CT", "1": "DX", "2": "CR"}[series[-1]]

    def fieldForStudy(self, field, study):
        assert field == "StudyDate"
        return f"2024{int(study.partition('.')[0]) % 12 + 1:02d}01"

    def descriptionForSeries(self, series):
        return "Knee AP" if series.endswith("1") else "Hand"

    def filesForSeries(self, series):
        self.opened = [*getattr(self, "opened", []), series]
        return [f"/files/{series}.dcm"]


def test_a_large_database_is_listed_bit_by_bit_without_opening_a_file(application, panel, monkeypatch):
    import slicer

    database = LargeDatabase(slicer.dicomDatabase.databaseChanged)
    monkeypatch.setattr(slicer, "dicomDatabase", database)
    panel.ui.manySection.collapsed = False
    panel.ui.databaseChoice.click()
    counts = []

    def listed():
        counts.append(panel.ui.seriesTable.rowCount)
        return "check those" in panel.ui.databaseLabel.text

    application.wait_until(listed, 120, "the list")
    assert panel.ui.seriesTable.rowCount == 800
    assert len(set(counts)) > 3  # the event loop had its turns between
    assert not hasattr(database, "opened")
    assert panel.ui.seriesTable.item(0, 1).text() == "20240101"

    panel.ui.seriesFilter.text = "knee 202402"
    panel.ui.allSeriesBox.click()
    application.process_events()
    assert len(panel.many_panel.series.checked) == 34
    assert panel.ui.startButton.enabled
    assert not hasattr(database, "opened")
    panel.ui.startButton.click()
    with open(panel.films_process.arguments[-1]) as stream:
        assert len(json.load(stream)["films"]) == 34


@pytest.mark.parametrize("line", ["5", '"done"', "[1, 2]", "no JSON at all"])
def test_a_line_that_is_no_message_goes_to_the_log_and_the_run_goes_on(
    application, panel, running, tools, line
):
    running.on_line(line)
    running.say(of=3)
    running.say(**done(tools, 1, "anna.dcm"))
    application.process_events()
    assert line in panel.ui.manyLog.plainText
    assert "anna.dcm: Right knee" in panel.ui.manyLog.plainText
