"""The heads of an age network, learnt again on features that are cached."""

import copy
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from KneeBoneAgeLib.intervals import mean_months
from KneeBoneAgeLib.readers import CloseLook, PointReader
from KneeBoneAgeLib.regions import KNEE_REGIONS
from KneeBoneAgeTrainingLib import age_training, batches, between_stages
from KneeBoneAgeTrainingLib.age_module import AgeModule, load_module
from KneeBoneAgeTrainingLib.batches import knees_apart
from KneeBoneAgeTrainingLib.cached_views import cache_features, joined, load_views
from KneeBoneAgeTrainingLib.crop_cache import CropCache
from KneeBoneAgeTrainingLib.head_training import HeadRecipe, Heads, learn_heads
from KneeBoneAgeTrainingLib.landmark_training import LandmarkRecipe, with_close_readers
from KneeBoneAgeTrainingLib.predicting import Prediction, errors_months, posterior, predict
from KneeBoneAgeTrainingLib.region_training import RegionRecipe, reader_of

sys.path.insert(0, str(Path(__file__).parent))
from toy_crops import TINY, draw

ROWS = np.arange(20, 150)  # the bars; what comes before is no knee


@pytest.fixture(scope="module")
def cache() -> CropCache:
    images, labels = draw(150, 4, others=20)
    return CropCache([images], labels)


@pytest.fixture
def corrected() -> AgeModule:
    """One whose landmarks are corrected by what describes them, as after pretraining."""
    torch.manual_seed(3)
    made = AgeModule(TINY, indicators=1, maturities=1)
    made.averaged.load_state_dict(made.network.state_dict())
    return made


@pytest.fixture
def module() -> AgeModule:
    """One whose landmarks are refined."""
    torch.manual_seed(3)
    recipe = replace(TINY, network=replace(TINY.network, refine_hidden=6))
    made = AgeModule(recipe, indicators=1, maturities=1)
    made.averaged.load_state_dict(made.network.state_dict())
    return made


@pytest.fixture
def far() -> AgeModule:
    """One that does not look at the pixels around its landmarks."""
    recipe = replace(TINY, network=replace(TINY.network, close_hidden=0))
    torch.manual_seed(3)
    made = AgeModule(recipe, indicators=1, maturities=1)
    made.averaged.load_state_dict(made.network.state_dict())
    return made


