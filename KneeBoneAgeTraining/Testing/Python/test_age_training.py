"""Training of the age networks on drawn squares: what is learnt, repeated, resumed and calibrated."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from KneeBoneAgeLib.intervals import Calibration, mean_months
from KneeBoneAgeLib.network import AgePrior, Points
from KneeBoneAgeLib.phantom.children import draw_children
from KneeBoneAgeLib.phantom.scenes import knee_view
from KneeBoneAgeLib.refusal import KneeGate
from KneeBoneAgeTrainingLib import age_training, batches, between_stages
from KneeBoneAgeTrainingLib.age_module import AgeModule, label_loss, masked_smooth_l1, point_loss, save_module
from KneeBoneAgeTrainingLib.age_training import pretrain, train_fold
from KneeBoneAgeTrainingLib.augmentation import Jitter, cut_out, moved, places
from KneeBoneAgeTrainingLib.batches import Batches, Part
from KneeBoneAgeTrainingLib.calibration import calibrate
from KneeBoneAgeTrainingLib.crop_cache import MARGIN, CropCache
from KneeBoneAgeTrainingLib.drawing import LANDMARKS, landmarks_in_crop
from KneeBoneAgeTrainingLib.folds import assign_folds
from KneeBoneAgeTrainingLib.gate_training import fit_gate, learn_gate
from KneeBoneAgeTrainingLib.predicting import features_of_all
from KneeBoneAgeTrainingLib.prior_training import fit_prior

sys.path.insert(0, str(Path(__file__).parent))
from toy_crops import SIZE, TINY, draw


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> CropCache:
    folder = tmp_path_factory.mktemp("crops")
    for part in range(2):
        CropCache.write(folder, part, *draw(150, part, others=20))
    return CropCache.load(folder)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def log_gauss(mean: float, sd: float) -> torch.Tensor:
    centres = torch.arange(1, 240, 2.0)
    return torch.log_softmax(-0.5 * ((centres - mean) / sd) ** 2, 0)[None]


def test_a_cache_gives_back_what_its_parts_hold(cache):
    first, _ = draw(150, 0, others=20)
    second, labels = draw(150, 1, others=20)
    assert np.array_equal(cache.images(np.array([149, 150])), np.stack([first[149], second[0]]))
    assert cache.labels.true_months[150] == labels.true_months[0]
    with pytest.raises(FileNotFoundError, match="draw the crops first"):
        CropCache.load("nowhere")


def test_folds_hold_a_child_together_and_are_alike():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(300), 2)
    age, sex = np.repeat(rng.uniform(0, 216, 300), 2), np.repeat(rng.integers(0, 2, 300), 2)
    fold = assign_folds(patient, age, sex)
    assert all(len(set(fold[patient == name])) == 1 for name in range(300))
    assert np.bincount(fold).tolist() == [120] * 5
    means = [age[fold == k].mean() for k in range(5)]
    assert max(means) - min(means) < 6
    assert np.array_equal(fold, assign_folds(patient, age, sex))


def test_an_unjittered_crop_is_the_middle_of_the_cached_picture():
    ramp = np.tile(np.arange(SIZE, dtype=np.uint8) + 50, (1, SIZE, 1))
    crop = cut_out(ramp, 64)[0, 0]
    assert crop.shape == (64, 64)
    middle = crop[32, 8:-8]
    steps = torch.diff(middle)
    assert torch.allclose(steps, steps.mean().expand_as(steps), atol=1e-3)
    assert abs(float(middle[23] + middle[24])) < 0.05


def test_jitter_keeps_what_was_not_exposed_black():
    images = np.full((8, SIZE, SIZE), 120, np.uint8)
    images[:, :, : SIZE // 2] = 0
    images[:, ::3, SIZE // 2 :] = 200
    jittered = cut_out(images, 64, np.random.default_rng(0), Jitter(rotation_deg=0, shift=0, occlusion=0))
    plain = cut_out(images, 64)
    assert torch.all(jittered[:, :, :, :20] == -1)
    assert torch.all(plain[:, :, :, :20] == -1)
    assert not torch.equal(jittered, plain)


def test_noisy_labels_teach_the_true_bone_age_and_not_their_noise():
    """With a reader error of 4 months the best distribution is that of the truth, not of the labels."""
    truth = 120 + 5 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    label = truth + 4 * torch.randn(4000, generator=torch.Generator().manual_seed(1))
    sex, sd = torch.zeros(4000, dtype=torch.long), torch.full((4000,), 4.0)

    def loss(width: float) -> float:
        return float(label_loss(log_gauss(120, width).expand(4000, -1), label, sd, sex).mean())

    assert loss(5.0) < min(loss(3.5), loss(6.4))


def test_a_label_at_the_end_of_the_atlas_says_at_least():
    sex, sd = torch.tensor([0]), torch.tensor([4.0])
    end = torch.tensor([216.0])
    inside, at_end = log_gauss(208, 2), log_gauss(216, 2)
    assert label_loss(at_end, end, sd, sex) < 1 < label_loss(inside, end, sd, sex)
    boy = torch.tensor([1])
    assert label_loss(log_gauss(226, 2), end, sd, boy) > 2


def test_what_is_not_known_of_the_indicators_is_not_learnt():
    predicted = torch.zeros(2, 2, requires_grad=True)
    target = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]])
    masked_smooth_l1(predicted, target).backward()
    assert predicted.grad is not None
    assert torch.count_nonzero(predicted.grad) == 1
    assert masked_smooth_l1(predicted, torch.full((2, 2), torch.nan)) == 0


def test_the_prior_learns_ages_and_the_atlas_end_from_numbers():
    rng = np.random.default_rng(0)
    age = rng.uniform(0, 216, 4000).astype(np.float32)
    sex = rng.integers(0, 2, 4000)
    bone_age = np.clip(age + rng.normal(0, 11, 4000) - 6 * sex, 0, 216).astype(np.float32)
    prior = AgePrior(120, 16, 3)
    fit_prior(prior, sex, age, bone_age, steps=120)
    with torch.no_grad():
        p = prior(torch.tensor([100.0, torch.nan])).exp().numpy()
    girl, boy = mean_months(p[0])
    assert girl == pytest.approx(100, abs=3)
    assert boy == pytest.approx(94, abs=3)
    assert mean_months(p[1, 0]) == pytest.approx(bone_age[sex == 0].mean(), abs=1)
    assert p[1, :, 112:].sum() < 0.01


def test_batches_are_the_same_again_and_differ_between_epochs(cache):
    knees = np.flatnonzero(cache.labels.kind == "knee")
    others = np.flatnonzero(cache.labels.kind != "knee")
    parts = [Part(cache, knees, 0.9, "assigned", 4.0), Part(cache, others, 0.1, "true", 1.0)]
    first, again = (next(iter(Batches(parts, TINY, 0))) for _ in range(2))
    other = next(iter(Batches(parts, TINY, 1)))
    assert all(torch.equal(first[key].nan_to_num(), again[key].nan_to_num()) for key in first)
    assert not torch.equal(first["label"], other["label"])
    assert int((~first["knee"]).sum()) == 2
    assert first["image"].shape == (16, 1, 48, 48)
    assert other["image"].shape == (16, 1, 64, 64)


def test_a_stopped_run_goes_on_and_ends_as_if_never_stopped(cache, tmp_path, monkeypatch):
    recipe = replace(TINY, steps=9, batch=4, epoch_steps=3)
    monkeypatch.setattr(batches, "EVALUATED", 4)
    pretrain(tmp_path / "whole", cache, recipe, None, None)
    steps = []
    learn = age_training.AgeModule.training_step

    def breaks_off(self, batch, index):
        steps.append(index)
        if len(steps) == 5:
            raise RuntimeError("the power went")
        return learn(self, batch, index)

    monkeypatch.setattr(age_training.AgeModule, "training_step", breaks_off)
    with pytest.raises(RuntimeError, match="power"):
        pretrain(tmp_path / "stopped", cache, recipe, None, None)
    pretrain(tmp_path / "stopped", cache, recipe, None, None)
    assert len(steps) == 5 + 6
    whole, stopped = (
        load_file(tmp_path / name / "pretrain" / "module.safetensors") for name in ("whole", "stopped")
    )
    assert all(np.array_equal(whole[key], stopped[key]) for key in whole)


def test_a_run_learns_the_bars_and_leaves_what_a_bundle_needs(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "EVALUATED", 20)
    pretrain(
        tmp_path,
        cache,
        replace(TINY, steps=100, epoch_steps=50, prior_steps=60, learning_rate=4e-3),
        None,
        None,
    )
    for fold in range(5):
        recipe = replace(TINY, steps=6, label="assigned", learning_rate=5e-4, frozen_stages=2, seed=fold)
        train_fold(tmp_path, fold, cache, recipe, None, cache, None)
    calibrate(tmp_path, cache, None)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["none"]["mae_true"] < 25  # 45 without looking at the picture
    assert metrics["sex_age"]["mae_true"] < 15
    assert metrics["sex_age"]["coverage_true"] == pytest.approx(0.9, abs=0.06)
    saved = json.loads((tmp_path / "calibration.json").read_text())
    assert {Calibration.from_json(c).target for c in saved.values()} == {"true"}
    gate = KneeGate.from_tensors(load_file(tmp_path / "gate.safetensors"))
    assert gate.centre.shape == (5, 32 + TINY.network.map_features + TINY.network.point_features)
    stem = [load_file(tmp_path / name / "module.safetensors") for name in ("pretrain", "fold-0")]
    key = "averaged.backbone.stem.0.weight"
    assert np.allclose(stem[0][key], stem[1][key], atol=1e-7)


def test_the_gate_learns_what_is_no_knee_and_accepts_a_different_look():
    rng = np.random.default_rng(0)
    knees = rng.normal(0, 1, (2, 400, 8))
    others = rng.normal(0, 1, (2, 300, 8)) + np.array([4, 4, 0, 0, 0, 0, 0, 0])
    gate = fit_gate(knees, others[:, :200])
    assert np.mean([a.accepted for a in gate.answer(others[:, 200:])]) < 0.1
    looks_different = rng.normal(0, 1, (2, 100, 8)) + np.array([0, 0, 2, -2, 2, 0, 0, 0])
    assert np.mean([a.accepted for a in gate.answer(looks_different)]) > 0.9
    with pytest.raises(ValueError, match="negatives"):
        fit_gate(knees, others[:, :0])


def test_the_gate_accepts_knees_as_jittered_as_those_that_it_has_learnt_from():
    torch.manual_seed(0)
    images, labels = draw(300, seed=8, others=100)
    cache = CropCache([images], labels)
    networks = [AgeModule(TINY, 1, 1).averaged for _ in range(2)]
    knees = np.flatnonzero(labels.kind == "knee")
    strong = Jitter(gamma=0.8, noise=0.3, shading=0.5, blur_px=3.0)
    little, much = (learn_gate(networks, (cache, knees), cache, jitter) for jitter in (TINY.jitter, strong))
    assert len(little.kinds) == len(little.others_refused) == 20  # a fifth is only looked at
    assert set(little.kinds) == set(labels.kind) - {"knee"}
    assert little.others_refused.mean() >= 0.8
    assert len(little.knees_refused) == len(knees)
    assert little.knees_refused.mean() <= 0.05
    seen = features_of_all(networks, cache, knees, strong, seed=99)
    unsure, sure = (gate.logit(seen).mean() for gate in (little.gate, much.gate))
    assert sure > unsure + 0.5


def _bar(rows: int = 184) -> np.ndarray:
    """A bright upright bar (a shaft) in soft tissue, (1, rows, rows) uint8."""
    picture = np.full((1, rows, rows), 60, np.uint8)
    picture[:, :, rows // 3 : 2 * rows // 3] = 180
    return picture


def test_landmarks_move_with_the_picture_they_lie_in():
    """A bright dot is where its landmark is said to be, however the crop was shifted, turned and scaled."""
    side = 230
    column, row = np.array([60, 120, 170, 101]), np.array([70, 110, 140, 160])
    pictures = np.zeros((4, side, side), np.uint8)
    v, u = np.mgrid[0:side, 0:side]
    for i in range(4):
        spot = np.exp(-((u - column[i]) ** 2 + (v - row[i]) ** 2) / 200)
        pictures[i] = 20 + 200 * spot
    in_crop = (np.stack([column, row], -1)[:, None] + 0.5) / side * 2 * MARGIN - MARGIN
    jitter = Jitter(
        scale=0.15, shift=0.1, rotation_deg=20, blur_px=0, noise=0, shading=0, occlusion=0, gamma=0
    )
    for seed in (None, 0, 1):
        rng = None if seed is None else np.random.default_rng(seed)
        matrix = places(4, rng, jitter)
        crops = cut_out(pictures, 200, rng, jitter, matrix)[:, 0].numpy()
        said = moved(in_crop, matrix)[:, 0]
        for crop, (x, y) in zip(crops, said, strict=True):
            if max(abs(x), abs(y)) > 0.95:
                continue
            found_row, found_column = np.argwhere(crop >= crop.max() - 1e-3).mean(0)
            assert (found_column + 0.5, found_row + 0.5) == pytest.approx(
                (100 + 100 * x, 100 + 100 * y), abs=1.5
            )


def test_landmarks_in_a_reference_crop_have_the_fibula_on_the_left_and_the_hip_above():
    child = draw_children(1, 4, chronological_age_months=[120.0], with_oracle=False)[0]
    for right in (True, False):
        scene = knee_view(child.indicators, 120.0, np.random.default_rng(1), 300, right)
        points = dict(zip(LANDMARKS, landmarks_in_crop(scene.knees[0]), strict=True))
        assert points["fibula_physis_distal"][0] < points["tibia_physis_distal"][0] - 0.3
        assert points["femur_physis_proximal"][1] < -0.2 < 0.1 < points["tibia_physis_distal"][1]
        width = points["femur_metaphysis_lateral"] - points["femur_metaphysis_medial"]
        assert np.hypot(*width) == pytest.approx(1.0, abs=0.12)
        assert np.isfinite(list(points.values())).all()
    infant = draw_children(1, 4, chronological_age_months=[3.0], with_oracle=False)[0]
    scene = knee_view(infant.indicators, 3.0, np.random.default_rng(1), 300, True)
    points = dict(zip(LANDMARKS, landmarks_in_crop(scene.knees[0]), strict=True))
    assert np.isnan(points["patella_superior"]).all()


def test_unknown_landmarks_and_those_outside_of_the_window_are_not_learnt():
    torch.manual_seed(0)
    side, heat = 10, torch.zeros(2, 3, 100)
    points = Points(torch.zeros(2, 3, 2), torch.log_softmax(heat, -1), side)
    truth = torch.full((2, 3, 2), torch.nan)
    assert point_loss(points, truth, 0.8) == 0
    truth[0, 0] = torch.tensor([0.79, 0.0])
    assert point_loss(points, truth, 0.8) == 0
    truth[0, 0] = torch.tensor([0.2, 0.0])
    far = point_loss(points, truth, 0.8)
    near = point_loss(Points(torch.full((2, 3, 2), 0.1), points.log_share, side), truth, 0.8)
    assert 0 < near < far


def test_maturities_are_read_by_the_clock_of_the_childs_own_sex():
    torch.manual_seed(0)
    module = AgeModule(TINY, indicators=3, maturities=2)
    features = torch.randn(1, module.network.feature_count)
    girl, boy = (module.read_indicators(features, torch.tensor([sex]))[0] for sex in (0, 1))
    assert girl.shape == (5,)
    assert torch.equal(girl[:3], boy[:3])
    assert not torch.isclose(girl[3:], boy[3:]).any()
    girl[3:].sum().backward()
    learnt = module.maturity_head.weight.grad.abs().sum(1)
    assert (learnt > 0).tolist() == [True, True, False, False]


@pytest.mark.parametrize("setting", [{"texture": 0.1}, {"lines": 6.0}, {"clouds": 0.1}])
def test_streaks_stray_lines_and_clouds_lie_on_the_bone_alone(setting):
    still, bars = Jitter(0, 0, 0, 0, 0, 0, 0, 0), np.repeat(_bar(), 8, axis=0)
    plain = cut_out(bars, 96, np.random.default_rng(3), still)[:, 0]
    changed = cut_out(bars, 96, np.random.default_rng(3), replace(still, **setting))[:, 0]
    bone = plain[0] > plain[0].mean()
    # Normalising scales the whole picture by its percentiles, so soft tissue moves as one.
    assert (changed - plain)[:, bone].std(dim=1).median() > 0.03
    assert changed[:, ~bone][:, 20:-20].std(dim=1).median() < 0.2 * changed[:, bone].std(dim=1).median()


def test_grain_follows_the_contrast_of_a_picture_so_that_a_faint_film_stays_readable():
    still = Jitter(0, 0, 0, 0, 0, 0, 0, 0)
    faint = (_bar() // 10 + 100).astype(np.uint8)
    bone = cut_out(faint, 96)[0, 0] > 0
    grained = cut_out(faint, 96, np.random.default_rng(0), replace(still, noise=0.05))[0, 0]
    assert grained[bone].mean() - grained[~bone].mean() > 5 * grained[~bone].std()


def test_a_run_of_another_version_ends_with_one_sentence(tmp_path):
    CropCache.write(tmp_path / "crops", 0, *draw(4, 0, others=0))
    folder = tmp_path / "run" / between_stages.REGIONS
    folder.parent.mkdir()
    save_module(folder, AgeModule(TINY, 1, 1))
    recipe = TINY.to_json()
    recipe["network"]["physes"] = [[0, 1, 2, 3]]
    (folder / "recipe.json").write_text(json.dumps(recipe))
    arguments = ["views", "0", "--run", str(tmp_path / "run"), "--cache", str(tmp_path / "crops")]
    with pytest.raises(SystemExit) as ended:
        age_training.main(arguments)
    assert re.match(
        r"Error: .*recipe\.json: not a recipe of this version .*; begin a new run$", ended.value.code
    )


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("views 4", "views: which one, 0 to 1"),
        ("region 4", "region: which one, 0 to 3"),
        ("fold", "fold: which one, 0 to 4"),
        ("heads 1", "heads: takes no number"),
    ],
)
def test_a_part_says_which_numbers_there_are(part, said, capsys):
    with pytest.raises(SystemExit) as ended:
        age_training.main([*part.split(), "--run", "run", "--cache", "crops"])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["regions"], "run: region 0, 1, 3 not taught yet; `age_training region 0` first"),
        (["pretrain", "--set", "bath=8"], "--set bath=8: not settings of a recipe (.*bath.*)"),
        (["pretrain", "--set", "jitter=[]"], r"--set jitter=\[\]: not settings of a recipe"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, said, tmp_path):
    CropCache.write(tmp_path / "crops", 0, *draw(4, 0, others=0))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / between_stages.region_file(2)).touch()
    more = ["--run", str(tmp_path / "run"), "--cache", str(tmp_path / "crops")]
    with pytest.raises(SystemExit) as ended:
        age_training.main([*arguments, *more])
    assert re.search(said, ended.value.code)
