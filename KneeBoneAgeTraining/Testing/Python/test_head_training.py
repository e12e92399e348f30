"""The heads of an age network, learnt again on features that are cached."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from KneeBoneAgeTrainingLib import age_training, batches
from KneeBoneAgeTrainingLib.age_module import AgeModule
from KneeBoneAgeTrainingLib.batches import knees_apart
from KneeBoneAgeTrainingLib.crop_cache import CropCache
from KneeBoneAgeTrainingLib.head_training import (
    HeadRecipe,
    Heads,
    cache_features,
    joined,
    learn_heads,
    load_views,
    with_physes,
)
from KneeBoneAgeTrainingLib.predicting import Prediction, errors_months, predict

sys.path.insert(0, str(Path(__file__).parent))
from toy_crops import TINY, draw

ROWS = np.arange(20, 150)  # the bars; what comes before is no knee


@pytest.fixture(scope="module")
def cache() -> CropCache:
    images, labels = draw(150, 4, others=20)
    return CropCache([images], labels)


@pytest.fixture
def module() -> AgeModule:
    torch.manual_seed(3)
    made = AgeModule(TINY, indicators=1, maturities=1)
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
    assert all(name.startswith(("head.", "point_reader.linear.")) for name in changed)


def test_the_standardisation_goes_into_the_weights(cache, module):
    cached = cache_features(module, cache, ROWS, seed=1)
    heads = Heads(module, cached, HeadRecipe()).eval()
    sex = cached.labels["sex"]
    with torch.no_grad():
        likelihood, indicators = heads(cached.base, cached.read, cached.strips, sex)
        heads.put_back(module)
        features = torch.cat(
            [cached.base, torch.relu(module.averaged.point_reader.linear(cached.read))], dim=1
        )
        assert torch.allclose(module.averaged.head(features), likelihood, atol=0.02, rtol=1e-3)
        assert torch.allclose(module.read_indicators(features, sex), indicators, atol=1e-3)
        other = torch.cat([cached.base, torch.rand(len(cached.base), TINY.network.point_features)], dim=1)
        assert torch.equal(module.knee_head(features), module.knee_head(other))


def test_the_same_seed_keeps_the_same_views(cache, module):
    first, again, other = (cache_features(module, cache, ROWS[:8], seed) for seed in (1, 1, 2))
    assert torch.equal(first.read, again.read)
    assert not torch.equal(first.read, other.read)


def test_a_network_that_reads_its_landmarks_by_one_layer_is_refused(cache):
    network = replace(TINY.network, point_hidden=0)
    plain = AgeModule(replace(TINY, network=network), indicators=1, maturities=1)
    with pytest.raises(ValueError, match="point_hidden"):
        cache_features(plain, cache, ROWS, seed=1)


PHYSES = ((0, 1, 2, 3), (4, 5, 6, 7))


def test_a_reader_of_the_physes_changes_nothing_until_it_has_learnt(cache, module):
    grown = with_physes(module, PHYSES)
    old, new = (predict(one.averaged, cache, ROWS[:16]) for one in (module, grown))
    assert new.features.shape[1] == old.features.shape[1] + 2 * grown.recipe.network.physis_features
    assert np.allclose(old.log_likelihood, new.log_likelihood, atol=1e-4)
    with pytest.raises(ValueError, match="31 landmarks"):
        with_physes(module, ((0, 1, 2, 31),))


def test_what_only_the_strips_show_is_learnt_from_them_and_works_in_the_network(cache, module):
    grown = with_physes(module, PHYSES)
    cached = cache_features(grown, cache, ROWS, seed=1)
    assert cached.strips.shape[:2] == (len(ROWS), 2)
    blind = replace(cached, base=torch.zeros_like(cached.base), read=torch.zeros_like(cached.read))
    before = {name: value.clone() for name, value in grown.averaged.physis_reader.state_dict().items()}
    recipe = HeadRecipe(steps=240, batch=48, base_dropout=0.0, dropout=0.0, strip_noise=0.02)
    losses = []
    for strips in (torch.zeros_like(cached.strips), cached.strips):
        learner = with_physes(module, PHYSES)
        learn_heads(learner, replace(blind, strips=strips), recipe)
        heads = learner.averaged
        with torch.no_grad():
            seen = torch.cat([blind.base, *_after(heads, blind.read, strips)], dim=1)
            likelihood = heads.log_likelihood(seen).numpy()
        found = errors_months(Prediction(seen.numpy(), likelihood), heads, cache.labels.take(ROWS))
        losses.append(found["mae_no_age"])
    assert losses[1] < 0.8 * losses[0]
    assert any(not torch.equal(v, before[k]) for k, v in heads.physis_reader.state_dict().items())


def test_folds_start_from_the_heads_that_are_learnt_from_all_views(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "EVALUATED", 4)
    monkeypatch.setattr(age_training, "HeadRecipe", partial(HeadRecipe, steps=4, batch=16))
    recipe = replace(TINY, steps=2, batch=4, epoch_steps=2, prior_steps=2)
    age_training.pretrain(tmp_path, cache, recipe, None, None)
    kept = []
    for number in range(HeadRecipe().views):
        age_training.keep_views(tmp_path, cache, number)
        path = tmp_path / age_training.views_file(number)
        kept.append(load_views(path))
        written = path.stat().st_mtime_ns
        age_training.keep_views(tmp_path, cache, number)
        assert path.stat().st_mtime_ns == written
    assert len(kept[0].base) == len(kept[0].strips) == len(knees_apart(cache)[0])
    assert len(joined(kept).labels["sex"]) == len(kept) * len(kept[0].base)
    assert not torch.equal(kept[0].read, kept[1].read)
    age_training.renew_heads(tmp_path)
    for fold in (0, 1):
        age_training.train_fold(tmp_path, fold, cache, replace(recipe, learning_rate=1e-9), None, None, None)
    begun, *folds = (
        age_training.load_module(tmp_path / name).network.state_dict()
        for name in ("heads", "fold-0", "fold-1")
    )
    first = age_training.load_module(tmp_path / "pretrain").network.state_dict()
    for fold in folds:
        assert torch.allclose(begun["physis_reader.read"], fold["physis_reader.read"], atol=1e-5)
    assert not torch.allclose(begun["head.linear.weight"][:, :10], first["head.linear.weight"][:, :10])
    assert torch.equal(begun["backbone.stem.0.weight"], first["backbone.stem.0.weight"])


def _after(network, read, strips):
    """What the perceptron and the reader of the physes say."""
    return torch.relu(network.point_reader.linear(read)), network.physis_reader.read_strips(strips.float())
