"""A training as a process: started from the panel, outliving it, ended and taken up again."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

# Behaves as `kneeboneage train` in its folder and to SIGTERM; "stubborn" in the recipe's name ignores the signal.
TRAINER = r"""
import json, os, signal, sys, time
words = sys.argv[1:]
out, kind = words[words.index("--out") + 1], "hand" if words[0] == "train" else "knee"
if "broken" in out:
    sys.exit("Error: fold 3 has no hand film with a bone age; give labels, or more children")
os.makedirs(out + "/fold-0", exist_ok=True)
open(out + "/recipe.yaml", "a").close()
asked = []
signal.signal(signal.SIGTERM, lambda *_: None if "stubborn" in out else asked.append(1))
print("a line for the console", flush=True)
studies = [{"path": words[i + 1]} for i, word in enumerate(words) if word == "--study"]
folds = [int(words[i + 1]) for i, word in enumerate(words) if word == "--fold"]

def write(name, facts):
    with open(f"{out}/{name}.new", "w") as stream:
        json.dump(facts, stream)
    os.replace(f"{out}/{name}.new", f"{out}/{name}")

def tell(state):
    write("run.json", {
        "format": 1, "kind": kind, "state": state, "recipe": "fake", "started": "2026-08-03T09:12:00+00:00",
        "pid": os.getpid() if state == "running" else None, "studies": studies, "words": words,
        "options": {"folds": folds, "device": "cpu"}, "limit": None,
    })

tell("running")
path = out + "/fold-0/metrics.csv"
done = sum(1 for _ in open(path)) - 1 if os.path.exists(path) else 0
with open(path, "a") as stream:
    if not done:
        print("epoch,step,train_loss,val_mae_months", file=stream)
    for epoch in range(done, 400):
        time.sleep(0.05)
        print(f"{epoch},{epoch},{1 / (epoch + 1)},{20 / (epoch + 1)}", file=stream, flush=True)
        write("progress.json", {"fold": 0, "folds": 1, "epoch": epoch, "epochs": 400, "step": 1, "steps": 1,
                                "doing": "training", "fold_number": 0, "seconds_left": 9.0})
        if asked:
            tell("stopped")
            sys.exit(130)
