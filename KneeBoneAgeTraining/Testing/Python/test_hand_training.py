"""Training of hand models on drawn hands: what is prepared, learnt, kept and labelled."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from hand_study import PLAIN_RECIPE, TINY_RECIPE, make_study, train_line

from KneeBoneAgeTrainingLib.cohort.study import open_study
from KneeBoneAgeTrainingLib.commands import app
from KneeBoneAgeTrainingLib.hand.films import Numbers, hand_films
from KneeBoneAgeTrainingLib.hand.job import rows_of_fold
from KneeBoneAgeTrainingLib.hand.pictures import PictureCache
from KneeBoneAgeTrainingLib.hand.predicting import predict
from KneeBoneAgeTrainingLib.hand.weights import load_fold
from KneeBoneAgeTrainingLib.recipes import load_recipe
from KneeBoneAgeTrainingLib.recipes.schema import EarlyStopping
from KneeBoneAgeTrainingLib.runs.record import RunError


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a study, and the recipe beside it."""
    folder = tmp_path_factory.mktemp("hands")
    make_study(folder / "data")
    (folder / "tiny.yaml").write_text(TINY_RECIPE)
    return folder


def train(place: Path, out: str, *more: str, recipe: str = "tiny"):
    return CliRunner().invoke(app, train_line(place, out, *more, recipe=recipe))


@pytest.fixture(scope="module")
def whole(place) -> Path:
    """A run that was not disturbed."""
    done = train(place, "whole")
    assert done.exit_code == 0, done.output
    return place / "whole"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_run_holds_what_it_was_made_of_and_what_came_of_it(whole, place):
    facts = json.loads((whole / "run.json").read_text())
    assert facts["state"] == "finished"
    assert facts["recipe"] == "tiny"
    study = json.loads((place / "data" / "study" / "study.json").read_text())
    assert facts["study"]["data_sha256"] == study["data_sha256"]
    found = rows(whole / "folds.csv")
    assert {row["split"] for row in found} == {"train", "test"}
    assert len(found) == study["films"]
    metrics = json.loads((whole / "metrics.json").read_text())
    held_out = [row for row in found if row["fold"] == "0"]
    assert metrics["out_of_fold"]["n"] == len(held_out) == len(rows(whole / "fold-0" / "predictions.csv"))
    assert metrics["out_of_fold"]["age_alone"]["mae"] > 0
    assert metrics["test"]["n"] == sum(row["split"] == "test" for row in found)
    curve = rows(whole / "fold-0" / "metrics.csv")
    assert [row["epoch"] for row in curve] == ["1", "2", "3", "4"]
    assert [row["stage"] for row in curve] == ["with-sex"] * 2 + ["with-age"] * 2
    assert all(
        (whole / "figures" / name).stat().st_size > 5000 for name in ("curves.png", "bland-altman.png")
    )
    assert list((whole / "fold-0" / "tensorboard").glob("events*"))
    assert "fold 0, stage with-age" in (whole / "train.log").read_text()
    assert not (whole / "fold-0" / "last.ckpt").exists()


def test_a_finished_run_is_not_trained_again(place, whole):
    before = (whole / "fold-0" / "weights.safetensors").stat().st_mtime_ns
    assert train(place, "whole").exit_code == 0
    assert (whole / "fold-0" / "weights.safetensors").stat().st_mtime_ns == before


