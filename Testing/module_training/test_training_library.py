"""What the panel asks of child processes and of run folders, without the panel."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from KneeBoneAgeTrainingLib.runs import folder as run_folder
from KneeBoneAgeTrainingLib.runs import process as run_process
from KneeBoneAgeTrainingLib.runs.process import KneeTraining, Training
from KneeBoneAgeTrainingLib.runs.progress import Progress


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of hand films that hold nothing, built by the command line."""
    from typer.testing import CliRunner

    from KneeBoneAgeTrainingLib.commands import app

    folder = tmp_path_factory.mktemp("tables")
    rows = []
    for number in range(30):
        grey = np.random.default_rng(number).integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(grey).save(folder / f"{number}.png")
        sex = "FM"[number % 2]
        rows.append([f"{number}.png", f"C{number}", sex, 24 + 6 * number, 25 + 6 * number])
    rows.append(["none.png", "C77", "F", 100, 100])
    with (folder / "hands.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "patient_id", "sex", "age_months", "bone_age_months"])
        writer.writerows(rows)
    words = ["cohort", "build", str(folder / "s"), "--kind", "hand", "--hands", str(folder / "hands.csv")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1, done.output  # a row could not be used
    return folder / "s"


def ask(*requests):
    """Answers of the child process, by the number of the request."""
    lines = "\n".join(json.dumps({"id": n, **request}) for n, request in enumerate(requests))
    done = subprocess.run(
        [sys.executable, "-m", "KneeBoneAgeTrainingLib.panel_answers"],
        input=lines + "\n",
        capture_output=True,
        text=True,
        check=True,
        env=run_process.environment(),
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return {a["id"]: a.get("done") or a["error"] for a in answers if "got" not in a}


def test_a_study_and_the_shipped_recipes_are_described_by_the_child_process(study, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nstages: []\nepoch: 3\n")
    answers = ask(
        {"do": "study", "folder": str(study)},
        {"do": "study", "folder": str(tmp_path)},
        {"do": "recipes"},
        {"do": "recipe", "file": str(own)},
        {"do": "recipe", "file": str(tmp_path / "absent.yaml")},
    )
    assert (answers[0]["kind"], answers[0]["patients"], answers[0]["folds"]) == ("hand", 30, 5)
    assert answers[0]["films"] == 30
    assert answers[0]["problem_count"] == 1
    assert answers[0]["problems"][0]["file"].endswith("none.png")
    assert Path(answers[0]["flow"]).is_file()
    assert answers[1]["kind"] == "study"
    assert "there is no study here" in answers[1]["message"]
    names = [recipe["name"] for recipe in answers[2]["recipes"]]
    assert {"demo-hand", "knee-transfer"} <= {*names}
    assert all(recipe["description"] and recipe["stages"] for recipe in answers[2]["recipes"])
    assert "'epoch'" in answers[3]["message"]
    assert "there is no such file" in answers[4]["message"]


def test_a_leaking_split_is_told_by_the_child_process(study, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    folds = (copy / "folds.csv").read_text().splitlines()
    films = (copy / "films.csv").read_text().splitlines()
    (copy / "folds.csv").write_text("\n".join([*folds, folds[1].replace("train,", "train,9")]) + "\n")
    (copy / "films.csv").write_text("\n".join([*films, films[1]]) + "\n")
    assert ask({"do": "study", "folder": str(copy)})[0]["kind"] == "study"


def test_a_process_is_started_apart_and_prints_into_its_console(tmp_path):
    folder = tmp_path / "runs" / "one"
    words = ["train", "no-such-recipe", "--study", str(tmp_path)]
    process = run_process.start(words, folder)
    assert process.wait(120) == 2
    assert "no-such-recipe" in run_folder.log_tail(run_process.console_of(folder))
    assert run_process.line_of(folder) == tuple(words)
    assert run_process.line_of(tmp_path / "other") is None
    assert not folder.exists()


def test_words_of_a_training():
    training = Training("bonet", (Path("a"), Path("b")), Path("runs/x"), (0, 3), 2, "cpu", 40)
    assert " ".join(training.arguments()) == (
        "train bonet --study a --study b --out runs/x --fold 0 --fold 3 --epochs 2 --limit 40 --device cpu"
    )


def test_words_of_a_knee_training():
    training = KneeTraining("knee-transfer", Path("s"), Path("runs/k"), Path("runs/t"), "both", Path("l.csv"))
    assert " ".join(training.arguments()) == (
        "knee-transfer --recipe knee-transfer --study s --out runs/k --teacher runs/t --label both --labels l.csv "
        "--device auto"
    )
    assert "--from-scratch" in KneeTraining("knee-transfer", Path("s"), Path("k")).arguments()


@pytest.mark.parametrize("name", ["train", "knee-transfer"])
def test_the_command_line_knows_every_option_that_the_panel_gives(name):
    from typer.testing import CliRunner

    from KneeBoneAgeTrainingLib import commands, transfer_command

    apps = {"train": commands.app, "knee-transfer": transfer_command.app}
    trainings = {
        "train": Training("r", (Path("a"),), Path("x"), (0,), 2, "cpu", 40),
        "knee-transfer": KneeTraining(
            *("r", Path("s"), Path("k"), Path("t"), "both", Path("l.csv"), (0,), 2, "cpu")
        ),
    }
    said = CliRunner().invoke(apps[name], [name, "--help"], env={"COLUMNS": "200"}).output
    for word in trainings[name].arguments():
        assert not word.startswith("--") or word in said, word


def test_another_program_with_the_number_of_a_run_is_no_training():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert not run_process.is_training(process.pid)
    finally:
        process.kill()
        process.wait()
    assert not run_process.is_training(process.pid)
    assert not run_process.is_training(0)


def test_epochs_of_a_later_stage_go_on_counting(tmp_path):
    folder = tmp_path / "fold-1"
    folder.mkdir()
    rows = ["epoch,train_loss,val_mae_months", "0,3,20", "1,2,15", "0,2,14", "1,1.5,", "2,,"]
    (folder / "metrics.csv").write_text("\n".join(rows))
    epochs = run_folder.read_epochs(tmp_path)[1]
    assert [one.epoch for one in epochs] == [0, 1, 2, 3]
    assert [one.train_loss for one in epochs] == [3, 2, 2, 1.5]
    assert np.isnan(epochs[3].val_mae_months)


def test_the_share_that_is_done_stays_between_none_and_all():
    assert run_folder.fraction(Progress()) == 0
    assert run_folder.fraction(Progress(fold=1, folds=2, epoch=1, epochs=2, step=5, steps=10)) == 0.875
    assert run_folder.fraction(Progress(fold=4, folds=5, epoch=30, epochs=30, step=9, steps=1)) == 1


def test_the_end_of_a_long_log_begins_with_a_whole_line(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("".join(f"line {n} {'x' * 80}\n" for n in range(5000)))
    lines = run_folder.log_tail(path).splitlines()
    assert len(lines) == 200
    assert lines[-1].startswith("line 4999 ")
    assert all(line.startswith("line ") for line in lines)


def test_reading_many_runs_costs_little(tmp_path):
    for number in range(40):
        folder = tmp_path / f"run-{number}"
        folder.mkdir()
        (folder / "run.json").write_text(
            json.dumps({"format": 1, "state": "finished", "started": str(number)})
        )
    started = time.process_time()
    runs = run_folder.latest_runs(tmp_path)
    assert time.process_time() - started < 0.1
    assert [run.name for run in runs[:2]] == ["run-9", "run-8"]


IMPORTING = """
import json, sys
sys.path[:0] = {paths!r}
from shell.application import running
with running():
    before = set(sys.modules)
    import KneeBoneAgeTraining
    print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_importing_the_module_loads_nothing_heavy(application):
    if application.real:
        pytest.skip("the application has imported it already")
    root = Path(__file__).parents[2]
    paths = [str(root / name) for name in ("Testing", "KneeBoneAge", "KneeBoneAgeTraining")]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING.format(paths=paths)],
        capture_output=True,
        text=True,
        check=True,
        env={**run_process.environment(), "QT_QPA_PLATFORM": "offscreen"},
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    heavy = {
        "torch",
        "lightning",
        "timm",
        "pydantic",
        "yaml",
        "matplotlib",
        "PIL",
        "scipy",
        "skimage",
        "pydicom",
    }
    assert not loaded & heavy
