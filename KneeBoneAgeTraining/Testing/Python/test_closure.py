"""Closed physes are told from open ones by the folds' features, on children that were not learnt from."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from KneeBoneAgeLib.closure import PhysisClosure
from KneeBoneAgeLib.phantom.maturation import Indicators
from KneeBoneAgeTrainingLib.age_module import AgeModule
from KneeBoneAgeTrainingLib.closure_training import (
    BRIDGED,
    closed_physes,
    fit_closure,
    rows_to_learn,
)
from KneeBoneAgeTrainingLib.crop_cache import CropCache
from KneeBoneAgeTrainingLib.predicting import features_of_all

sys.path.insert(0, str(Path(__file__).parent))
from toy_crops import TINY, draw

NAMES = Indicators.visible_names()


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> CropCache:
    """Bars of which those wider than that of 170 months stand for closed physes."""
    images, labels = draw(400, seed=3, others=10)
    indicators = np.zeros((400, len(NAMES)), np.float32)
    grown = labels.true_months > 170
    for bone in ("femur", "tibia"):
        indicators[:, NAMES.index(f"{bone}_bridging")] = np.where(grown, 1.0, 0.3)
    folder = tmp_path_factory.mktemp("cache")
    CropCache.write(folder, 0, images, replace(labels, indicators=indicators))
    return CropCache.load(folder)


def test_a_knee_is_closed_when_both_physes_are_as_good_as_bridged(cache):
    labels = cache.labels
    closed = closed_physes(labels)
    assert closed.any()
    assert (labels.true_months[closed] > 170).all()
    half = labels.indicators.copy()
    half[:, NAMES.index("tibia_bridging")] = BRIDGED - 0.01
    assert not closed_physes(replace(labels, indicators=half)).any()
    assert not closed_physes(replace(labels, indicators=half[:, :1])).any()  # not known: real films


def test_no_child_is_learnt_from_and_kept_apart(cache):
    learnt, kept = rows_to_learn(cache.labels)
    assert not set(cache.labels.patient_id[learnt]) & set(cache.labels.patient_id[kept])
    assert (cache.labels.kind[np.r_[learnt, kept]] == "knee").all()
    assert 0.1 < len(kept) / len(np.r_[learnt, kept]) < 0.3


def test_closed_physes_are_told_on_children_kept_apart(cache):
    torch.manual_seed(0)
    networks = [AgeModule(TINY, len(NAMES), 1).averaged for _ in range(2)]
    learnt, kept = rows_to_learn(cache.labels)
    closed = closed_physes(cache.labels)
    closure = fit_closure(features_of_all(networks, cache, learnt, TINY.jitter, seed=1), closed[learnt])
    probability = closure.probability(features_of_all(networks, cache, kept, TINY.jitter, seed=2))
    assert ((probability > 0.5) == closed[kept]).mean() > 0.8  # 0.71 are open
    assert probability[closed[kept]].mean() > 0.6 > 0.4 > probability[~closed[kept]].mean()


def test_open_and_closed_weigh_the_same_however_few_are_closed():
    rng = np.random.default_rng(0)
    closed = np.arange(2000) < 100
    features = rng.normal(0, 1, (2, 2000, 5))
    features[:, closed, 0] += 2
    probability = fit_closure(features, closed).probability(features)
    assert (probability[closed] > 0.5).mean() > 0.8
    assert (probability[~closed] > 0.5).mean() < 0.2
    with pytest.raises(ValueError, match="closed"):
        fit_closure(features[:, 100:], closed[100:])


def test_a_closure_survives_its_file_and_names_what_does_not_fit():
    features = np.random.default_rng(0).normal(0, 1, (2, 60, 4))
    closure = fit_closure(features, features[0, :, 0] > 0)
    again = PhysisClosure.from_tensors(load(save(closure.tensors())))
    assert np.array_equal(again.probability(features), closure.probability(features))
    with pytest.raises(ValueError, match=r"\(2, crops, 4\)"):
        closure.probability(features[:1])
    with pytest.raises(ValueError, match="weight"):
        PhysisClosure.from_tensors({"bias": closure.bias})
