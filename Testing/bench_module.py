"""What the Slicer module costs, in the stand-in: opening it, and an estimate over the library's own.

    python Testing/bench_module.py

Prints one JSON object. The estimates are of the sample film with two knees, in a warm process, taken in turn with the
library's, so that both see the same machine.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 15


def main() -> None:
    """Measure and print."""
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "KneeBoneAge")]
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from shell.application import module_folder, running

    found = {}
    with running() as application, tempfile.TemporaryDirectory() as folder:
        application.load_module("KneeBoneAge", module_folder("KneeBoneAge"))
        began = time.perf_counter()
        widget = application.open_module("KneeBoneAge")
        found["opening_s"] = round(time.perf_counter() - began, 3)

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
        ratios = []
        for number in range(ROUNDS):
            began = time.perf_counter()
            estimator.estimate(film, crops)
            library = time.perf_counter() - began
            scene.set_fact(volume, "age_months", 100.0 + number)
            began = time.perf_counter()
            logic.wait(logic.estimate(volume))
            application.process_events()
            ratios.append((time.perf_counter() - began) / library)
        found["module_over_library_estimate"] = round(statistics.median(ratios), 3)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