def test_a_study_whose_split_leaks_is_not_trained_on(place, tmp_path):
    shutil.copytree(place / "data" / "study", tmp_path / "study")
    table = (tmp_path / "study" / "folds.csv").read_text().splitlines()
    twice = next(i for i, line in enumerate(table) if line.startswith("C001"))
    table[twice] = ",".join(
        [*table[twice].split(",")[:2], *(("train", "0") if "test" in table[twice] else ("test", ""))]
    )
    (tmp_path / "study" / "folds.csv").write_text("\n".join(table) + "\n")
    done = CliRunner().invoke(
        app,
        [
            "train",
            str(place / "tiny.yaml"),
            "--study",
            str(tmp_path / "study"),
            "--out",
            str(tmp_path / "run"),
        ],
    )
    assert done.exit_code == 2
    assert "the split leaks" in done.output
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there_is_refused_before_anything_is_done(place, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    done = train(place, "nowhere", "--device", "mps")
    assert done.exit_code == 2
    assert "device 'mps' is not available" in " ".join(done.output.split())
    assert not (place / "nowhere").exists()


def test_a_line_for_a_program_is_json_and_ends_with_finished(place):
    done = train(place, "lines", "--epochs", "1", "--limit", "12", "--json-progress")
    told = [json.loads(text) for text in done.stdout.splitlines()]
    assert {one["event"] for one in told} == {"progress", "epoch"}
    assert [one["epoch"] for one in told if one["event"] == "epoch"] == [1, 2]
    assert told[-1]["doing"] == "finished"
    assert json.loads((place / "lines" / "metrics.json").read_text())["test"] is None, (
        "a trial spares the test set"
    )


def test_each_stage_may_have_a_study_of_its_own(place, tmp_path):
    other = make_study(tmp_path / "data", children=30, seed=1)
    done = train(place, "both", "--study", str(other), "--epochs", "1")
    assert done.exit_code == 0, done.output
    studies = json.loads((place / "both" / "run.json").read_text())["studies"]
    assert len({study["data_sha256"] for study in studies}) == 2
    folds = {row["file"] for row in rows(place / "both" / "folds.csv")}
    assert folds == {row["file"] for row in rows(other / "folds.csv")}
    thrice = train(place, "thrice", "--study", str(other), "--study", str(other))
    assert thrice.exit_code == 2
    assert "one for all stages of tiny, or one for each of its 2" in thrice.output


def test_a_stage_that_gets_no_better_ends_early_with_its_best_weights(place):
    text = TINY_RECIPE.replace("learning_rate: 3.0e-3", "learning_rate: 1.0e-12").replace(
        "epochs: 2", "epochs: 9"
    )
    (place / "early.yaml").write_text(
        text + "early_stopping: {patience_epochs: 1, validation_share: 0.2}\nema_decay: 0\n"
    )
    done = train(place, "early", "--limit", "24", recipe="early")
    assert done.exit_code == 0, done.output
    curve = [row for row in rows(place / "early" / "fold-0" / "metrics.csv") if row["stage"] == "with-sex"]
    errors = [float(row["val_mae_months"]) for row in curve]
    assert len(curve) < 9
    assert min(errors) == errors[-2]


def test_children_who_decide_when_to_stop_are_neither_learnt_from_nor_held_out(place):
    study = open_study(place / "data" / "study")
    films = hand_films(study)
    recipe = load_recipe(place / "tiny.yaml")
    plain = rows_of_fold(films, 1, recipe)
    assert {films[row].fold for row in plain.held_out} == {1}
    assert {films[row].fold for row in plain.learnt} == {0, 2}
    early = recipe.model_copy(
        update={"early_stopping": EarlyStopping(patience_epochs=2, validation_share=0.25)}
    )
    found = rows_of_fold(films, 1, early)
    assert sorted([*found.learnt, *found.watched]) == sorted(plain.learnt)
    children = [
        {films[row].patient_id for row in part} for part in (found.learnt, found.watched, found.held_out)
    ]
    assert children[1]
    assert sum(map(len, children)) == len(set.union(*children)), "no child is in two of them"


def test_a_child_is_labelled_only_by_folds_that_never_saw_it(place, whole, tmp_path):
    def label(*words: object) -> tuple[int, str, list[dict[str, str]]]:
        given = [
            "pseudo-label",
            whole,
            "--out",
            tmp_path / "labels.csv",
            "--cache",
            place / "hand-pictures",
            *words,
        ]
        done = CliRunner().invoke(app, [*map(str, given), "--device", "cpu", "--workers", "0"])
        return done.exit_code, done.output, rows(tmp_path / "labels.csv")

    code, output, labels = label("--study", place / "data" / "study")
    split = rows(whole / "folds.csv")
    seen = [row["file"] for row in split if row["fold"] in ("1", "2")]
    assert code == 1, "the other folds are not trained"
    assert all(f"{file}: every trained fold learnt from this child" in output for file in seen)
    assert {row["file"] for row in labels} == {row["file"] for row in split} - set(seen)
    predictions = {row["file"]: row for row in rows(whole / "fold-0" / "predictions.csv")}
    held_out = [row for row in labels if row["file"] in predictions]
    assert held_out
    for row in held_out:
        estimate = float(predictions[row["file"]]["estimate_months"])
        assert float(row["pseudo_label_months"]) == pytest.approx(estimate, abs=2e-3)
        assert (row["folds"], row["model"]) == ("0", "tiny")
    rmse = json.loads((whole / "metrics.json").read_text())["out_of_fold"]["model"]["rmse"]
    assert [float(row["spread_months"]) for row in labels] == pytest.approx([rmse] * len(labels), abs=1e-3)
    assert len({row["run_sha256"] for row in labels}) == 1
    again = label("--films", place / "data" / "hands.csv")
    assert {row["file"] for row in again[2]} == {f"films/{Path(row['file']).name}" for row in labels}


def test_folds_of_an_age_network_settle_how_far_each_may_be_believed_and_say_so_in_their_estimates(place):
    (place / "three.yaml").write_text(PLAIN_RECIPE.replace("folds: [0]", "folds: [0, 1, 2]"))
    done = train(place, "three", "--epochs", "1", recipe="three")
    assert done.exit_code == 0, done.output
    films = {film.file: film for film in hand_films(open_study(place / "data" / "study"))}
    for fold in range(3):
        folder = place / "three" / f"fold-{fold}"
        facts = json.loads((folder / "weights.json").read_text())
        assert facts["power_from_folds"] == [other for other in range(3) if other != fold]
        assert 0.05 <= facts["power"] <= 1
        said = rows(folder / "predictions.csv")
        own = [films[row["file"]] for row in said]
        recipe = load_recipe(place / "three.yaml")
        paths = PictureCache(place / "hand-pictures", recipe.image_size).prepare(own, workers=0)
        found = predict(load_fold(folder).teacher, paths, Numbers.of(own), mirrored=False)
        assert [float(row["estimate_months"]) for row in said] == pytest.approx(list(found.months), abs=2e-3)
        learnt = predict(load_fold(folder, power=1.0).teacher, paths, Numbers.of(own), mirrored=False)
        assert facts["power"] == 1 or abs(found.sd_months - learnt.sd_months).max() > 0.1
    before = (place / "three" / "fold-0" / "weights.json").read_bytes()
    assert train(place, "three", "--epochs", "1", recipe="three").exit_code == 0
    assert (place / "three" / "fold-0" / "weights.json").read_bytes() == before


def test_weights_that_were_changed_are_not_used(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / "fold-0" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(RunError, match="SHA-256 differs"):
        load_fold(path.parent)


@pytest.mark.parametrize("size", [-1, 1.5])
def test_weights_whose_architecture_cannot_be_built_are_told_by_their_folder(whole, tmp_path, size):
    folder = Path(shutil.copytree(whole, tmp_path / "run")) / "fold-0"
    facts = json.loads((folder / "weights.json").read_text())
    facts["architecture"] = {"kind": "age-network", "options": {"head_hidden": size}}
    (folder / "weights.json").write_text(json.dumps(facts))
    with pytest.raises(
        RunError, match=r"fold-0: holds no trained network.*head_hidden must be a whole number"
    ):
        load_fold(folder)
