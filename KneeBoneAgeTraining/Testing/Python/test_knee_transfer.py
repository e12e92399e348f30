"""The knee student: started from a teacher, trained in the study's folds, exported."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from knee_study import FOLLOWING, TINY, job_of, run_job, teacher_run, write_labels
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from KneeBoneAgeLib.bundle import PHANTOM_FIRST_LINE, load_bundle
from KneeBoneAgeLib.crop import KneeCrop
from KneeBoneAgeLib.estimator import Estimator
from KneeBoneAgeLib.finder_network import DEFAULT_CONFIG, FinderNetwork
from KneeBoneAgeLib.radiograph import read_film
from KneeBoneAgeTrainingLib.export import export_run
from KneeBoneAgeTrainingLib.knee import results as knee_results
from KneeBoneAgeTrainingLib.knee.recipe import (
    load_knee_recipe,
)
from KneeBoneAgeTrainingLib.knee.start import TEACHER, Start
from KneeBoneAgeTrainingLib.knee.weights import load_networks
from KneeBoneAgeTrainingLib.runs.record import FILMS_CSV, RunError, read_rows
from KneeBoneAgeTrainingLib.transfer_command import app


@pytest.fixture(scope="module")
def finished(study, place):
    """A run from a teacher on both kinds of labels, with a gate."""
    patch = pytest.MonkeyPatch()
    patch.setattr(knee_results, "LEAST_GATED", 4)
    labels = write_labels(place, study)
    start = Start(TEACHER, teacher_run(place / "teacher", study))
    job = replace(job_of(study, place / "run", start=start, label="both", labels=labels), recipe=FOLLOWING)
    yield run_job(job)
    patch.undo()


def test_a_run_has_folds_of_the_study_metrics_beside_age_alone_and_a_test_set(study, finished):
    assert (finished.state, finished.facts["kind"], finished.facts["data"]) == ("finished", "knee", "")
    fold_of = {film.patient_id: place.fold for film, place in zip(study.films, study.places, strict=True)}
    judged = 0
    for fold in range(2):
        rows = read_rows(finished.folder / f"fold-{fold}" / "predictions.csv")
        assert {fold_of[row["patient_id"]] for row in rows} == {fold}
        judged += len(rows)
        assert len(read_rows(finished.folder / f"fold-{fold}" / "metrics.csv")) == TINY.epochs
    test = read_rows(finished.folder / "test-predictions.csv")
    assert {fold_of[row["patient_id"]] for row in test} == {None}
    metrics = finished.metrics
    assert (metrics["out_of_fold"]["n"], metrics["test"]["n"]) == (judged, len(test))
    assert metrics["out_of_fold"]["age_alone"]["mae"] > 0
    assert "reader's bone age" in metrics["label"]
    assert finished.progress["doing"] == "finished"
    assert (finished.folder / "figures" / "bland-altman.png").exists()


def test_each_folds_estimates_are_as_sure_as_the_other_folds_children_have_shown(finished):
    networks = load_networks(finished.folder, [0, 1])
    for fold, network in enumerate(networks):
        folder = finished.folder / f"fold-{fold}"
        facts = json.loads((folder / "weights.json").read_text())
        assert facts["power_from_folds"] == [1 - fold]
        assert 0.05 <= facts["power"] <= 1
        _, learnt = knee_results.held_out(folder, power=1.0)
        _, settled = knee_results.held_out(folder)
        assert np.allclose(settled, facts["power"] * learnt)
        kept = load_file(folder / "weights.safetensors")
        change = network.head.linear.weight.detach().view(2, -1, network.feature_count)[:, 2:]
        own = kept["head.linear.weight"].view(2, -1, network.feature_count)[:, 2:]
        assert torch.allclose(change, facts["power"] * own)


def test_a_run_says_with_which_line_it_goes_on(study, finished, place):
    words = finished.facts["command"]
    assert words[0] == "knee-transfer"
    given = dict(zip(words[1::2], words[2::2], strict=True))
    assert given["--study"] == str(study.folder.resolve())
    assert given["--teacher"] == str((place / "teacher").resolve())
    assert load_knee_recipe(given["--recipe"]).negatives.count == 10
    scratch = job_of(study, place / "other", folds=(1,)).command
    assert "--from-scratch" in scratch
    assert scratch[-2:] == ["--fold", "1"]


def test_a_student_starts_from_the_fold_of_the_teacher_that_does_not_know_its_children(
    study, finished, place
):
    for fold in range(2):
        start = json.loads((finished.folder / f"fold-{fold}" / "weights.json").read_text())["start"]
        assert start["from"] == f"fold {fold} of teacher"
        assert start["taken"] > 40
        assert start["left_out"]  # the readers: they know places in a hand
        assert not [name for name in start["left_out"] if name.startswith("backbone.")]
    weights = Start(TEACHER, place / "teacher").given(1, ["C000"]).weights
    kept = load_file(place / "teacher" / "fold-1" / "weights.safetensors")
    fold_of_first = {row["patient_id"]: row["fold"] for row in read_rows(place / "teacher" / FILMS_CSV)}.get(
        "C000"
    )
    if fold_of_first in (None, "1"):
        assert all(torch.equal(weights[name], kept[name]) for name in kept)


def test_a_teacher_that_knows_the_held_out_children_is_refused(study, tmp_path):
    one_fold = teacher_run(tmp_path / "teacher", study, folds=(0,))
    known = [f.patient_id for f, p in zip(study.films, study.places, strict=True) if p.fold == 1]
    with pytest.raises(RunError, match="held out by fold 1"):
        Start(TEACHER, one_fold).given(1, known)
    Start(TEACHER, one_fold).given(1, ["somebody else"])


def test_the_same_line_again_does_nothing_and_another_label_is_refused(study, finished, place):
    before = (finished.folder / "fold-0" / "weights.safetensors").stat().st_mtime_ns
    start = Start(TEACHER, place / "teacher")
    job = replace(
        job_of(study, place / "run", start=start, label="both", labels=place / "labels.csv"), recipe=FOLLOWING
    )
    run_job(job)
    assert (finished.folder / "fold-0" / "weights.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RunError, match="label"):
        run_job(replace(job, label="pseudo"))


def with_finder(folder):
    """A finder's files, with first weights."""
    torch.manual_seed(0)
    save_file(FinderNetwork(DEFAULT_CONFIG).state_dict(), folder / "finder.safetensors")
    (folder / "finder.json").write_text(json.dumps(DEFAULT_CONFIG))


