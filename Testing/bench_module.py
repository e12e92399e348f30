"""What the Slicer module costs, in the stand-in: opening it, and an estimate over the library's own.

    python Testing/bench_module.py

Prints one JSON object. The estimates are of the sample film with two knees, in a warm process, taken in turn with the
library's, so that both see the same machine. In the module it is the time from pressing Estimate until the panel shows
the numbers and charts of both knees. The stand-in's noting of members, which the application does not have, is off.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 15


def main() -> None:
    """Measure and print."""
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "KneeBoneAge")]
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from shell.application import module_folder, running
    from shell.hook import Hook

    Hook.notes = False
    found = {}
    with running() as application, tempfile.TemporaryDirectory() as folder:
        application.load_module("KneeBoneAge", module_folder("KneeBoneAge"))
        began = time.perf_counter()
        widget = application.open_module("KneeBoneAge")
        found["opening_s"] = round(time.perf_counter() - began, 3)

        from PySide6 import QtCore

        from KneeBoneAgeLib import scene
        from KneeBoneAgeLib.estimator import Estimator
        from KneeBoneAgeLib.radiograph import read_film

        logic = widget.logic
        sample = logic.wait(logic.worker.ask("sample", name="school age", folder=folder))
        volume = application.load_volume(sample["file"])
        application.wait_until(lambda: scene.facts(volume).source is not None, 120)
        logic.wait(logic.estimate(volume))
        estimator, film = Estimator.load(device="cpu"), read_film(sample["file"])
        crops = estimator.find(film).knees
        estimator.estimate(film, crops)

        loop = QtCore.QEventLoop()  # sleeps until something happens, as the application's own does

        def seconds_until(predicate: Callable[[], bool], began: float) -> float:
            while not predicate():
                loop.processEvents(loop.ProcessEventsFlag.WaitForMoreEvents)
            return time.perf_counter() - began

        charts: list[object] = []

        def answers_are_shown() -> bool:
            cards = [card for card in widget.age_panel.cards if not card.out_of_date]
            new = [card for card in cards if card.picture is not None and card.picture not in charts]
            return len(new) == 2 and all(card.knee.record["chronological_age_months"] == age for card in new)

        library_s, ratios = [], []
        for number in range(-2, ROUNDS):
            began = time.perf_counter()
            estimator.estimate(film, crops)
            library_s.append(time.perf_counter() - began)
            age = 100.0 + number
            scene.set_fact(volume, "age_months", age)
            application.process_events()
            began = time.perf_counter()
            widget.ui.estimateButton.click()
            charts = [card.picture for card in widget.age_panel.cards]
            ratios.append(seconds_until(answers_are_shown, began) / library_s[-1])
        found["library_estimate_s"] = round(statistics.median(library_s[2:]), 3)
        found["module_over_library_estimate"] = round(statistics.median(ratios[2:]), 3)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