def test_only_what_comes_after_the_backbone_is_learnt_and_it_learns(cache, module):
    before = {name: value.clone() for name, value in module.averaged.state_dict().items()}
    labels = cache.labels.take(ROWS)
    error = [errors_months(predict(module.averaged, cache, ROWS), module.averaged, labels)["mae_no_age"]]
    cached = cache_features(module, cache, ROWS, seed=1)
    assert len(cached.base) == len(cached.read) == len(ROWS) == len(cached.labels["sex"])
    learn_heads(module, cached, HeadRecipe(steps=150, batch=64))
    error.append(errors_months(predict(module.averaged, cache, ROWS), module.averaged, labels)["mae_no_age"])
    assert error[1] < 0.7 * error[0]
    changed = {
        name for name, value in module.averaged.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert all(name.startswith(("head.", "point_reader.linear.", "point_reader.close.")) for name in changed)


def test_the_standardisation_goes_into_the_weights(cache, module):
    cached = cache_features(module, cache, ROWS, seed=1)
    heads = Heads(module, cached, HeadRecipe()).eval()
    sex = cached.labels["sex"]
    with torch.no_grad():
        likelihood, indicators = heads(cached)
        heads.put_back(module)
        features = torch.cat(
            [cached.base, torch.relu(module.averaged.point_reader.linear(cached.read))], dim=1
        )
        assert torch.allclose(module.averaged.head(features), likelihood, atol=0.02, rtol=1e-3)
        assert torch.allclose(module.read_indicators(features, sex), indicators, atol=1e-3)
        other = torch.cat([cached.base, torch.rand(len(cached.base), TINY.network.point_features)], dim=1)
        assert torch.equal(module.knee_head(features), module.knee_head(other))


def test_what_hardly_varies_in_drawn_knees_is_not_magnified(cache, module):
    cached = cache_features(module, cache, ROWS, seed=1)
    cached.base[:, 2] = 0.3 + 1e-6 * torch.arange(len(ROWS))
    heads = Heads(module, cached, HeadRecipe()).eval()
    before = heads.head.linear.weight[:, 2].clone()
    heads.put_back(module)
    assert torch.equal(module.averaged.head.linear.weight[:, 2], before)


def test_the_same_seed_keeps_the_same_views(cache, module):
    first, again, other = (cache_features(module, cache, ROWS[:8], seed) for seed in (1, 1, 2))
    assert torch.equal(first.read, again.read)
    assert not torch.equal(first.read, other.read)


def test_a_network_that_reads_its_landmarks_by_one_layer_is_refused(cache):
    network = replace(TINY.network, point_hidden=0)
    plain = AgeModule(replace(TINY, network=network), indicators=1, maturities=1)
    with pytest.raises(ValueError, match="point_hidden"):
        cache_features(plain, cache, ROWS, seed=1)


def test_close_readers_change_nothing_until_they_have_learnt(cache, module):
    grown = with_close_readers(module, 6, 0, 5)
    old, new = (predict(one.averaged, cache, ROWS[:16]) for one in (module, grown))
    assert new.features.shape[1] == old.features.shape[1] + grown.averaged.region_reader.feature_count
    assert np.allclose(old.log_likelihood, new.log_likelihood, atol=1e-4)
    with pytest.raises(ValueError, match="regions already"):
        with_close_readers(grown)
    few = AgeModule(replace(TINY, network=replace(TINY.network, points=10)), indicators=1, maturities=1)
    with pytest.raises(ValueError, match="10 landmarks: the regions need 20"):
        with_close_readers(few)


def test_what_describes_a_landmark_is_kept_when_it_corrects_no_more(corrected):
    old = corrected.averaged.point_reader.close
    with torch.no_grad():
        old.out[..., :2] = 0.3
    new = with_close_readers(corrected).averaged.point_reader.close
    patches = torch.randn(3, TINY.network.points, CloseLook.PATCH_PX**2)
    with torch.no_grad():
        torch.testing.assert_close(new.describe(patches), old.describe(patches))
    assert new.out.shape[-1] == PointReader.DESCRIBED


def test_what_is_read_of_the_regions_tells_the_age_and_stays(cache, far):
    grown = with_close_readers(far, 0, 0, 5)
    cached = cache_features(grown, cache, ROWS, seed=1)
    features = predict(grown.averaged, cache, ROWS[:4]).features
    count = grown.averaged.region_reader.feature_count
    assert cached.regions.shape == (len(ROWS), count)
    assert cached.base.shape[1] + grown.recipe.network.point_features + count == features.shape[1]
    blind = replace(cached, base=torch.zeros_like(cached.base), read=torch.zeros_like(cached.read))
    telling = torch.rand(cached.regions.shape, generator=torch.Generator().manual_seed(4))
    telling[:, 3] = torch.from_numpy(cache.labels.true_months[ROWS] / 120)
    before = {name: value.clone() for name, value in grown.averaged.region_reader.state_dict().items()}
    losses = []
    for regions in (torch.zeros_like(telling), telling):
        learner = copy.deepcopy(grown)
        recipe = HeadRecipe(steps=240, batch=48, base_dropout=0.0, dropout=0.0)
        learn_heads(learner, replace(blind, regions=regions), recipe)
        network = learner.averaged
        with torch.no_grad():
            read = torch.relu(network.point_reader.linear(blind.read))
            seen = torch.cat([blind.base, read, regions], dim=1)
            likelihood = network.log_likelihood(seen).numpy()
        found = errors_months(Prediction(seen.numpy(), likelihood), network, cache.labels.take(ROWS))
        losses.append(found["mae_no_age"])
        for name, value in network.region_reader.state_dict().items():
            assert torch.equal(value, before[name]), name
    assert losses[1] < 0.75 * losses[0]


def test_heads_say_of_kept_views_what_the_network_says_of_their_pictures(cache, module, monkeypatch):
    grown = with_close_readers(module, 6, 5, 4, 3)
    torch.manual_seed(5)
    head = grown.averaged.head
    with torch.no_grad():
        for layer in (head.linear, head.bent[0], head.bent[-1], grown.indicator_head, grown.maturity_head):
            layer.weight.copy_(0.1 * torch.randn_like(layer.weight))
    looks = []
    see = grown.averaged.see
    monkeypatch.setattr(grown.averaged, "see", lambda image: (looks.append(image), see(image))[1])
    cached = cache_features(grown, cache, ROWS[:12], seed=1)
    heads = Heads(grown, cached, HeadRecipe(), fresh=False).eval()
    with torch.no_grad():
        features = see(looks[0])[0]
        likelihood, indicators = heads(cached)
        expected = grown.averaged.log_likelihood(features)
        own = grown.read_indicators(features, cached.labels["sex"])
    torch.testing.assert_close(likelihood, expected, atol=0.02, rtol=1e-3)
    torch.testing.assert_close(indicators, own, atol=5e-3, rtol=1e-3)
    heads.put_back(grown)
    with torch.no_grad():
        again = grown.averaged.log_likelihood(see(looks[0])[0])
    torch.testing.assert_close(again, expected, atol=0.02, rtol=1e-3)


def test_the_perceptron_beside_the_linear_likelihood_learns_what_the_other_hardly_does(cache, far):
    """A region's feature says young or old as another one's sign bids: a sum of both tells three of four at best."""
    grown = with_close_readers(far, 0, 0, 4, 16)
    cached = cache_features(grown, cache, ROWS, seed=1)
    young = torch.from_numpy(cache.labels.true_months[ROWS] < np.median(cache.labels.true_months[ROWS]))
    draw = torch.Generator().manual_seed(6)
    turned = torch.randint(2, (len(ROWS),), generator=draw) * 2.0 - 1
    telling = torch.zeros_like(cached.regions)
    telling[:, 0], telling[:, 1] = turned, turned * torch.where(young, 1.0, -1.0)
    views = replace(
        cached, base=torch.zeros_like(cached.base), read=torch.zeros_like(cached.read), regions=telling
    )

    def right(bent):
        learner = copy.deepcopy(grown)
        if not bent:
            for network in (learner.network, learner.averaged):
                network.head.bent = None
            learner.recipe = replace(learner.recipe, network=replace(learner.recipe.network, head_hidden=0))
        recipe = HeadRecipe(steps=300, batch=48, base_dropout=0.0, dropout=0.0, weight_decay=0.0)
        learn_heads(learner, views, recipe)
        network = learner.averaged
        with torch.no_grad():
            read = torch.relu(network.point_reader.linear(views.read))
            likelihood = network.log_likelihood(torch.cat([views.base, read, telling], dim=1))
            nowhere = torch.full((len(ROWS),), torch.nan)
            p = network.log_posterior(likelihood, cached.labels["sex"], nowhere).exp()
        months = mean_months(p.numpy())
        return np.mean((months < np.median(months)) == young.numpy())

    found = right(bent=True)
    assert found > 0.9
    assert found > right(bent=False) + 0.1


def test_what_measures_the_landmarks_learns_a_ratio_by_itself_and_stays(cache, module):
    grown = with_close_readers(module, 6, 16, 0)
    cached = cache_features(grown, cache, ROWS, seed=1)
    points, draw = TINY.network.points, torch.Generator().manual_seed(2)
    numbers = torch.randn(2000, points, cached.read.shape[1] // points, generator=draw)
    wide, narrow = (0.5 + torch.rand(2000, generator=draw) for _ in range(2))
    numbers[:, 5:, :4] = 0
    numbers[:, 0, 0], numbers[:, 1, 0] = -wide, wide
    numbers[:, 2, 0], numbers[:, 3, 0] = -narrow, narrow
    ratio = torch.log(wide / narrow)
    rows = torch.randint(len(ROWS), (2000,), generator=draw)
    views = replace(cached.take(rows), read=numbers.flatten(1))
    views.labels["indicators"] = torch.stack([ratio, torch.full_like(ratio, torch.nan)], 1)

    def unread(network):
        """Share of the ratio's variance that the measured features do not tell."""
        with torch.no_grad():
            told = network.point_reader.measure(PointReader.placed(views.read, points)).relu()
        told = torch.cat([told, torch.ones(2000, 1)], 1)
        return float((ratio - told @ torch.linalg.pinv(told) @ ratio).var() / ratio.var())

    before = unread(grown.averaged)
    learn_heads(grown, views, HeadRecipe(steps=2, measure_steps=400, batch=64, ema_decay=0.98))
    assert unread(grown.averaged) < 0.1 * before
    assert unread(grown.network) == unread(grown.averaged)
    learnt = copy.deepcopy(grown.averaged.point_reader.measure.state_dict())
    learn_heads(grown, views, HeadRecipe(steps=2, batch=16), fresh=False)
    for name, value in grown.averaged.point_reader.measure.state_dict().items():
        assert torch.equal(value, learnt[name]), name


def test_landmarks_that_the_heads_would_move_are_refused(cache, corrected):
    with pytest.raises(ValueError, match="not refined"):
        cache_features(corrected, cache, ROWS, seed=1)


def test_folds_start_from_the_heads_that_are_learnt_from_all_views(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "EVALUATED", 4)
    monkeypatch.setattr(between_stages, "HeadRecipe", partial(HeadRecipe, steps=4, batch=16, measure_steps=4))
    monkeypatch.setattr(age_training, "FOLD_HEADS", HeadRecipe(steps=4, batch=16, learning_rate=1e-3))
    recipe = replace(TINY, steps=2, batch=4, epoch_steps=2, prior_steps=2)
    age_training.pretrain(tmp_path, cache, recipe, None, None)
    monkeypatch.setattr(between_stages, "LandmarkRecipe", partial(LandmarkRecipe, steps=3, batch=8))
    monkeypatch.setattr(between_stages, "RegionRecipe", partial(RegionRecipe, steps=3, batch=8))
    between_stages.refine_landmarks(tmp_path, cache)
    landmarks = load_module(tmp_path / between_stages.LANDMARKS)
    for number in range(len(KNEE_REGIONS)):
        between_stages.teach_region(tmp_path, cache, number)
    between_stages.gather_regions(tmp_path)
    taught = load_module(tmp_path / between_stages.REGIONS)
    for network in (taught.network, taught.averaged):
        for number, eye in enumerate(reader_of(network).eyes):
            learnt = load_file(tmp_path / between_stages.region_file(number))
            assert all(torch.equal(value, learnt[name]) for name, value in eye.state_dict().items())
            assert not torch.equal(eye[0].weight, reader_of(landmarks.averaged).eyes[number][0].weight)
    kept = []
    for number in range(HeadRecipe().views):
        between_stages.keep_views(tmp_path, cache, number)
        path = tmp_path / between_stages.views_file(number)
        kept.append(load_views(path))
        written = path.stat().st_mtime_ns
        between_stages.keep_views(tmp_path, cache, number)
        assert path.stat().st_mtime_ns == written
    assert len(kept[0].base) == len(kept[0].regions) == len(knees_apart(cache)[0])
    assert len(joined(kept).labels["sex"]) == len(kept) * len(kept[0].base)
    assert not torch.equal(kept[0].read, kept[1].read)
    between_stages.renew_heads(tmp_path)
    between_stages.keep_views(tmp_path, cache, between_stages.FULL_VIEW, of_folds=True)
    for fold in (0, 1):
        age_training.learn_fold(tmp_path, fold, cache)
    begun, *folds = (
        load_module(tmp_path / name).averaged.state_dict() for name in ("heads", "fold-0", "fold-1")
    )
    first = load_module(tmp_path / "pretrain").averaged.state_dict()
    for fold in folds:
        assert torch.equal(
            begun["backbone.stages.3.blocks.0.conv_dw.weight"],
            fold["backbone.stages.3.blocks.0.conv_dw.weight"],
        )
        away = (begun["point_reader.linear.2.weight"] - fold["point_reader.linear.2.weight"]).abs().max()
        assert 0 < away < 0.02
    assert not torch.equal(folds[0]["head.linear.weight"], folds[1]["head.linear.weight"])
    assert not torch.allclose(begun["head.linear.weight"][:, :10], first["head.linear.weight"][:, :10])
    kept_out = [set(np.load(tmp_path / f"fold-{k}" / "out_of_fold.npz")["rows"].tolist()) for k in (0, 1)]
    assert not kept_out[0] & kept_out[1]


def test_heads_that_go_on_begin_where_they_were(cache, module):
    cached = cache_features(module, cache, ROWS, seed=1)
    first, again = Heads(module, cached, HeadRecipe(), fresh=False).eval(), copy.deepcopy(module)
    first.put_back(again)
    for name, value in module.averaged.state_dict().items():
        assert torch.allclose(again.averaged.state_dict()[name], value, atol=1e-4), name


def told(cache: CropCache, months: float) -> CropCache:
    """The same crops with an oracle that says so many months of each."""
    labels = cache.labels
    posterior = np.zeros_like(labels.posterior)
    posterior[:, :, int(months / 240 * posterior.shape[2])] = 1
    images = cache.images(np.arange(len(labels)))
    return CropCache([images], replace(labels, posterior=posterior))


def test_what_the_oracle_says_is_learnt_where_it_is_known(cache, module):
    cached = cache_features(module, told(cache, 131.0), ROWS, seed=1)
    learn_heads(module, cached, HeadRecipe(steps=120, batch=64, ema_decay=0.9))
    network = module.averaged
    likelihood = predict(network, cache, ROWS).log_likelihood
    unknown = np.full(len(ROWS), np.nan, np.float32)
    months = mean_months(posterior(network, likelihood, cache.labels.sex[ROWS], unknown))
    assert np.abs(months - 131).max() < 12 < np.ptp(cache.labels.true_months[ROWS]) / 10


def test_the_folds_children_are_kept_with_what_readers_assigned(cache, module):
    true, assigned = (
        cache_features(module, told(cache, 131.0), ROWS, seed=1, label=one).labels
        for one in ("true", "assigned")
    )
    assert torch.isfinite(true["posterior"]).all()
    assert torch.isnan(assigned["posterior"]).all()  # it follows from the truth
    assert torch.equal(assigned["label"], torch.from_numpy(cache.labels.assigned_months[ROWS]))
    assert torch.equal(true["label"], torch.from_numpy(cache.labels.true_months[ROWS]))
    assert assigned["label_sd"][0] == TINY.reader_sd_months > true["label_sd"][0]


def test_a_pretraining_that_goes_on_keeps_its_prior_whatever_ages_it_is_shown(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "EVALUATED", 4)
    recipe = replace(TINY, steps=2, batch=4, epoch_steps=2, prior_steps=20)
    labels = cache.labels
    older = replace(labels, true_months=labels.true_months / 2, age_months=labels.age_months / 2)
    others = CropCache([cache.images(np.arange(len(labels)))], older)
    age_training.pretrain(tmp_path / "first", cache, recipe, None, None)
    age_training.pretrain(tmp_path / "on", others, recipe, None, None, tmp_path / "first" / "pretrain")
    age_training.pretrain(tmp_path / "new", others, recipe, None, None)
    first, went_on, new = (
        load_module(tmp_path / name / "pretrain").averaged.prior.marginal for name in ("first", "on", "new")
    )
    assert torch.equal(first, went_on)
    assert not torch.equal(first, new)