def test_the_exported_bundle_opens_and_its_card_says_what_happened(study, finished, tmp_path):
    with_finder(finished.folder)
    done = CliRunner().invoke(
        app, ["export", str(finished.folder), str(tmp_path / "bundle"), "--licence", "CC0"]
    )
    assert done.exit_code == 0, done.output
    assert done.output.startswith("This bundle was trained on films of the study study")
    for said in (
        "readers' bone ages, where there were none pseudo-labels",
        "hand teacher teacher",
        "gate refuses",
        "CC0",
    ):
        assert said in done.output
    assert "MAE of chronological age alone" in done.output
    bundle = load_bundle(tmp_path / "bundle")
    data = bundle.manifest.training_data
    training = {f.patient_id for f, p in zip(study.films, study.places, strict=True) if p.fold is not None}
    assert data.real_children == data.children == len(training)
    estimator = Estimator.load(tmp_path / "bundle", device="cpu")
    file = study.films[0].file
    found = estimator.estimate(read_film(study.path(file)), [KneeCrop((40, 40), 60.0)])
    assert len(found.knees[0].fold_months) == 2
    assert estimator.gate is not None


def test_a_bundle_of_a_phantom_study_says_that_it_has_never_seen_a_child(finished, tmp_path):
    with_finder(finished.folder)
    run = replace(finished, facts={**finished.facts, "data": "phantom"})
    manifest = export_run(run, tmp_path / "bundle").manifest
    assert manifest.card_first_line == PHANTOM_FIRST_LINE
    assert manifest.training_data.real_children == 0


def test_an_unfinished_run_makes_no_bundle(finished, tmp_path):
    with pytest.raises(RunError, match="is stopped"):
        export_run(replace(finished, facts={**finished.facts, "state": "stopped"}), tmp_path / "bundle")
    with pytest.raises(RunError, match="kind 'hand'"):
        export_run(replace(finished, facts={**finished.facts, "kind": "hand"}), tmp_path / "bundle")
