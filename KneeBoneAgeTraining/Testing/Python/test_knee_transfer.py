"""The knee student: crops kept, labels joined, started from a teacher, trained in the study's folds, exported."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from knee_study import NETWORK, RECIPE, MiddleFinder, make_study, write_labels
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from KneeBoneAgeLib.bundle import PHANTOM_FIRST_LINE, default_bundle_path, load_bundle
from KneeBoneAgeLib.crop import KneeCrop
from KneeBoneAgeLib.estimator import Estimator
from KneeBoneAgeLib.finder_network import DEFAULT_CONFIG, FinderNetwork
from KneeBoneAgeLib.network import AgeNetwork, with_map_rank
from KneeBoneAgeLib.radiograph import read_film
from KneeBoneAgeLib.segmentation import Finding
from KneeBoneAgeTrainingLib.cohort.records import StudyError
from KneeBoneAgeTrainingLib.cohort.study import open_study
from KneeBoneAgeTrainingLib.export import export_run
from KneeBoneAgeTrainingLib.hand.weights import save_fold
from KneeBoneAgeTrainingLib.knee import negatives as knee_negatives
from KneeBoneAgeTrainingLib.knee import pictures as knee_pictures
from KneeBoneAgeTrainingLib.knee import results as knee_results
from KneeBoneAgeTrainingLib.knee.batches import Lesson, StudentBatches, poorer
from KneeBoneAgeTrainingLib.knee.corrections import CorrectedCrops
from KneeBoneAgeTrainingLib.knee.job import KneeJob, rows_of_fold
from KneeBoneAgeTrainingLib.knee.labels import PseudoLabels, moved_months, teach
from KneeBoneAgeTrainingLib.knee.negatives import draw_negatives
from KneeBoneAgeTrainingLib.knee.pictures import crops_of, prepare
from KneeBoneAgeTrainingLib.knee.recipe import (
    KneeAugmentation,
    KneeRecipe,
    Negatives,
    load_knee_recipe,
)
from KneeBoneAgeTrainingLib.knee.start import BUNDLE, TEACHER, Start, take_over
from KneeBoneAgeTrainingLib.knee.transfer import transfer
from KneeBoneAgeTrainingLib.recipes import (
    HandRecipe,
    RecipeError,
    dump_recipe,
    load_recipe,
    shipped_knee_recipes,
)
from KneeBoneAgeTrainingLib.runs.loop import Stopped, StopRequest
from KneeBoneAgeTrainingLib.runs.machine import Machine
from KneeBoneAgeTrainingLib.runs.progress import Reporter
from KneeBoneAgeTrainingLib.runs.record import FILMS_CSV, RunError, begin, read_rows, write_table
from KneeBoneAgeTrainingLib.teachers import Inputs, build_teacher
from KneeBoneAgeTrainingLib.transfer_command import app

MACHINE = Machine("cpu", workers=0)
TINY = KneeRecipe.model_validate(RECIPE)
FOLLOWING = KneeRecipe.model_validate({**RECIPE, "network": {}, "negatives": {"count": 10}})
"""Names nothing of its network, which is as in what it starts from."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("knees")


@pytest.fixture(scope="module")
def study(place):
    return open_study(make_study(place / "data"))


def job_of(study, out, **changes):
    return KneeJob(
        TINY, study, out, finder=MiddleFinder(), machine=MACHINE, cache=out.parent / "prepared", **changes
    )


def run_job(job):
    return transfer(job, Reporter(), StopRequest())


def prepared(study, folder, crops=None):
    return prepare(study, folder, MiddleFinder(), crops)


def teacher_run(folder, study, folds=(0, 1)):
    """A run of a hand teacher as `kneeboneage train` leaves it, with first weights."""
    recipe = HandRecipe.model_validate(
        {
            "name": "toy-teacher",
            "description": "for tests",
            "architecture": {"kind": "age-network", "options": {**NETWORK, "field": 1.0}},
            "image_size": [160, 160],
            "stages": [{"epochs": 1, "learning_rate": 1e-3}],
        }
    )
    begin(folder, dump_recipe(recipe), {"recipe": recipe.name}, {"state": "finished"})
    for fold in folds:
        torch.manual_seed(fold)
        teacher = build_teacher(recipe.architecture, Inputs((160, 160), True, True), fetch=False)
        (folder / f"fold-{fold}").mkdir()
        save_fold(folder / f"fold-{fold}", teacher, recipe, {"fold": fold})
    films = zip(study.films, study.places, strict=True)
    rows = {
        f.hand_file: (f.hand_file, f.hand_sha256, f.patient_id, p.fold)
        for f, p in films
        if p.fold is not None
    }
    write_table(folder / FILMS_CSV, ["file", "sha256", "patient_id", "fold"], rows.values())
    return folder


