"""A fast stand-in for the child process that holds the networks, and the module opened with it."""

import importlib
import json
import math
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

OUTPUT = Path(__file__).parents[1] / "Output"
SHA = "a" * 64
CARD = {
    "name": "phantom-test",
    "first_line": "This bundle has never seen a real child: it was trained on a phantom only.",
    "rows": [
        {
            "label": "Bundle",
            "sentence": "{name}, made {created}",
            "values": {"name": "phantom-test", "created": "2026-01-01"},
        },
        {"label": "Intended use", "sentence": "{text}", "values": {"text": "Tests of the panel."}},
        {"label": "Size", "sentence": "{size:.1f} MB", "values": {"size": 12.34}},
    ],
    "sha256": SHA,
    "path": "/models/default",
    "real_children": 0,
    "is_default": True,
}
KNEES = [
    {"centre_px": [110.0, 150.0], "side_px": 90.0, "side": "R", "mirrored": False},
    {"centre_px": [290.0, 150.0], "side_px": 90.0, "side": "L", "mirrored": True},
]


class FakeProcess:
    """Answers as the service does, at the next turn of the event loop; ``hold`` keeps the answers back."""

    def __init__(self, arguments=()):
        self.arguments = arguments
        self.running = False
        self.starts = self.kills = 0
        self.asked = []
        self.hold = False
        self.knees = [dict(knee) for knee in KNEES]
        self.notes = []
        self.answers = {
            name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name[:3] == "do_"
        }
        self._waiting = []
        self._timer = None

    def start(self):
        self.running = True
        self.starts += 1

    def send(self, line):
        self.asked.append(json.loads(line))
        self._waiting.append(self.asked[-1])
        self._later()

    def kill(self):
        self.kills += self.running
        self.running = False
        self._waiting.clear()

    def die(self):
        """End as a process does that crashed."""
        self.running = False
        self._waiting.clear()
        self.on_end()

    def release(self):
        self.hold = False
        self._later()

    def say(self, **message):
        self.on_line(json.dumps(message))

    def requests(self, do):
        return [request for request in self.asked if request["do"] == do]

    def _later(self):
        import qt

        if self._timer is None:
            self._timer = qt.QTimer()
            self._timer.setSingleShot(True)
            self._timer.timeout.connect(self._turn)
        self._timer.start(0)

    def _turn(self):
        while self._waiting and not self.hold:
            request = self._waiting.pop(0)
            try:
                done = {"done": self.answers[request["do"]](request)}
            except Refusal as refusal:
                done = {"error": refusal.error}
            self.say(id=request["id"], progress="Working…")
            self.say(id=request["id"], **done)

    def do_read(self, request):
        film = {"sex": "M", "age_months": 102.4, "side": None, "view": "frontal", "polarity": "normal"}
        return {
            **film,
            "spacing_mm": [0.2, 0.2],
            "spacing_source": "PixelSpacing",
            "used": "file",
            "notes": [],
        }

    def do_find(self, request):
        facts = {"angle_deg": 0.0, "origin": "automatic", "confidence": 0.97, "fibula_clear": True}
        reason = None if self.knees else "no frontal knee was found on this film"
        return {"knees": [{**facts, **knee} for knee in self.knees], "reason": reason, "notes": self.notes}

    def do_estimate(self, request):
        return {
            "bundle_sha256": SHA,
            "knees": request["crops"],
            "records": [
                record(request["film"], index, crop) for index, crop in enumerate(request["crops"], 1)
            ],
        }

    def do_explain(self, request):
        rows, columns = np.load(request["film"]["pixels"]).shape[:2]
        (x, y), side = request["crop"]["centre_px"], request["crop"]["side_px"]
        row, column = np.mgrid[:rows, :columns]
        path = Path(request["folder"], "map.npy")
        np.save(path, np.exp(-((column - x) ** 2 + (row - y) ** 2) / (side / 4) ** 2).astype(np.float32))
        return {"map": str(path), "method": request["method"], "bundle_sha256": SHA}

    def do_bundles(self, request):
        return {"bundles": [CARD]}


class Refusal(Exception):
    """An answer of the service that says what is wrong."""

    def __init__(self, kind, message, way_out=""):
        super().__init__(message)
        self.error = {"kind": kind, "message": message, "way_out": way_out}


