"""The stand-in reads and writes files, keeps a DICOM database, and goes away without a trace."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from KneeBoneAgeLib.phantom import samples

HERE = Path(__file__).parent
EXAMPLE = HERE / "shell" / "example"


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return samples.draw_sample("toddler", tmp_path_factory.mktemp("film"))


def test_a_grey_picture_becomes_a_scalar_and_a_coloured_one_a_vector_volume(application, tmp_path):
    import slicer

    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "colour.png")
    volume = application.load_volume(tmp_path / "grey.png")
    assert volume.GetName() == "grey"
    assert volume.GetStorageNode().GetFileName() == str(tmp_path / "grey.png")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume)[0], grey)
    assert application.load_volume(tmp_path / "colour.png").IsA("vtkMRMLVectorVolumeNode")


def test_a_volume_that_was_saved_is_read_again_and_shown(application, tmp_path):
    import slicer

    pixels = np.arange(12, dtype=np.uint16).reshape(1, 3, 4)
    volume = slicer.util.addVolumeFromArray(pixels, np.diag([-0.2, -0.2, 1, 1]), "Film")
    assert slicer.util.saveNode(volume, str(tmp_path / "film.nrrd"))
    again = application.load_volume(tmp_path / "film.nrrd")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), pixels)
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert red.GetBackgroundVolumeID() == again.GetID()


def test_a_file_that_is_not_there_is_an_error(application, tmp_path):
    with pytest.raises(RuntimeError, match="Failed to load"):
        application.load_volume(tmp_path / "none.nrrd")


def test_a_film_from_the_database_knows_its_file_and_its_header(application, film):
    import pydicom
    import slicer

    volume = application.load_dicom(film)
    header = pydicom.dcmread(film, stop_before_pixels=True)
    (uid,) = volume.GetAttribute("DICOM.instanceUIDs").split()
    database = slicer.dicomDatabase
    assert database.isOpen
    assert (uid, database.fileForInstance(uid)) == (header.SOPInstanceUID, str(film))
    assert database.fileValue(str(film), "0010,0040") == header.PatientSex
    assert database.fileValue(str(film), "0018,0001") == ""
    (patient,) = database.patients()
    (study,) = database.studiesForPatient(patient)
    (series,) = database.seriesForStudy(study)
    assert series == header.SeriesInstanceUID
    assert database.filesForSeries(series) == (str(film),)
    assert slicer.util.arrayFromVolume(volume).shape == (1, header.Rows, header.Columns)


def test_a_sample_is_made_by_its_name(application):
    import SampleData
    import slicer

    def make(source):
        return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", source.sampleName)

    known = {"category": "Knees", "sampleName": "Toddler", "customDownloader": make}
    with pytest.raises(TypeError, match="uris"):  # as in the application
        SampleData.SampleDataLogic.registerCustomSampleDataSource(**known)
    for _ in range(2):
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            **known, uris="", fileNames="toddler.dcm", nodeNames="Toddler"
        )
    (source,) = slicer.modules.sampleDataSources["Knees"]
    assert SampleData.SampleDataLogic().downloadFromSource(source)[0].GetName() == "Toddler"


def test_a_file_dialog_gives_the_path_that_the_test_chose(application):
    import qt

    application.answers.choose("/films/a.dcm")
    assert qt.QFileDialog.getOpenFileName(None, "Film", "", "*.dcm") == "/films/a.dcm"
    assert qt.QFileDialog.getExistingDirectory(None, "Films") == ""


def test_settings_of_the_person_are_neither_seen_nor_changed(application):
    import qt
    import slicer

    qt.QSettings().setValue("KneeBoneAge/bundle", "mine")
    assert slicer.util.settingsValue("KneeBoneAge/bundle", "") == "mine"
    assert str(application.folder) in qt.QSettings().fileName()


def test_nothing_is_installed_only_noted(application):
    import slicer

    slicer.util.pip_install("torch>=2.2")
    assert not hasattr(slicer, "packaging")
    application.with_packaging()
    slicer.packaging.pip_ensure(["timm>=1.0"], skip_packages=["torch"])
    assert application.pip_calls == [("install", "torch>=2.2"), ("ensure", ["timm>=1.0"])]


def test_a_process_writes_and_ends_as_in_qt(application):
    import qt

    process, lines = qt.QProcess(), []
    process.readyReadStandardOutput.connect(
        lambda: lines.append(bytes(process.readAllStandardOutput().data()))
    )
    process.start(sys.executable, ["-c", "print('hello')"])
    application.wait_until(lambda: process.state() == qt.QProcess.NotRunning, 20)
    assert (b"".join(lines).strip(), process.exitCode()) == (b"hello", 0)


def test_waiting_ends_when_the_time_is_over(application):
    with pytest.raises(TimeoutError, match=r"0.1 s in vain for a miracle"):
        application.wait_until(lambda: False, 0.1, "a miracle")


def test_an_exception_in_a_slot_is_not_lost(application):
    import qt

    button = qt.QPushButton("a")
    button.clicked.connect(lambda: 1 / 0)
    button.click()
    assert "ZeroDivisionError" in application.slot_errors.pop()


def test_the_module_that_is_left_is_told_and_the_one_that_is_unloaded_cleans_up(application):
    import slicer

    calls = []
    widget = application.open_module("ShellExample", EXAMPLE)
    widget.exit, widget.cleanup = lambda: calls.append("exit"), lambda: calls.append("cleanup")
    application.close_module()
    slicer.util.selectModule("ShellExample")
    assert slicer.util.getModuleWidget("ShellExample") is widget
    application.close_module()
    assert calls == ["exit", "exit"]
    slicer.app.moduleManager().moduleAboutToBeUnloaded.emit("ShellExample")
    assert calls == ["exit", "exit", "cleanup"]


def test_what_a_module_adds_to_the_interface_is_gone_for_the_next_test(application):
    import slicer

    assert not hasattr(slicer.modules, "shellexample")
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert slicer.util.mainWindow().windowTitle == "3D Slicer (shell)"


def test_the_stand_in_goes_without_a_trace():
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from shell.application import running\n"
        "import slicer\n"
        "before = set(vars(slicer)) | {'__doc__'}\n"
        "with running(): import qt, ctk, SampleData; assert slicer.app\n"
        "assert set(vars(slicer)) - before == set(), set(vars(slicer)) - before\n"
        "assert not {'qt', 'ctk', 'SampleData'} & set(sys.modules)\n"
        "assert not any('packages' in path for path in [*sys.path, *slicer.__path__] if 'shell' in path)\n"
        "from PySide6 import QtWidgets\n"
        "assert QtWidgets.QLabel('a').text() == 'a'\n"
    )
    command = [sys.executable, "-c", script, str(HERE)]
    done = subprocess.run(command, capture_output=True, text=True, env={**_environment()}, check=False)
    assert done.returncode == 0, done.stderr


def _environment():
    import os

    return {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
