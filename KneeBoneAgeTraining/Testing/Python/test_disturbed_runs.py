"""Runs that are stopped, killed or shared out to processes, of hand teachers and of knee students alike."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
import hand_study
import knee_study

from KneeBoneAgeTrainingLib.commands import app
from KneeBoneAgeTrainingLib.hand.module import HandModule
from KneeBoneAgeTrainingLib.knee.module import StudentModule
from KneeBoneAgeTrainingLib.runs import watch

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT / "KneeBoneAge"), str(ROOT / "KneeBoneAgeTraining")]),
}


@dataclass(frozen=True)
class Kind:
    """Hands or knees: where the study lies, the words that train on it, and what is learnt."""

    place: Path
    line: Callable[..., list[str]]
    module: type

    def train(self, out: str, *more: str, recipe: str = "tiny"):
        return CliRunner().invoke(app, self.line(self.place, out, *more, recipe=recipe))

    def start(self, out: str, *more: str, recipe: str = "tiny") -> subprocess.Popen:
        words = self.line(self.place, out, *more, recipe=recipe)
        return subprocess.Popen(
            [sys.executable, "-m", "KneeBoneAgeTrainingLib.commands", *words],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def fold(self, out: str) -> Path:
        return self.place / out / "fold-0"

    def curve(self, out: str) -> list[dict[str, str]]:
        with (self.fold(out) / "metrics.csv").open(newline="") as stream:
            return list(csv.DictReader(stream))

    def state(self, out: str) -> str:
        return json.loads((self.place / out / "run.json").read_text())["state"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["hand", "knee"])
def kind(request, tmp_path_factory) -> Kind:
    place = tmp_path_factory.mktemp(request.param)
    if request.param == "hand":
        hand_study.make_study(place / "data")
        (place / "tiny.yaml").write_text(hand_study.TINY_RECIPE)
        (place / "plain.yaml").write_text(hand_study.PLAIN_RECIPE)
        return Kind(place, hand_study.train_line, HandModule)
    knee_study.make_study(place / "data", children=32)
    return Kind(place, knee_study.transfer_line, StudentModule)


@pytest.fixture(scope="module")
def whole(kind) -> str:
    """A run that was not disturbed."""
    done = kind.train("whole")
    assert done.exit_code == 0, done.output
    return "whole"


def assert_same(kind: Kind, one: str, other: str) -> None:
    first, second = (load_file(kind.fold(run) / "weights.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    curves = [[{**row, "seconds": ""} for row in kind.curve(run)] for run in (one, other)]
    assert curves[0] == curves[1]


def test_a_killed_run_goes_on_and_ends_with_the_same_weights_bit_for_bit(kind, whole):
    process = kind.start("killed")
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (kind.fold("killed") / "last.ckpt").exists() and kind.curve("killed"):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (kind.fold("killed") / "weights.json").exists(), "was finished before it was killed"
    listed = CliRunner().invoke(app, ["runs", str(kind.place / "killed")]).output
    assert listed.split()[1] == "interrupted"
    assert kind.train("killed").exit_code == 0
    assert_same(kind, whole, "killed")


def test_a_run_that_is_asked_to_stop_ends_after_its_step_and_goes_on_from_there(kind, whole, monkeypatch):
    learn, steps = kind.module.training_step, []

    def asked_in_the_middle_of_an_epoch(self, batch, index):
        steps.append(self.global_step)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return learn(self, batch, index)

    monkeypatch.setattr(kind.module, "training_step", asked_in_the_middle_of_an_epoch)
    stopped = kind.train("stopped")
    assert stopped.exit_code == 130
    assert "the same line goes on" in stopped.output
    assert kind.state("stopped") == "stopped"
    assert steps == [0, 1]
    assert kind.train("stopped", "--workers", "1").exit_code == 0
    assert len(steps) == int(kind.curve("stopped")[-1]["step"]), "no step is made twice"
    assert_same(kind, whole, "stopped")


def test_a_signal_that_reaches_lightning_alone_stops_the_run_and_does_not_fail_it(kind, whole, monkeypatch):
    begin = watch.Watch.on_train_start

    def asked_before_the_run_listens_again(self, trainer, module):
        os.kill(os.getpid(), signal.SIGTERM)
        begin(self, trainer, module)

    with monkeypatch.context() as patch:
        patch.setattr(watch.Watch, "on_train_start", asked_before_the_run_listens_again)
        assert kind.train("early").exit_code == 130
    assert kind.state("early") == "stopped"
    assert json.loads((kind.place / "early" / "run.json").read_text())["error"] is None
    assert kind.train("early").exit_code == 0
    assert_same(kind, whole, "early")


def test_a_signal_to_the_whole_group_of_processes_stops_the_run_too(kind, whole):
    process = kind.start("group", "--workers", "1")
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (kind.fold("group") / "metrics.csv").exists() and kind.curve("group"):
            break
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGTERM)
    output = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert kind.state("group") == "stopped"
    assert kind.train("group").exit_code == 0
    assert_same(kind, whole, "group")


def test_seconds_of_an_epoch_count_on_over_stages_and_sittings(kind, whole, monkeypatch):
    spent = [float(row["seconds"]) for row in kind.curve(whole)]
    assert spent == sorted(spent)
    monkeypatch.setattr(watch.Watch, "seconds", property(lambda self: self._spent + 100.0))
    assert kind.train("counted").exit_code == 0
    seconds = [float(row["seconds"]) for row in kind.curve("counted")]
    assert max(seconds) == 100.0 * len({row["stage"] for row in kind.curve("counted")})


def test_two_processes_learn_what_one_does(kind):
    process = kind.start("two", "--devices", "2", recipe="plain")
    assert kind.train("one", recipe="plain").exit_code == 0
    output = process.communicate(timeout=200)
    assert process.returncode == 0, output
    one, two = kind.curve("one"), kind.curve("two")
    assert len(one) == len(two)
    for name in ("train_loss", "val_mae_months"):
        expected = [float(row[name]) for row in one]
        assert [float(row[name]) for row in two] == pytest.approx(expected, rel=1e-3)
    runs = [kind.place / run for run in ("one", "two")]
    metrics = [json.loads((run / "metrics.json").read_text())["out_of_fold"] for run in runs]
    assert metrics[1]["n"] == metrics[0]["n"]
    assert metrics[1]["model"]["mae"] == pytest.approx(metrics[0]["model"]["mae"], rel=1e-3)
    assert json.loads((runs[1] / "run.json").read_text())["machine"]["devices"] == 2