# --- crops


def test_crops_are_prepared_once_and_anew_when_the_preprocessing_changes(study, tmp_path, monkeypatch):
    first = prepared(study, tmp_path)
    assert len(first.knees) == len(study.films)
    assert first.pictures[0].shape[1:] == (knee_pictures.KEPT_PX,) * 2
    monkeypatch.setattr(knee_pictures, "read_film", lambda path: pytest.fail("prepared again"))
    assert prepared(study, tmp_path).folder == first.folder
    monkeypatch.undo()
    monkeypatch.setitem(knee_pictures.PREPROCESSING, "width_factor", 2.5)
    again = prepared(study, tmp_path)
    assert again.folder != first.folder
    assert json.loads((again.folder / "prepared.json").read_text())["preprocessing"]["width_factor"] == 2.5


def test_a_left_knee_is_cut_as_the_mirror_image_of_a_right_one(study, tmp_path):
    found = prepared(study, tmp_path)
    left = next(row for row, knee in enumerate(found.knees) if knee.side == "L")
    knee = found.knees[left]
    film = read_film(study.path(knee.file)).pixels
    straight = knee_pictures.cut(
        film, replace(knee.crop, mirrored=False), knee_pictures.KEPT_PX, knee_pictures.MARGIN
    )
    assert np.abs(found.pictures[0][left] / 255 - straight[:, ::-1]).max() < 0.01


def test_a_film_without_a_knee_is_listed_with_the_reason(tmp_path):
    study = open_study(make_study(tmp_path / "data", children=10, empty=3))
    found = prepared(study, tmp_path / "crops")
    assert [(one.file, one.reason) for one in found.left_out] == [("knee-003-R.png", "there is no knee")]
    assert len(found.knees) == len(study.films) - 1


def test_a_stopped_preparation_leaves_nothing_that_is_taken_for_complete(study, tmp_path):
    def stop():
        raise Stopped

    with pytest.raises(Stopped):
        prepare(study, tmp_path, MiddleFinder(), check=stop)
    assert not list(tmp_path.glob("*/prepared.json"))
    assert len(prepared(study, tmp_path).knees) == len(study.films)


def test_corrected_crops_are_used_as_a_person_put_them(study, tmp_path):
    file = study.films[0].file
    table = tmp_path / "corrected.csv"
    write_table(
        table,
        ["file", "side", "x0", "y0", "x1", "y1", "crop_angle_deg", "crop_mirrored"],
        [
            (study.path(file), "R", 10, 20, 60, 70, 5, "true"),
            ("elsewhere.png", "R", 0, 0, 9, 9, "", ""),
            ("e", *[""] * 7),
        ],
    )
    crops = CorrectedCrops.read(table)
    found = prepare(study, tmp_path / "crops", MiddleFinder(), crops)
    crop = next(knee.crop for knee in found.knees if knee.file == file)
    assert crop == KneeCrop((35, 45), 50, 5, "R", True, "person")
    assert all(knee.crop.origin == "automatic" for knee in found.knees if knee.file != file)
    assert [one.file for one in found.left_out] == ["elsewhere.png"]
    assert found.folder != prepared(study, tmp_path / "crops").folder


def test_a_wrong_row_of_corrected_crops_is_named_with_its_line(tmp_path):
    table = tmp_path / "corrected.csv"
    table.write_text("file,side,x0,y0,x1,y1\na.png,R,1,2,3,4\nb.png,R,1,two,3,4\n")
    with pytest.raises(StudyError, match="line 3"):
        CorrectedCrops.read(table)
    table.write_text("file,x0,y0,x1,y1\na.png,1,2,3,4\n")
    with pytest.raises(StudyError, match="column side"):
        CorrectedCrops.read(table)


