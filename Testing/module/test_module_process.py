"""The child process: one that does not hear, one that is silent, one that nobody asks."""

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


def test_an_answer_that_a_script_asks_for_is_shown_too(application, panel, estimated):
    scene.set_fact(estimated, "age_months", 110.0)
    application.process_events()
    assert all(card.out_of_date for card in panel.age_panel.cards)
    panel.logic.wait(panel.logic.estimate(estimated))
    application.process_events()
    assert not any(card.out_of_date for card in panel.age_panel.cards)
