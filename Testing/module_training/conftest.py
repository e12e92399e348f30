"""The training module opened with stand-ins for its child processes, and run folders written by hand."""

import functools
import importlib
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "Testing" / "Output"
RECIPES = [
    {
        "name": "bonet",
        "description": "A convolutional network of its own with a spatial transformer inside and a regression output.",
        "reference": "Spampinato et al. 2017, doi 10.1016/j.media.2016.10.010",
        "task": "hand",
        "stages": [{"name": "hand", "epochs": 60}],
    },
    {
        "name": "convnext-hand",
        "description": "ConvNeXt on films of the hand, first with sex, then with chronological age added.",
        "reference": "The hand model of doi 10.1177/03635465251359618, as far as it is described.",
        "task": "hand",
        "stages": [{"name": "with-sex", "epochs": 30}, {"name": "with-age", "epochs": 10}],
    },
    {
        "name": "knee-transfer",
        "description": "The knee network on crops of a study, in its folds, from the weights of a hand teacher.",
        "reference": "Beber et al. 2026, doi 10.1177/23259671261424923",
        "task": "knee",
        "stages": [{"name": "knee", "epochs": 40}],
    },
]
PROBLEMS = [
    {
        "table": "hands.csv",
        "line": "8",
        "file": "films/C007_0h.png",
        "what": "unknown patient",
        "reason": "its patient has no usable row in the patients table",
    },
    {
        "table": "knees.csv",
        "line": "6",
        "file": "films/none.png",
        "what": "missing file",
        "reason": "there is no such file",
    },
]


class FakeProcess:
    """Answers as `panel_answers` and `KneeBoneAgeLib.service` do, at the next turn of the event loop."""

    def __init__(self, arguments=()):
        self.arguments = arguments
        self.running = False
        self.starts = self.kills = 0
        self.asked, self.answers = [], {}
        self._waiting, self._timer = [], None

    def start(self):
        self.running = True
        self.starts += 1

    def send(self, line):
        import qt

        self.asked.append(json.loads(line))
        self._waiting.append(self.asked[-1])
        if self._timer is None:
            self._timer = qt.QTimer()
            self._timer.setSingleShot(True)
            self._timer.timeout.connect(self._turn)
        self._timer.start(0)

    def kill(self):
        self.kills += self.running
        self.running = False
        self._waiting.clear()

    def die(self):
        self.running = False
        self.on_end()

    def say(self, **message):
        self.on_line(json.dumps(message))

    def _turn(self):
        while self._waiting:
            request = self._waiting.pop(0)
            try:
                self.say(id=request["id"], done=self.answers[request["do"]](request))
            except Refusal as refusal:
                self.say(id=request["id"], error=refusal.error)


class Refusal(Exception):
    """An answer that says what is wrong."""

    def __init__(self, kind, message, way_out=""):
        super().__init__(message)
        self.error = {"kind": kind, "message": message, "way_out": way_out}


