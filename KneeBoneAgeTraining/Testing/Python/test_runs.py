"""Runs as folders: begun, gone on with, refused, listed; and how agreement is measured."""

import json
import os
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from KneeBoneAgeTrainingLib.agreement import agreement, fit_age_baseline
from KneeBoneAgeTrainingLib.commands import app
from KneeBoneAgeTrainingLib.runs import lock
from KneeBoneAgeTrainingLib.runs.folder import again
from KneeBoneAgeTrainingLib.runs.lock import locked
from KneeBoneAgeTrainingLib.runs.loop import Stopped, StopRequest
from KneeBoneAgeTrainingLib.runs.machine import Machine
from KneeBoneAgeTrainingLib.runs.process import command_line
from KneeBoneAgeTrainingLib.runs.record import (
    RUNNING,
    RunError,
    begin,
    find_runs,
    open_run,
    this_process,
    write_table,
)

SAME = {"recipe": "tiny", "data_sha256": ["abc"]}


def begun(folder, state=RUNNING, pid=None, recipe="name: tiny\n", same=SAME, process=None):
    facts = {"state": state, "pid": pid, "host": socket.gethostname(), "process": process}
    return begin(folder, recipe, same, facts)


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_goes_on_only_with_the_same_recipe_and_data(tmp_path):
    folder = tmp_path / "run"
    begun(folder, pid=ended_process())
    assert begun(folder, pid=ended_process()).facts["recipe"] == "tiny"
    with pytest.raises(RunError, match="another recipe.*choose another --out"):
        begun(folder, recipe="name: other\n")
    with pytest.raises(RunError, match="data_sha256"):
        begun(folder, same={**SAME, "data_sha256": ["def"]})


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="other things"):
        begun(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_run_that_is_being_trained_is_not_trained_twice(tmp_path):
    parent = os.getppid()
    begun(tmp_path / "run", pid=parent, process=command_line(parent))
    with pytest.raises(RunError, match=f"being trained by process {parent}"):
        begun(tmp_path / "run")


def test_a_run_whose_process_is_gone_is_called_interrupted(tmp_path):
    assert begun(tmp_path / "gone", pid=ended_process()).state == "interrupted"
    assert begun(tmp_path / "alive").with_facts(**this_process()).state == "running"
    other = begun(tmp_path / "other", pid=os.getppid(), process="kneeboneage train tiny")
    assert other.state == "interrupted", "its number belongs to another program now"
    assert begun(tmp_path / "stopped", state="stopped").state == "stopped"


def test_a_knee_run_goes_on_with_its_own_line_wherever_it_was_moved(tmp_path):
    line = ["knee-transfer", "--out", "/old/run", "--recipe", "/old/run/recipe.yaml", "--label", "readers"]
    facts = {"state": "stopped", "command": [*line, "--study", "/study"]}
    run = begin(tmp_path / "run", "name: tiny\n", {"kind": "knee"}, facts)
    own = ["--out", str(run.folder), "--recipe", str(run.folder / "recipe.yaml")]
    assert again(run) == ("knee-transfer", *own, "--label", "readers", "--study", "/study")
    assert again(begin(tmp_path / "older", "name: tiny\n", {"kind": "knee"}, {"state": "stopped"})) is None


def like_windows() -> SimpleNamespace:
    """Locks of Windows: of the byte at the place of the file where the stream stands, told apart by file and place."""
    held = set()

    def locking(number: int, mode: int, count: int) -> None:
        assert count == 1
        byte = (os.fstat(number).st_ino, os.lseek(number, 0, os.SEEK_CUR))
        if mode == 2 and byte in held:
            raise PermissionError(13, "Permission denied")
        (held.add if mode == 2 else held.remove)(byte)

    return SimpleNamespace(LK_UNLCK=0, LK_NBLCK=2, locking=locking)


@pytest.mark.parametrize("windows", [False, True])
def test_who_waits_for_a_folder_says_so_can_be_stopped_and_gets_it_when_it_is_free(
    tmp_path, monkeypatch, windows
):
    if windows:
        monkeypatch.setattr(lock, "fcntl", None)
        monkeypatch.setattr(lock, "msvcrt", like_windows())
    monkeypatch.setattr(lock, "AGAIN_S", 0.01)
    stop, told, done = StopRequest(), [], []

    def wait_for_it() -> None:
        with locked(tmp_path, waiting=lambda: told.append("waits")):
            done.append(True)

    with locked(tmp_path, waiting=lambda: told.append("nobody holds it")):
        other = threading.Thread(target=wait_for_it)
        other.start()
        with pytest.raises(Stopped), locked(tmp_path, check=stop.check, waiting=stop.ask):
            pytest.fail("two hold it")
        other.join(0.1)
        assert not done
    other.join(10)
    assert (told, done) == (["waits"], [True])


def test_a_disk_that_knows_no_locks_is_named_with_a_way_out(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock, "fcntl", SimpleNamespace(LOCK_EX=2, LOCK_NB=4, flock=refused))
    with pytest.raises(RunError, match="Function not implemented.*--cache"), locked(tmp_path):
        pytest.fail("not locked")


def test_runs_are_listed_with_their_error_beside_that_of_age_alone(tmp_path):
    begun(tmp_path / "first", state="finished")
    result = {"n": 40, "model": {"mae": 5.02}, "age_alone": {"mae": 9.75}}
    (tmp_path / "first" / "metrics.json").write_text(
        json.dumps({"folds": [0, 1], "data": "phantom", "out_of_fold": result})
    )
    begun(tmp_path / "second", pid=ended_process())
    (tmp_path / "second" / "progress.json").write_text(
        json.dumps({"fold": 1, "folds": 5, "epoch": 2, "epochs": 30, "val_mae_months": 7.5})
    )
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    assert [run.name for run in find_runs(tmp_path)] == ["first", "second"]
    done = CliRunner().invoke(app, ["runs", str(tmp_path)])
    assert done.exit_code == 0
    first, second = done.output.splitlines()
    assert "2 folds, MAE 5.02 months (age alone 9.75, n = 40)  phantom" in first
    assert "interrupted" in second
    assert "fold 2 of 5, epoch 3 of 30, MAE 7.50 months" in second
    assert CliRunner().invoke(app, ["runs", str(tmp_path / "nowhere")]).exit_code == 2


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_named_and_not_there_is_an_error_with_a_way_out(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RunError, match=f"device '{device}' is not available.*--device auto or --device cpu"):
        Machine(device).check()
    assert [Machine(one).torch_device.type for one in ("auto", "cpu")] == ["cpu", "cpu"]


def test_where_there_is_no_run_the_way_out_is_named(tmp_path):
    with pytest.raises(RunError, match="no run here"):
        open_run(tmp_path)


def test_a_table_is_written_whole_or_not_at_all(tmp_path):
    write_table(tmp_path / "a.csv", ["x"], [[1]])

    def broken():
        yield [2]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_table(tmp_path / "a.csv", ["x"], broken())
    assert (tmp_path / "a.csv").read_text() == "x\n1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_agreement_is_measured_as_the_field_does():
    label = np.array([100.0, 100, 100, 100, 100])
    found = agreement(label + [0, -4, 8, 14, -30], label)
    assert found is not None
    assert (found.n, found.mae, found.median) == (5, pytest.approx(11.2), 8)
    assert found.rmse == pytest.approx(np.sqrt((16 + 64 + 196 + 900) / 5))
    assert found.within == pytest.approx((0.4, 0.6, 0.8, 0.8))
    assert found.bias == pytest.approx(-2.4)
    sd = np.std([0, -4, 8, 14, -30], ddof=1)
    assert (found.lower, found.upper) == pytest.approx((-2.4 - 1.96 * sd, -2.4 + 1.96 * sd))
    assert agreement([], []) is None


def test_the_baseline_knows_age_and_sex_and_what_to_say_without_them():
    rng = np.random.default_rng(0)
    age, sex = rng.uniform(24, 200, 600), rng.integers(0, 2, 600)
    label = age - 10 * (sex == 1) + rng.normal(0, 5, 600)
    baseline = fit_age_baseline(age, sex, label)
    said = baseline.predict([100, 100, 100, np.nan, 900], [0, 1, 2, 2, 0])
    assert said[:3] == pytest.approx([100, 90, 95], abs=1.5)
    assert said[3] == pytest.approx(label.mean())
    assert said[4] == label.max()


def test_the_baseline_of_few_or_ageless_children_is_their_mean():
    baseline = fit_age_baseline([np.nan] * 4, [0, 0, 1, 1], [100, 120, 90, 70])
    assert baseline.predict([np.nan, 50], [0, 1]) == pytest.approx([95, 95])
    with pytest.raises(ValueError, match="children with a label"):
        fit_age_baseline([], [], [])
