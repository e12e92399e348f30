"""The square on the patella, cut from a window at the femur's landmarks, and what is read of it."""

import math

import pytest
import torch

from KneeBoneAgeLib.network import AgeNetwork, AgeNetworkConfig
from KneeBoneAgeLib.patella import PatellaReader

SIDE, FIELD = 160, 0.8
PATELLA = torch.tensor([[0.0, -0.3], [0.0, -0.06], [-0.12, -0.18], [0.12, -0.18]])
FEMUR = torch.tensor([[-0.4, 0.0], [0.4, 0.0], [0.0, -0.02], [0.0, 0.02]])


def window_with_disc(turn: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A bright disc on a bone that ends at y = 0, turned about the middle; the femur's landmarks and the disc's."""
    at = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    u, v = math.cos(turn) * x + math.sin(turn) * y, -math.sin(turn) * x + math.cos(turn) * y
    picture = ((u.abs() < 0.4) & (v < 0)).float() + 0.5 * (torch.hypot(u, v + 0.18) < 0.12).float()
    matrix = torch.tensor([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return picture[None, None], (FEMUR @ matrix * FIELD)[None], (PATELLA @ matrix * FIELD)[None]


@pytest.mark.parametrize("turn", [0.0, 0.3, -0.4])
def test_the_patella_lies_upright_in_its_square_however_the_bone_is_turned(turn):
    picture, places, disc = window_with_disc(turn)
    square = PatellaReader.squares(picture, places, FIELD)[0]
    upper, lower, medial, lateral = (36 + 36 * PatellaReader.frame(places).of_crop(disc)[0]).tolist()
    bright = (square > square.median() + 0.5).nonzero() + 0.5
    assert abs(bright[:, 0].min() - upper[1]) < 2
    assert abs(bright[:, 0].max() - lower[1]) < 2
    assert abs(bright[:, 1].min() - medial[0]) < 2
    assert abs(bright[:, 1].max() - lateral[0]) < 2


def test_a_square_does_not_know_the_films_brightness_and_contrast():
    picture, places, _ = window_with_disc()
    one, other = (PatellaReader.squares(p, places, FIELD) for p in (picture, 5 + 3 * picture))
    assert torch.allclose(one, other, atol=0.1)


def test_what_is_read_follows_the_outlined_area_and_not_a_shift_of_the_landmarks():
    reader = PatellaReader(8)
    small, large = (torch.full((1, 36, 36), -20.0) for _ in range(2))
    small[:, 14:22, 14:22], large[:, 8:28, 8:28] = 20, 20
    assert not torch.allclose(reader.read_outline(small), reader.read_outline(large))
    picture, places, _ = window_with_disc()
    places.requires_grad_()
    reader(picture, places, FIELD).sum().backward()
    assert places.grad is None
    assert reader.read.weight.grad.abs().sum() > 0


def test_a_config_with_a_patella_survives_its_json_and_an_older_one_has_none():
    config = AgeNetworkConfig(patella_features=4)
    again = AgeNetworkConfig.from_json(config.to_json())
    assert again == config
    plain = {key: value for key, value in config.to_json().items() if not key.startswith("patella")}
    assert AgeNetworkConfig.from_json(plain).patella_features == 0
    assert AgeNetwork(again).feature_count == AgeNetwork(AgeNetworkConfig()).feature_count + 4