@functools.cache
def flow_picture():
    """The flow diagram of an invented study, drawn by the library."""
    import tempfile

    from KneeBoneAgeTrainingLib.cohort.picture import draw

    def counts(patients, knees, hands):
        return {"patients": patients, "knee_films": knees, "hand_films": hands}

    def step(rule, label, stage, before, removed):
        after = {name: before[name] - removed[name] for name in before}
        return {
            **{"rule": rule, "label": label, "stated": True, "before": before},
            **{"removed": removed, "after": after, "stage": stage},
        }

    steps, now = [], counts(398, 612, 430)
    for rule, label, stage, removed in (
        ("physeal_trauma", "previous physeal trauma about the knee", "rule", counts(12, 19, 12)),
        ("endocrinopathy", "endocrinopathy", "rule", counts(8, 13, 8)),
        ("too_old", "older than 18 years", "rule", counts(9, 14, 9)),
        ("no_hand", "no hand film within 3 months", "pairing", counts(31, 62, 0)),
    ):
        steps.append(step(rule, label, stage, now, removed))
        now = steps[-1]["after"]
    folds = [{"patients": 54 + k % 2, "films": 80 + k, "female": 25 + k} for k in range(5)]
    test = {
        "patients": now["patients"] - sum(f["patients"] for f in folds),
        "films": now["knee_films"] - sum(f["films"] for f in folds),
        "female": 31,
    }
    numbers = {
        "kind": "paired",
        "read": counts(400, 615, 431),
        "unknown_part": 0,
        "problems": {**counts(2, 3, 1), "reasons": {"missing file": 3, "unknown patient": 3}},
        "usable": counts(398, 612, 430),
        "steps": steps,
        "kept": now,
        "split": {"test": test, "folds": folds},
    }
    folder = Path(tempfile.mkdtemp(prefix="flow-"))
    draw(numbers, folder / "flow.svg", folder / "flow.png")
    return (folder / "flow.png").read_bytes()


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_run(folder, state="running", pid=None, recipe="convnext-hand", kind="hand", epochs=(), **other):
    """A run folder as ``kneeboneage train`` has it; ``epochs`` is how many each fold has behind it."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"format": 1, "kind": kind, "state": state, "recipe": recipe, "pid": pid or os.getpid()}
    facts |= {"study": {"path": "/studies/clinic"}, "options": {"folds": [0, 1, 2, 3, 4], "device": "auto"}}
    facts |= {"started": "2026-08-03T09:12:00+00:00", "finished": None, **other}
    write_json(folder / "run.json", facts)
    (folder / "recipe.yaml").write_text(f"name: {recipe}\n")
    lines = []
    for fold, count in enumerate(epochs):
        rows = ["epoch,step,train_loss,val_mae_months,learning_rate,seconds"]
        for epoch in range(1, count + 1):
            wave = 0.5 * math.sin(2 * epoch + fold)
            loss = 1.2 + 3.4 * math.exp(-epoch / 6) + 0.08 * wave
            mae = 8.4 + 0.3 * fold + 22 * math.exp(-epoch / 5) + wave
            rows.append(f"{epoch},{epoch * 24},{loss:.4f},{mae:.3f},0.001,41.0")
            lines.append(
                f"2026-08-03 09:{12 + epoch}:07,982 INFO fold {fold} epoch {epoch}  loss {loss:.3f}  val MAE {mae:.1f}"
            )
        write_text(folder / f"fold-{fold}" / "metrics.csv", "\n".join(rows) + "\n")
    (folder / "train.log").write_text("\n".join(["convnext-hand: ImageNet weights: none", *lines]) + "\n")
    return folder


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_progress(folder, fold=2, epoch=17, step=9, seconds_left=4330.0, **other):
    facts = {"fold": fold, "folds": 5, "epoch": epoch, "epochs": 30, "step": step, "steps": 24}
    facts |= {"fold_number": fold, "stage": "with-sex", "doing": "training"}
    write_json(
        folder / "progress.json", facts | {"seconds_left": seconds_left, "val_mae_months": 9.4} | other
    )


def write_metrics(folder, test=True):
    """metrics.json of a finished run, with its figures."""
    out_of_fold = {"model": errors(403, 9.4, 0.4), "age_alone": errors(403, 12.9, 0.1)}
    facts = {"out_of_fold": out_of_fold}
    if test:
        facts["test"] = {"model": errors(81, 8.9, -0.3), "age_alone": errors(81, 13.2, 0.6)}
    write_json(folder / "metrics.json", facts)


def errors(n, mae, bias):
    within = {f"within_{m}": round(math.erf(m / (1.25 * mae * math.sqrt(2))), 3) for m in (6, 12, 18, 24)}
    spread = 1.25 * mae
    values = {"n": n, "mae": mae, "rmse": spread, "median": 0.84 * mae, "bias": bias}
    return values | {"lower": bias - 1.96 * spread, "upper": bias + 1.96 * spread} | within


def write_figure(path):
    """A Bland-Altman plot of invented estimates, as a run's figures are drawn."""
    import numpy as np
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    label = rng.uniform(10, 200, 400)
    error = rng.normal(0.4, 11.7, 400)
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(label + error / 2, error, s=9, alpha=0.6, color="#2a6f97", lw=0)
    for level, style in ((error.mean(), "-"), (-22.5, "--"), (23.3, "--")):
        axes.axhline(level, color="#16222c", lw=1, ls=style)
    axes.set(xlabel="mean of estimate and label, months", ylabel="estimate − label, months", title="Invented")
    figure.savefig(path, dpi=110)
    return path