def test_a_row_of_a_bilateral_film_means_the_knee_of_its_side():
    right, left = KneeCrop((10, 10), 5, side="R"), KneeCrop((30, 10), 5, side="L", mirrored=True)
    both = Finding((right, left))
    assert crops_of("L", both) == ((left,), None)
    assert crops_of("", both) == crops_of("B", both) == ((right, left), None)
    none, reason = crops_of("L", Finding((right, replace(left, side="R"))))
    assert (none, reason) == ((), "no L knee found, only R, R")


# --- labels


def test_a_label_of_the_hand_film_is_moved_to_the_date_of_the_knee_film(study):
    film = replace(study.films[0], sex="F", age_months=101.0, hand_age_months=100.0, days_between=30)
    assert moved_months(film, 90.0) == pytest.approx(91.0)
    earlier = replace(film, age_months=99.0)
    assert moved_months(earlier, 90.0) == pytest.approx(89.0)
    assert moved_months(film, 215.8) == 216.0
    assert moved_months(earlier, 216.0) == 216.0
    only_years = replace(film, age_months=108.0)
    assert moved_months(only_years, 90.0) == 90.0
    assert moved_months(replace(film, hand_age_months=None), 90.0) == 90.0


def test_both_kinds_of_labels_are_a_readers_where_there_is_one_each_with_its_spread(study, tmp_path):
    crops, pseudo = prepared(study, tmp_path), PseudoLabels.read(write_labels(tmp_path, study, spread=6.0))
    taught = teach(study, crops, "both", pseudo, TINY)
    read = np.isfinite(taught.reader_months)
    assert 0 < taught.from_readers == read.sum() < len(read) == len(study.films)
    label = taught.cache.labels.assigned_months
    assert np.array_equal(label[read], taught.reader_months[read])
    assert np.array_equal(label[~read], taught.pseudo_months[~read])
    assert np.allclose(taught.sd_months[read], 4.0)
    assert np.allclose(taught.sd_months[~read], np.hypot(3.5, 6.0))
    film = study.films[taught.knees[int(np.flatnonzero(~read)[0])].film]
    # The toy's pseudo-label is the hand film's age plus one month; the knee film is 30 days older.
    assert taught.pseudo_months[~read][0] == pytest.approx(film.age_months + 1, abs=0.01)
    readers = teach(study, crops, "readers", None, TINY)
    assert len(readers.knees) == read.sum()
    assert {one.reason for one in readers.left_out} == {"there is no reader's bone age"}
    with pytest.raises(RunError, match="needs --labels"):
        teach(study, crops, "pseudo", None, TINY)


def test_batches_hold_every_knee_once_an_epoch_with_its_own_spread(study, tmp_path):
    crops, pseudo = prepared(study, tmp_path), PseudoLabels.read(write_labels(tmp_path, study))
    taught = teach(study, crops, "both", pseudo, TINY)
    rows = np.flatnonzero(taught.fold >= 0)[:12]
    recipe = TINY.training(len(rows), 0)
    lesson = Lesson.of(recipe, TINY, taught, rows, None)
    epoch = range(recipe.epoch_steps)
    first, again = ([StudentBatches(lesson, recipe)[step] for step in epoch] for _ in range(2))
    seen = torch.cat([batch["label"] for batch in first]).numpy()
    assert np.array_equal(np.sort(seen), np.sort(taught.cache.labels.assigned_months[rows]))
    spread = torch.cat([batch["label_sd"] for batch in first]).numpy()
    expected = dict(zip(taught.cache.labels.assigned_months, taught.sd_months, strict=True))
    assert [expected[label] for label in seen] == list(spread)
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, again, strict=True))
    shares = [StudentBatches(lesson, recipe, rank, 3)[step] for step in epoch for rank in range(3)]
    assert torch.equal(torch.cat([batch["label"] for batch in shares]), torch.from_numpy(seen))


def with_negatives(batch, **negatives):
    return KneeRecipe.model_validate({**RECIPE, "batch": batch, "negatives": negatives})


