"""What the module's own test does in the application: a film's whole way, through the panel and by a script."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import slicer

from KneeBoneAgeLib import scene

SECONDS = 300.0
"""For a step that starts the networks, on a slow computer."""


def throughThePanel(say: Callable[[str], Any]) -> None:
    """Press the panel's buttons and drag a square, as a person does.

    Parameters
    ----------
    say : is told each step.
    """
    import SampleData

    slicer.util.selectModule("KneeBoneAge")
    panel = slicer.util.getModuleWidget("KneeBoneAge")
    ui = panel.ui

    say("A sample is drawn and read")
    sources = SampleData.SampleDataLogic.sampleDataSourcesByCategory("Knee Bone Age")
    source = next(one for one in sources if one.sampleName == "KneeBoneAgeSchoolAge")
    film = source.customDownloader(source)
    panel.parameters.film = film
    _until(lambda: scene.facts(film).sex == "M", "the facts of the film")
    assert (ui.yearsBox.value, ui.monthsBox.value) == (8, 6), (ui.yearsBox.value, ui.monthsBox.value)

    say("The knees are found")
    ui.findButton.click()
    _until(lambda: ui.kneesTable.rowCount == 2, "the knees")
    assert [scene.crop_of(knee)["side"] for knee in scene.knees(film)] == ["R", "L"]

    say("They are estimated")
    ui.estimateButton.click()
    _until(lambda: len(panel.age_panel.cards) == 2, "the answers")
    _until(lambda: all(card.picture for card in panel.age_panel.cards), "the charts")
    table = scene.results_table(slicer.mrmlScene)
    assert table.GetNumberOfRows() == 2

    say("A knee is explained")
    ui.kneesTable.selectRow(0)
    _until(lambda: panel.selected is scene.knees(film)[0], "the selection")
    ui.showSaliencyButton.click()
    _until(lambda: panel.explanation_panel.shown() is not None, "the explanation")
    heat = slicer.util.arrayFromVolume(panel.explanation_panel.shown())
    assert heat.shape == slicer.util.arrayFromVolume(film).shape
    assert float(heat.max()) > 0.5

    say("A square is dragged, and its answer is out of date")
    _drag(scene.knees(film)[0], 6 * film.GetSpacing()[0])
    _until(
        lambda: [card.out_of_date for card in panel.age_panel.cards] == [True, False], "what is out of date"
    )
    ui.undoButton.click()
    _until(lambda: not any(card.out_of_date for card in panel.age_panel.cards), "Undo")

    say("The sex is typed, and Live estimates again")
    ui.liveBox.click()
    ui.sexBox.currentIndex = 1
    _until(lambda: (scene.result(scene.knees(film)[0]) or {}).get("sex") == "F", "Live")
    _until(lambda: not any(card.out_of_date for card in panel.age_panel.cards), "what is up to date")
    ui.liveBox.click()
    assert table.GetNumberOfRows() == 2
    ui.copyButton.click()
    assert len(slicer.app.clipboard().text().splitlines()) == 3

    say("A square is added and deleted")
    ui.addButton.click()
    _until(lambda: ui.kneesTable.rowCount == 3, "the square that was added")
    ui.deleteButton.click()
    _until(lambda: ui.kneesTable.rowCount == 2, "its end")

    say("The scene is saved and loaded again")
    before = [card.text for card in panel.age_panel.cards]
    film = _reloaded(film.GetName())
    _until(lambda: panel.film is film and len(panel.age_panel.cards) == 2, "the answers of the loaded scene")
    assert [card.text for card in panel.age_panel.cards] == before
    assert scene.saliency_of(scene.knees(film)[0]) is not None
    assert panel.results_panel.table.GetNumberOfRows() == 2


def byScript(logic: Any, say: Callable[[str], Any]) -> None:
    """Read, find, estimate and explain with the module's logic alone.

    Parameters
    ----------
    logic : a `KneeBoneAgeLogic`.
    """
    say("A script estimates a sample")
    film = logic.loadSample("toddler", "SampleFilm")
    logic.wait(logic.readFilm(film))
    known = scene.facts(film)
    assert (known.sex is not None, known.view) == (True, "frontal"), known
    logic.wait(logic.estimate(film))
    knees = scene.knees(film)
    assert knees
    for knee in knees:
        assert scene.result(knee) is not None
        assert scene.distribution_of(knee) is not None
        assert not scene.is_out_of_date(knee)
    logic.wait(logic.explain(knees[0], "gradcam"))
    assert scene.saliency_of(knees[0]) is not None
    assert len(scene.csv_text(scene.results_table(slicer.mrmlScene)).splitlines()) == 1 + len(knees)


def _drag(knee: Any, right_mm: float) -> None:
    """Move a square as the handles in the view do."""
    knee.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointStartInteractionEvent)
    x, y, z = knee.GetCenter()
    knee.SetCenter(x + right_mm, y, z)
    knee.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)


def _reloaded(name: str) -> Any:
    """Save the scene, close it and load it; the film of this name."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "scene.mrb")
        assert slicer.util.saveScene(path)
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(path)
    return slicer.util.getNode(name)


def _until(predicate: Callable[[], Any], what: str) -> None:
    """Process events until something holds; AssertionError when it does not in time."""
    end = time.monotonic() + SECONDS
    while not predicate():
        assert time.monotonic() < end, f"Waited in vain for {what}"
        slicer.app.processEvents()
        time.sleep(0.005)
    slicer.app.processEvents()
