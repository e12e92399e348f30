"""The child process: one that does not hear, one that is silent, one that nobody asks, charts after the numbers."""

import importlib
from pathlib import Path

import pytest

from KneeBoneAgeLib import scene

SERVE = "import sys; from KneeBoneAgeLib.service import main; sys.exit(main())"
DEAF = f"import os, sys; os.close(0); sys.stdin = open(os.devnull); {SERVE}"
HOLDING = f"import sys, time; '--requests' in sys.argv or time.sleep(60); {SERVE}"
MUTE = "import time; time.sleep(60)"


@pytest.fixture
def worker(application, monkeypatch):
    """The module's own process, with little patience."""
    application.load_module("KneeBoneAge", Path(__file__).parents[2] / "KneeBoneAge")
    return importlib.import_module("KneeBoneAgeWidgets.worker")


def asker(worker, code):
    return worker.Worker(worker.ServiceProcess(("-c", code)))


@pytest.mark.parametrize(
    "code", [DEAF, HOLDING], ids=["meets the end of its input", "is not handed its input"]
)
def test_a_process_without_standard_input_is_asked_through_a_file(application, worker, monkeypatch, code):
    monkeypatch.setattr(worker, "SILENT_MS", 4000)
    one = asker(worker, code)
    try:
        assert one.wait(one.ask("check"), 120)["packages"]
        assert one.wait(one.ask("check"), 120)["packages"]
        assert one.process._file is not None
    finally:
        one.cancel()


def test_a_process_that_never_answers_is_told_with_what_to_do(application, worker, monkeypatch):
    monkeypatch.setattr(worker, "SILENT_MS", 300)
    one = asker(worker, MUTE)
    request = one.ask("check")
    application.wait_until(lambda: request.finished, 60)
    assert request.problem.kind == "ended"
    assert "does not answer" in str(request.problem)
    assert "PythonSlicer" in request.problem.way_out
    assert not one.process.running


def test_a_process_that_hears_is_not_started_twice(application, worker, monkeypatch):
    one = asker(worker, SERVE)
    try:
        one.wait(one.ask("check"), 120)
        assert one.process._file is None
        assert not one.process._timer.isActive()
    finally:
        one.cancel()


def test_a_process_that_is_not_asked_for_long_ends_and_the_next_request_starts_it_again(
    application, panel, found
):
    assert panel.service.running
    assert panel.logic.worker._idle.interval == 600_000
    panel.logic.worker._idle.setInterval(1)
    panel.logic.worker._idle.start()
    application.wait_until(lambda: not panel.service.running, 20)
    starts = panel.service.starts
    panel.ui.estimateButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60)
    assert panel.service.starts == starts + 1


def test_a_process_at_work_is_not_ended_for_idleness(application, panel, found):
    panel.service.hold = True
    panel.ui.estimateButton.click()
    assert not panel.logic.worker._idle.isActive()
    panel.logic.worker.rest()
    assert panel.service.running


def test_numbers_are_shown_before_their_charts(application, panel, found):
    draw = panel.service.answers["charts"]
    shown = []

    def later(request):
        shown.append([card.text for card in panel.age_panel.cards])
        assert not any(card.picture for card in panel.age_panel.cards)
        return draw(request)

    panel.service.answers["charts"] = later
    panel.ui.estimateButton.click()
    application.wait_until(lambda: panel.age_panel.cards and panel.age_panel.cards[0].picture, 60)
    ((first, second),) = shown
    assert "Right knee" in first
    assert "Left knee" in second


def test_charts_that_cannot_be_drawn_leave_the_numbers_and_are_not_asked_for_again(
    application, panel, found, tools
):
    def refuse(request):
        raise tools.Refusal("missing", "The Python package PIL is not installed.")

    panel.service.answers["charts"] = refuse
    panel.ui.estimateButton.click()
    application.wait_until(lambda: panel.service.requests("charts"), 60)
    for _turn in range(10):
        panel.later()
        application.process_events()
    assert len(panel.service.requests("charts")) == 1
    assert len(panel.age_panel.cards) == 2


def test_charts_follow_the_colours_of_the_application(application, panel, estimated):
    if application.real:
        pytest.skip("the colours of the application are a person's own")
    import qt
    import slicer

    light = slicer.app.palette()
    pictures = [card.picture for card in panel.age_panel.cards]
    assert panel.service.requests("charts")[-1]["theme"] == "light"
    try:
        slicer.app.setPalette(qt.QPalette(qt.QColor("#2b2b2b")))
        application.wait_until(lambda: panel.service.requests("charts")[-1]["theme"] == "dark", 60)
        application.wait_until(
            lambda: all(card.picture and card.picture not in pictures for card in panel.age_panel.cards),
            60,
        )
        panel.ui.sexBox.currentIndex = 1
        application.process_events()
        application.picture_of_panel(panel, Path(__file__).parents[1] / "Output" / "panel-dark.png")
    finally:
        slicer.app.setPalette(light)
    application.wait_until(lambda: [card.picture for card in panel.age_panel.cards] != pictures, 60)
    assert len(panel.service.requests("charts")) <= 4


def test_an_answer_that_a_script_asks_for_is_shown_too(application, panel, estimated):
    scene.set_fact(estimated, "age_months", 110.0)
    application.process_events()
    assert all(card.out_of_date for card in panel.age_panel.cards)
    panel.logic.wait(panel.logic.estimate(estimated))
    application.process_events()
    assert not any(card.out_of_date for card in panel.age_panel.cards)