def test_an_epoch_shows_every_knee_once_beside_what_is_no_knee(study, tmp_path):
    knee = with_negatives(4, count=3, share=0.25)
    drawn = draw_negatives(knee.negatives, tmp_path, 1)
    crops, pseudo = prepared(study, tmp_path), PseudoLabels.read(write_labels(tmp_path, study))
    taught = teach(study, crops, "both", pseudo, knee)
    rows = np.flatnonzero(taught.fold >= 0)[:12]
    recipe = knee.training(len(rows), 0)
    assert (recipe.batch, recipe.epoch_steps) == (3, 6)
    batches = StudentBatches(Lesson.of(recipe, knee, taught, rows, drawn), recipe)
    epoch = [batches[step] for step in range(recipe.epoch_steps)]
    assert [batch["knee"].tolist() for batch in epoch] == [[True, True, False]] * 6
    seen = torch.cat([batch["label"][:2] for batch in epoch]).numpy()
    assert np.array_equal(np.sort(seen), np.sort(taught.cache.labels.assigned_months[rows]))
    without = with_negatives(4, count=3, share=0.0)
    recipe = without.training(len(rows), 0)
    assert (recipe.batch, recipe.epoch_steps) == (3, 4)
    batch = StudentBatches(Lesson.of(recipe, without, taught, rows, drawn), recipe)[0]
    assert batch["knee"].tolist() == [True, True, True]


def test_a_batch_without_room_for_a_knee_is_refused_before_anything_is_done(study, tmp_path):
    assert with_negatives(1, count=0).training(40, 0).batch == 1
    with pytest.raises(
        RunError, match=r"batch of 2 crops, of which 5% .* no knee for each of 2 devices; use fewer"
    ):
        with_negatives(2, count=3).training(40, 0, devices=2)
    job = replace(job_of(study, tmp_path / "run"), recipe=with_negatives(1, count=3))
    with pytest.raises(RunError, match="batch of 1 crops.*raise batch, or lower negatives.share, or set"):
        run_job(job)
    assert not list(tmp_path.iterdir())


def test_a_run_on_a_device_that_is_not_there_is_refused_before_anything_is_done(study, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RunError, match="device 'mps' is not available"):
        run_job(replace(job_of(study, tmp_path / "run"), machine=Machine("mps", workers=0)))
    assert not list(tmp_path.iterdir())


def test_crops_are_coarsened_and_inverted_as_often_as_wanted():
    image = torch.rand(6, 1, 32, 32) * 2 - 1
    rng = np.random.default_rng(0)
    assert torch.equal(poorer(image, rng, KneeAugmentation(resolution=0, inversion=0)), image)
    assert torch.equal(poorer(image, rng, KneeAugmentation(resolution=0, inversion=1)), -image)
    coarse = poorer(image, rng, KneeAugmentation(resolution=1))
    assert float((coarse - image).abs().mean()) > 0.05
    assert float(coarse.diff(dim=-1).abs().mean()) < float(image.diff(dim=-1).abs().mean())


def test_other_things_are_drawn_once_and_anew_when_what_draws_them_has_changed(tmp_path, monkeypatch):
    wanted = Negatives(count=2, seed=5)
    first = draw_negatives(wanted, tmp_path, 1)
    assert first is not None
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("images-*.npy")}
    again = draw_negatives(wanted, tmp_path, 1)
    assert again is not None
    assert np.array_equal(first.images(np.arange(2)), again.images(np.arange(2)))
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("images-*.npy")}
    phantom = tmp_path / "phantom.py"
    phantom.write_text("CORTEX = 2.0\n")
    monkeypatch.setattr(knee_negatives, "SOURCES", (*knee_negatives.SOURCES, phantom))
    draw_negatives(wanted, tmp_path, 1)
    assert len(list(tmp_path.glob("negatives-*"))) == 2
    assert draw_negatives(Negatives(count=0), tmp_path, 1) is None


def test_children_that_stop_a_fold_early_are_neither_learnt_from_nor_held_out(study, tmp_path):
    pseudo = PseudoLabels.read(write_labels(tmp_path, study))
    taught = teach(study, prepared(study, tmp_path), "both", pseudo, TINY)
    stopping = KneeRecipe.model_validate(
        {**RECIPE, "early_stopping": {"patience_epochs": 1, "validation_share": 0.3}}
    )
    rows, patients = rows_of_fold(taught, 0, stopping), taught.cache.labels.patient_id
    groups = [set(patients[part]) for part in (rows.learnt, rows.watched, rows.held_out)]
    assert all(groups)
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert set(np.concatenate([rows.learnt, rows.watched, rows.held_out])) == set(
        np.flatnonzero(taught.fold >= 0)
    )
    half = rows_of_fold(taught, 0, TINY, share=0.5)
    whole = rows_of_fold(taught, 0, TINY)
    assert set(half.learnt) < set(whole.learnt)
    assert np.array_equal(half.held_out, whole.held_out)