tell("finished")
"""


@pytest.fixture
def trainer(loaded, monkeypatch, tmp_path):
    """A trainer that takes no time, in place of the real one; what is left of it is ended."""
    import importlib

    run_process = importlib.import_module("KneeBoneAgeTrainingLib.runs.process")
    (tmp_path / "KneeBoneAgeTrainingLib_stand_in.py").write_text(TRAINER)
    monkeypatch.setattr(run_process, "COMMANDS", "KneeBoneAgeTrainingLib_stand_in")
    monkeypatch.setattr(run_process, "LIBRARIES", (str(tmp_path), *run_process.LIBRARIES))
    started = []
    start = run_process.start

    def remembered(*arguments):
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(run_process, "start", remembered)
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def started(application, trainer, with_study):
    """A run that was started by the button and trains."""
    panel = with_study
    panel.ui.deviceBox.currentIndex = panel.ui.deviceBox.findData("cpu")
    panel.ui.nameEdit.text = "first"
    application.process_events()
    panel.ui.trainButton.click()
    application.wait_until(lambda: "Training." in panel.ui.runStatus.text, 30, "the run")
    return panel


def facts(panel, name="first"):
    return json.loads(Path(panel.logic.runsFolder, name, "run.json").read_text())


def epochs(panel, name="first"):
    """How many epochs the first fold has behind it."""
    return len(Path(panel.logic.runsFolder, name, "fold-0", "metrics.csv").read_text().splitlines()) - 1


def test_start_trains_what_the_panel_says_in_a_process_of_its_own(
    application, started, trainer, study_folder
):
    words = facts(started)["words"]
    assert words[:2] == ["train", "convnext-hand"]
    assert words[words.index("--study") + 1] == str(study_folder)
    assert words[-2:] == ["--device", "cpu"]
    assert "--fold" not in words
    assert started.ui.runTitle.text.startswith("first")
    assert os.getsid(trainer[0].pid) != os.getsid(0)
    application.wait_until(lambda: started.ui.progressLabel.text.startswith("Fold 0 (1 of 1)"), 20)
    assert started.ui.nameEdit.text == ""
    assert started.ui.trainButton.enabled


def test_one_fold_and_other_epochs_are_handed_on(application, trainer, with_study):
    panel = with_study
    panel.ui.foldsBox.currentIndex = 3
    panel.ui.epochsBox.value = 4
    panel.ui.trainButton.click()
    application.wait_until(lambda: "Training." in panel.ui.runStatus.text, 30)
    words = facts(panel, "convnext-hand-1")["words"]
    assert words[words.index("--fold") + 1] == "2"
    assert words[words.index("--epochs") + 1] == "4"
    assert panel.training_panel.name == "convnext-hand-2"


def test_the_first_of_two_stages_may_have_a_study_of_its_own(application, trainer, with_study, tmp_path):
    panel = with_study
    panel.ui.earlierPath.currentPath = str(tmp_path)
    application.process_events()
    assert "no study in the folder for the first stage" in panel.ui.trainButton.toolTip
    (tmp_path / "study.json").write_text("{}")
    panel.ui.earlierPath.currentPath = ""
    panel.ui.earlierPath.currentPath = str(tmp_path)
    application.process_events()
    panel.ui.trainButton.click()
    application.wait_until(lambda: "Training." in panel.ui.runStatus.text, 30)
    studies = [study["path"] for study in facts(panel, "convnext-hand-1")["studies"]]
    assert studies == [str(tmp_path), panel.study_panel.study["folder"]]
    panel.ui.recipeBox.currentIndex = 0
    application.process_events()
    assert not panel.ui.earlierPath.visible


def test_a_knee_model_starts_from_a_finished_hand_model_and_its_labels(
    application, trainer, with_study, runs_folder, tmp_path, tools
):
    panel = with_study
    teacher = tools.write_run(runs_folder / "teacher", state="finished")
    panel.ui.recipeBox.currentIndex = 2
    application.process_events()
    assert panel.ui.recipeBox.currentText == "knee-transfer (knee)"
    assert panel.ui.startBox.currentText == "teacher"
    assert not panel.ui.labelsPath.visible
    assert panel.ui.trainButton.enabled
    panel.ui.labelBox.currentIndex = panel.ui.labelBox.findData("both")
    application.process_events()
    assert "Choose a table of pseudo-labels" in panel.ui.trainButton.toolTip
    (tmp_path / "labels.csv").write_text("file,pseudo_label_months\n")
    panel.ui.labelsPath.currentPath = str(tmp_path / "labels.csv")
    application.process_events()
    application.picture_of_panel(panel, tools.OUTPUT / "training-knee.png")
    panel.ui.trainButton.click()
    application.wait_until(lambda: "Training." in panel.ui.runStatus.text, 30)
    words = facts(panel, "knee-transfer-1")["words"]
    assert words[0] == "knee-transfer"
    assert words[words.index("--teacher") + 1] == str(teacher)
    assert words[words.index("--labels") + 1] == str(tmp_path / "labels.csv")
    panel.ui.stopButton.click()
    application.wait_until(lambda: panel.ui.resumeButton.enabled, 20)
    panel.ui.resumeButton.click()
    application.wait_until(lambda: "Training." in panel.ui.runStatus.text, 30)
    again = facts(panel, "knee-transfer-1")["words"]
    assert again[again.index("--recipe") + 1] == str(runs_folder / "knee-transfer-1" / "recipe.yaml")
    assert again[again.index("--labels") + 1] == str(tmp_path / "labels.csv")


def test_a_knee_run_of_the_command_line_cannot_be_resumed_here(application, open_panel, tools, runs_folder):
    tools.write_run(runs_folder / "elsewhere", state="stopped", kind="knee")
    panel = open_panel()
    assert not panel.ui.resumeButton.enabled
    assert "command line that has begun it" in panel.ui.resumeButton.toolTip


def test_a_training_outlives_the_module_and_is_there_when_it_is_opened_again(application, started, trainer):
    pid = facts(started)["pid"]
    application.close_module()
    started.cleanup()
    time.sleep(0.3)
    assert trainer[0].poll() is None
    other = type(started.logic)()
    (run,) = other.runs()
    assert (run.state, run.pid) == ("running", pid)
    other.stop(run.folder)
    application.wait_until(lambda: other.run(run.folder).state == "stopped", 20)
    other.close()


def test_cancel_asks_for_an_end_and_resume_goes_on(application, started):
    started.ui.stopButton.click()
    application.wait_until(lambda: started.ui.runStatus.text.startswith("Stopped"), 20)
    before = epochs(started)
    assert not started.ui.stopButton.enabled
    assert started.ui.resumeButton.enabled
    started.ui.resumeButton.click()
    application.wait_until(lambda: "Training." in started.ui.runStatus.text, 30)
    words = facts(started)["words"]
    assert words[1].endswith("recipe.yaml")
    assert words[words.index("--out") + 1].endswith("first")
    application.wait_until(lambda: epochs(started) > before, 20)


def test_a_process_that_does_not_end_is_killed_by_a_second_press(application, trainer, with_study):
    panel = with_study
    panel.ui.nameEdit.text = "stubborn"
    application.process_events()
    panel.ui.trainButton.click()
    application.wait_until(lambda: "Training." in panel.ui.runStatus.text, 30)
    panel.ui.stopButton.click()
    application.wait_until(lambda: panel.ui.stopButton.text == "Kill", 10)
    assert "Stopping after the present step" in panel.ui.runStatus.text
    panel.ui.stopButton.click()
    application.wait_until(lambda: "process is gone" in panel.ui.runStatus.text, 20)
    assert trainer[0].poll() == -signal.SIGKILL
    assert panel.ui.stopButton.text == "Cancel"
    assert panel.ui.resumeButton.enabled


def test_a_run_that_ends_before_it_begins_says_why(application, trainer, with_study, tools):
    panel = with_study
    panel.ui.nameEdit.text = "broken"
    application.process_events()
    panel.ui.trainButton.click()
    application.wait_until(lambda: "ended before it began" in panel.ui.runStatus.text, 30)
    assert "fold 3 has no hand film with a bone age" in panel.ui.runStatus.text
    assert not panel.ui.resumeButton.enabled
    assert not panel.ui.stopButton.enabled
    panel.ui.studySection.collapsed = True
    application.picture_of_panel(panel, tools.OUTPUT / "training-broken.png")


def test_a_name_that_is_taken_or_odd_cannot_be_started(application, started):
    for name, reason in (("first", "There is a run first already"), ("a/b", "may hold letters")):
        started.ui.nameEdit.text = name
        application.process_events()
        assert not started.ui.trainButton.enabled
        assert reason in started.ui.trainButton.toolTip


def test_a_folder_that_cannot_be_written_is_told(application, trainer, with_study, tmp_path):
    (tmp_path / "file").write_text("")
    with_study.ui.runsPath.currentPath = str(tmp_path / "file")
    application.process_events()
    with_study.ui.trainButton.click()
    assert "cannot be written" in with_study.ui.trainStatus.text
    assert "Choose another folder" in with_study.ui.trainStatus.text
