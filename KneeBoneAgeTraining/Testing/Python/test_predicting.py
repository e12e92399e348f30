"""What networks say of crops: asked where their weights lie."""

import numpy as np
import torch
from torch import nn

from KneeBoneAgeTrainingLib.predicting import predict


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