@pytest.fixture
def tmp_path():
    """A folder of its own, whose name may stand in a picture of the panel."""
    with tempfile.TemporaryDirectory(prefix="study-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


@pytest.fixture
def training_process():
    """A process that counts as a training and does nothing."""
    import subprocess

    command = [sys.executable, "-c", "import time; time.sleep(600)", "KneeBoneAgeTrainingLib"]
    process = subprocess.Popen(command)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def runs_folder(tmp_path):
    folder = tmp_path / "Runs"
    folder.mkdir()
    return folder


@pytest.fixture
def study_folder(tmp_path):
    """A folder that stands for a study; what is in it is said by the stand-in for the child process."""
    folder = tmp_path / "invented-study"
    folder.mkdir()
    (folder / "flow.png").write_bytes(flow_picture())
    return folder


@pytest.fixture
def loaded(application, monkeypatch, runs_folder, study_folder):
    """Both modules loaded, with stand-ins for their processes: ``answers``, ``exporter``, ``service``, ``pip``."""
    if "shell.pythonqt" in sys.modules:
        sys.modules["shell.pythonqt"].choose(__name__)
    for name in ("KneeBoneAge", "KneeBoneAgeTraining"):
        application.load_module(name, ROOT / name)
    made = {}

    def process(name):
        def make(arguments=()):
            fake = made[name if arguments or name != "logic" else "exporter"] = FakeProcess(arguments)
            if fake is made.get("logic"):
                fake.answers = {
                    "recipes": lambda request: {"recipes": RECIPES},
                    "recipe": look_at_recipe,
                    "study": look_at_study,
                }
            return fake

        return make

    for name, module in (
        ("logic", "KneeBoneAgeTrainingWidgets.logic"),
        ("service", "KneeBoneAgeWidgets.worker"),
        ("films", "KneeBoneAgeWidgets.many_films"),
        ("pip", "KneeBoneAgeWidgets.installing"),
    ):
        monkeypatch.setattr(importlib.import_module(module), "ServiceProcess", process(name))
    import qt

    qt.QSettings().setValue("KneeBoneAgeTraining/RunsFolder", str(runs_folder))
    installing = importlib.import_module("KneeBoneAgeTrainingWidgets.installing")
    ready = importlib.import_module("KneeBoneAgeLib.installation").Installation((), "3.12")
    monkeypatch.setattr(installing, "look", lambda: ready)
    return SimpleNamespace(made=made, installing=installing)


def study_answer(folder):
    return {
        **{"folder": str(folder), "kind": "paired", "films": 504, "patients": 338, "test_films": 94},
        **{"folds": 5, "removed": 108, "problems": PROBLEMS, "problem_count": len(PROBLEMS)},
        "flow": str(folder / "flow.png"),
    }


def look_at_recipe(request):
    if not Path(request["file"]).is_file():
        raise Refusal(
            "recipe", f"{request['file']}: there is no such file", "Choose a recipe, a file in YAML."
        )
    if "epoch:" in Path(request["file"]).read_text():
        raise Refusal(
            "recipe", "own.yaml: unknown key 'epoch'; the nearest known one is 'epochs'", "Correct it"
        )
    return {**RECIPES[0], "name": "own", "description": "A recipe of one's own.", "reference": ""}


def look_at_study(request):
    folder = Path(request["folder"])
    if not (folder / "flow.png").is_file():
        raise Refusal("study", f"{folder}: there is no study here (no study.json)", "Choose another folder.")
    return study_answer(folder)


@pytest.fixture
def open_panel(application, loaded):
    """Opens the module; its processes are ``panel.answers``, ``panel.exporter`` and ``panel.pip``."""

    def opened():
        widget = application.open_module("KneeBoneAgeTraining")
        widget.answers, widget.exporter = loaded.made["logic"], loaded.made["exporter"]
        widget.pip = loaded.made["pip"]
        application.wait_until(lambda: not widget.logic.worker.busy, 30, "the recipes")
        application.process_events()
        return widget

    yield opened
    assert not application.answers.unexpected, application.answers.unexpected


@pytest.fixture
def panel(open_panel):
    """The opened module."""
    return open_panel()


@pytest.fixture
def with_study(application, panel, study_folder):
    """The module with a study chosen."""
    panel.ui.studyPath.currentPath = str(study_folder)
    application.wait_until(lambda: panel.study_panel.study is not None, 30, "the study")
    application.process_events()
    return panel


@pytest.fixture
def tools():
    """What the tests share, where a relative import is not to be had."""
    return SimpleNamespace(
        write_run=write_run,
        write_progress=write_progress,
        write_metrics=write_metrics,
        write_figure=write_figure,
        write_json=write_json,
        Refusal=Refusal,
        OUTPUT=OUTPUT,
        ROOT=ROOT,
    )
