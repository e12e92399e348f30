"""What a knee student is taught: labels joined, batches, what is drawn beside the knees, who is held apart."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from knee_study import RECIPE, TINY, job_of, prepared, run_job, write_labels

from KneeBoneAgeTrainingLib.knee import negatives as knee_negatives
from KneeBoneAgeTrainingLib.knee.batches import Lesson, StudentBatches, poorer
from KneeBoneAgeTrainingLib.knee.job import rows_of_fold
from KneeBoneAgeTrainingLib.knee.labels import PseudoLabels, moved_months, teach
from KneeBoneAgeTrainingLib.knee.negatives import draw_negatives
from KneeBoneAgeTrainingLib.knee.recipe import (
    KneeAugmentation,
    KneeRecipe,
    Negatives,
)
from KneeBoneAgeTrainingLib.runs.machine import Machine
from KneeBoneAgeTrainingLib.runs.record import RunError


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
