"""What networks say of crops: asked where their weights lie."""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from KneeBoneAgeLib.network import AgeNetwork
from KneeBoneAgeTrainingLib.crop_cache import CropCache
from KneeBoneAgeTrainingLib.predicting import features_of_all, predict

sys.path.insert(0, str(Path(__file__).parent))
from toy_crops import TINY, draw


class Elsewhere(nn.Module):
    """A network whose weights lie on another device than the crops; it says where it was asked."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, device="meta"))
        self.asked = []

    def features(self, image):
        self.asked.append(image.device.type)
        return torch.zeros(len(image), 3)

    def log_likelihood(self, features):
        return torch.zeros(len(features), 2, 120)


class Crops:
    def images(self, rows):
        return np.zeros((len(rows), 64, 64), np.uint8)


def test_crops_are_taken_to_where_the_network_lies_and_its_answers_are_brought_back():
    network = Elsewhere()
    found = predict(network, Crops(), np.arange(5), size=48, batch=2)
    assert network.asked == ["meta"] * 3
    assert found.features.shape == (5, 3)
    assert found.log_likelihood.shape == (5, 2, 120)


def test_features_of_several_networks_are_those_of_each_of_them():
    images, labels = draw(6, 4)
    cache, rows, networks = CropCache([images], labels), np.array([4, 0, 5, 2]), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        networks.append(AgeNetwork(TINY.network))
    found = features_of_all(networks, cache, rows, batch=3)
    each = np.stack([predict(network, cache, rows).features for network in networks])
    np.testing.assert_allclose(found, each, atol=3e-4, rtol=1e-3)
    assert not np.allclose(found[0], found[1], atol=1e-2)


def test_jittered_features_follow_from_the_seed_and_are_of_the_same_views_for_all_networks():
    images, labels = draw(6, 4)
    cache, rows = CropCache([images], labels), np.arange(6)
    torch.manual_seed(1)
    networks = [AgeNetwork(TINY.network)] * 2
    plain = features_of_all(networks, cache, rows)
    jittered = features_of_all(networks, cache, rows, TINY.jitter, seed=7)
    np.testing.assert_array_equal(jittered, features_of_all(networks, cache, rows, TINY.jitter, seed=7))
    np.testing.assert_array_equal(jittered[0], jittered[1])
    for other in (plain, features_of_all(networks, cache, rows, TINY.jitter, seed=8)):
        assert not np.allclose(jittered, other, atol=1e-2)
