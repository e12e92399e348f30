"""Strips along the physes, cut from a window at its landmarks."""

import math

import pytest
import torch

from KneeBoneAgeLib.network import AgeNetwork, AgeNetworkConfig
from KneeBoneAgeLib.physes import PhysisReader

SIDE, FIELD = 160, 0.8


def window_with_line(turn: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright bone crossed by a dark line, turned about the middle; its four landmarks."""
    at = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    along = math.cos(turn) * x + math.sin(turn) * y
    across = -math.sin(turn) * x + math.cos(turn) * y
    picture = (along.abs() < 0.4).float() * (1 - 0.8 * (across.abs() < 0.02).float())
    ends = torch.tensor([[-0.4, 0.0], [0.4, 0.0], [0.0, -0.02], [0.0, 0.02]])
    matrix = torch.tensor([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return picture[None, None], (ends @ matrix * FIELD)[None]


@pytest.mark.parametrize("turn", [0.0, 0.3, -0.4])
def test_a_physis_lies_straight_in_the_middle_of_its_strip_however_the_bone_is_turned(turn):
    reader = PhysisReader([(0, 1, 2, 3)], 8)
    strip = reader.strips(*window_with_line(turn), FIELD)[0, 0]
    assert strip.shape == (reader.DEPTH_PX, reader.LENGTH_PX)
    inside = strip[:, 12:-12]
    assert (inside.argmin(0) - (reader.DEPTH_PX - 1) / 2).abs().max() <= 1
    assert inside[reader.DEPTH_PX // 2].mean() < inside[4].mean() - 1
    assert strip[4, 0] < strip[4, 48] - 1  # the strip reaches beyond the bone


def test_strips_do_not_know_the_films_brightness_and_contrast():
    reader = PhysisReader([(0, 1, 2, 3)], 8)
    picture, places = window_with_line()
    assert torch.allclose(
        reader.strips(picture, places, FIELD), reader.strips(5 + 3 * picture, places, FIELD), atol=0.1
    )


def test_places_are_not_pulled_towards_what_reads_well():
    reader = PhysisReader([(0, 1, 2, 3)], 8)
    picture, places = window_with_line()
    places.requires_grad_()
    reader(picture, places, FIELD).sum().backward()
    assert places.grad is None
    assert reader.read.grad.abs().sum() > 0


def test_a_config_with_physes_survives_its_json_and_one_without_has_none():
    config = AgeNetworkConfig(physes=((0, 1, 2, 3),), physis_features=4)
    again = AgeNetworkConfig.from_json(config.to_json())
    assert again == config
    plain = {key: value for key, value in config.to_json().items() if not key.startswith("phys")}
    assert AgeNetworkConfig.from_json(plain).physes == ()
    assert AgeNetwork(again).feature_count == AgeNetwork(AgeNetworkConfig()).feature_count + 4