def record(film, index, crop, **other):
    """A record as `report.records.Result` has it; the bone age follows the crop, so that a correction shows."""
    (x, y), half = crop["centre_px"], crop["side_px"] / 2
    months = round(80 + crop["side_px"] / 4 + x / 100, 2)
    values = {
        "file": film.get("file") or film["name"],
        "status": "ok",
        "knee_index": index,
        "side": crop["side"],
        "box_px": [x - half, y - half, x + half, y + half],
        "sex": film["sex"],
        "chronological_age_months": film["age_months"],
        "bone_age_months": months,
        "interval_months": [months - 9.5, months + 11.0],
        "interval_level": 0.9,
        "bundle": "phantom-test",
        "bundle_sha256": SHA,
        "crop_origin": crop["origin"],
    } | other
    known = ("bone_age_months", "at_least_months", "withheld_bone_age_months")
    middle = next((values[name] for name in known if values.get(name)), 200)
    spread = np.exp(-((np.arange(240) + 0.5 - middle) ** 2) / (2 * 6.0**2))
    return values | {"distribution": {"probabilities": list(spread / spread.sum()), "months_to": 240.0}}


@pytest.fixture
def tmp_path():
    """A folder of its own, whose name may stand in a picture of the panel."""
    with tempfile.TemporaryDirectory(prefix="films-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


@pytest.fixture
def fakes(application, monkeypatch):
    """The processes that the module will use: ``service`` answers, ``films`` and ``pip`` do what a test says."""
    if "shell.pythonqt" in sys.modules:
        sys.modules["shell.pythonqt"].choose(__name__)
    application.load_module("KneeBoneAge", Path(__file__).parents[2] / "KneeBoneAge")
    made = {}

    def process(name):
        return lambda arguments=(): made.setdefault(name, FakeProcess(arguments))

    for name, module in (("service", "worker"), ("films", "many_films"), ("pip", "installing")):
        monkeypatch.setattr(
            importlib.import_module(f"KneeBoneAgeWidgets.{module}"), "ServiceProcess", process(name)
        )
    return SimpleNamespace(get=made.get, made=made)


@pytest.fixture
def panel(application, fakes):
    """The opened module; ``panel.service`` is its process, ``panel.logic`` its logic."""
    widget = application.open_module("KneeBoneAge")
    widget.service = fakes.made["service"]
    widget.films_process, widget.pip_process = fakes.made["films"], fakes.made["pip"]
    application.wait_until(lambda: not widget.logic.worker.busy, 60, "the cards")
    application.process_events()
    yield widget
    assert not application.answers.unexpected, application.answers.unexpected


@pytest.fixture
def film(application, panel):
    """A film in the scene, chosen and read."""
    volume = make_film("Film")
    application.wait_until(lambda: panel.ui.sexBox.currentIndex == 2, 60, "the facts of the film")
    return volume


@pytest.fixture
def found(application, panel, film):
    """The film with its two knees."""
    panel.ui.findButton.click()
    application.wait_until(lambda: panel.ui.kneesTable.rowCount == 2, 60, "the knees")
    return film


@pytest.fixture
def estimated(application, panel, found):
    """The film with two answers."""
    panel.ui.estimateButton.click()
    application.wait_until(lambda: len(panel.age_panel.cards) == 2, 60, "the answers")
    application.wait_until(lambda: all(card.picture for card in panel.age_panel.cards), 60, "the charts")
    application.process_events()  # the other sections come after the one that was asked
    return found


def make_film(name="Film", shape=(300, 400)):
    """A drawing of two knees as a volume of one slice."""
    import slicer

    rows, columns = shape
    y, x = np.mgrid[:rows, :columns]
    picture = np.full(shape, 300.0)
    for middle in (0.275 * columns, 0.725 * columns):
        width = 34 + 16 * np.exp(-(((y - rows / 2) / 30) ** 2))
        bone = np.abs(x - middle) < width
        picture += (
            1800 * (bone & (np.abs(y - rows / 2) > 4)) * (0.8 + 0.2 * np.cos(math.pi * (x - middle) / 60))
        )
    matrix = np.diag([-0.2, -0.2, 1.0, 1.0])
    return slicer.util.addVolumeFromArray(picture.astype(np.int16)[None], matrix, name)


@pytest.fixture
def tools():
    """What the tests share, where a relative import is not to be had."""
    return SimpleNamespace(
        make_film=make_film, record=record, Refusal=Refusal, SHA=SHA, CARD=CARD, KNEES=KNEES, OUTPUT=OUTPUT
    )


@pytest.fixture(autouse=True)
def _models_in_a_folder_of_their_own(monkeypatch, tmp_path):
    """A person's own models stay out of the tests."""
    if "qt" in sys.modules:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