# --- runs


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


# --- the bundle


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


# --- recipes and the command line


def test_shipped_knee_recipes_are_valid_and_unknown_keys_are_named(tmp_path):
    assert set(shipped_knee_recipes()) == {"knee-transfer", "demo-knee"}
    for name in shipped_knee_recipes():
        assert load_knee_recipe(name).name == name
    path = tmp_path / "mine.yaml"
    path.write_text("name: a\ndescription: b\nepochs: 1\nlearning_rate: 0.1\nepoch: 3\n")
    with pytest.raises(RecipeError, match="unknown key 'epoch'; the nearest known one is 'epochs'"):
        load_knee_recipe(path)
    path.write_text("name: a\ndescription: b\nepochs: 1\nlearning_rate: 0.1\nnetwork: {feild: 1}\n")
    with pytest.raises(RecipeError, match="nearest known one is 'field'"):
        load_knee_recipe(path)


def student_of(recipe, network):
    return AgeNetwork(load_knee_recipe(recipe).config(network))


def test_the_demo_knee_takes_over_all_of_the_demo_hands_weights():
    hand = load_recipe("demo-hand")
    teacher = build_teacher(hand.architecture, Inputs(hand.image_size, True, True), fetch=False)
    for network in (None, teacher.network.config):
        assert take_over(student_of("demo-knee", network), teacher.state_dict()).left_out == ()


def test_a_student_takes_over_all_of_convnext_hand_but_what_is_read_place_by_place_of_another_window():
    hand = load_recipe("convnext-hand")
    teacher = build_teacher(hand.architecture, Inputs(hand.image_size, True, True), fetch=False)
    student = student_of("knee-transfer", teacher.network.config)
    assert (student.config.image_size, student.config.field) == (200, 0.8)
    assert student.config.points == 48 == teacher.network.config.points
    assert take_over(student, teacher.state_dict()).left_out == ("map_reader.linear.weight",)


def test_a_student_takes_over_all_of_the_bundle_that_ships():
    given = Start(BUNDLE, default_bundle_path()).given(1, [])
    assert given.network is not None
    student = student_of("knee-transfer", given.network)
    assert student.config.map_rank == 0
    assert take_over(student, given.weights).left_out == ()


def test_what_a_recipe_names_of_the_network_wins_over_the_network_that_is_started_from():
    hand = load_recipe("convnext-hand").architecture.config((256, 256))
    named = KneeRecipe.model_validate({**RECIPE, "network": {"points": 5, "field": 0.6}}).config(hand)
    assert (named.points, named.field, named.backbone_options) == (5, 0.6, hand.backbone_options)


def test_the_weights_of_a_bundle_are_taken_over_though_stored_with_a_lower_rank():
    config = replace(TINY.config(), map_features=32)
    torch.manual_seed(0)
    kept, other = AgeNetwork(config), AgeNetwork(config)
    assert kept.map_reader is not None
    assert other.map_reader is not None
    stored = with_map_rank(kept, 24)
    assert (
        take_over(other, {name: value.half() for name, value in stored.state_dict().items()}).left_out == ()
    )
    image = torch.rand(2, 1, 200, 200)
    with torch.no_grad():
        assert torch.allclose(other.features(image), stored.features(image), atol=0.02)


def test_the_command_wants_one_start_and_labels_where_they_are_learnt_from(tmp_path):
    line = ["knee-transfer", "--study", str(tmp_path), "--out", str(tmp_path / "run")]
    runner = CliRunner()
    assert runner.invoke(app, line).exit_code == 2
    assert runner.invoke(app, [*line, "--from-scratch", "--bundle", str(tmp_path)]).exit_code == 2
    assert runner.invoke(app, [*line, "--from-scratch", "--label", "pseudo"]).exit_code == 2
    done = runner.invoke(app, [*line, "--from-scratch"])
    assert done.exit_code == 2
    with (tmp_path / "study.json").open("w") as stream:
        csv.writer(stream).writerow(["x"])
    assert runner.invoke(app, [*line, "--from-scratch"]).exit_code == 2
