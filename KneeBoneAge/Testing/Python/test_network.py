"""The age network: picture and prior multiply, and either number may be missing."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from KneeBoneAgeLib.intervals import mean_months
from KneeBoneAgeLib.network import (
    AgeNetwork,
    AgeNetworkConfig,
    AgePrior,
    encode_sex,
    spline_basis,
    with_map_rank,
)
from KneeBoneAgeLib.readers import CloseLook, MapReader, PointReader, shape_coordinates

SMALL = AgeNetworkConfig(
    backbone_options={"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16], "ls_init_value": None}, image_size=64
)
MISSING = float("nan")


@pytest.fixture(scope="module")
def network() -> AgeNetwork:
    torch.manual_seed(0)
    network = AgeNetwork(SMALL).eval()
    with torch.no_grad():
        network.head.linear.weight.normal_(0, 0.3)
        network.prior.marginal[0] = torch.log_softmax(torch.linspace(1, 0, SMALL.bins), 0)
        network.prior.marginal[1] = torch.log_softmax(torch.linspace(0, 1, SMALL.bins), 0)
    return network


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def test_every_answer_is_a_distribution_whatever_is_missing(network, images):
    for sex in (0, 1, 2):
        for age in (0.0, 100.0, 240.0, MISSING):
            with torch.no_grad():
                p = network(images, torch.full((3,), sex), torch.full((3,), age))
            assert p.shape == (3, SMALL.bins)
            assert torch.allclose(p.sum(1), torch.ones(3), atol=1e-5)
            assert (p >= 0).all()


def test_without_a_sex_both_sexes_count_as_the_picture_fits_them(network):
    nothing = torch.full((1,), MISSING)

    def mean(likelihood: torch.Tensor, sex: int) -> float:
        with torch.no_grad():
            return float(
                mean_months(network.log_posterior(likelihood, torch.tensor([sex]), nothing).exp())[0]
            )

    indifferent = torch.zeros(1, 2, SMALL.bins)
    girl, boy, either = (mean(indifferent, sex) for sex in (0, 1, 2))
    assert abs(girl - boy) > 10
    assert either == pytest.approx((girl + boy) / 2, abs=0.01)
    like_a_boy = indifferent + torch.tensor([0.0, 9.0]).view(1, 2, 1)
    assert mean(like_a_boy, 2) == pytest.approx(boy, abs=0.1)
    assert mean(like_a_boy, 0) == pytest.approx(girl, abs=0.01)


def test_a_picture_that_says_nothing_leaves_the_prior():
    torch.manual_seed(0)
    prior = AgePrior(120, 16, 3)
    network = AgeNetwork(SMALL)
    age = torch.tensor([60.0, 150.0])
    with torch.no_grad():
        p = network.log_posterior(torch.zeros(2, 2, SMALL.bins), torch.tensor([0, 1]), age).exp()
        expected = network.prior(age)[torch.arange(2), torch.tensor([0, 1])].exp()
        assert torch.allclose(p, expected, atol=1e-6)
        assert np.abs(mean_months(prior(age)[:, 0].exp()) - age.numpy()).max() < 25


def test_picture_and_prior_are_multiplied(network):
    """Two Gaussians about 90 and 110 of equal width meet at 100."""
    centres = torch.arange(1, 240, 2.0)

    def log_gauss(mean: float) -> torch.Tensor:
        return torch.log_softmax(-0.5 * ((centres - mean) / 8) ** 2, 0)

    kept = network.prior.marginal.clone()
    try:
        network.prior.marginal.copy_(log_gauss(90).expand(2, -1))
        log_p = network.log_posterior(
            log_gauss(110).expand(1, 2, -1), torch.tensor([1]), torch.tensor([MISSING])
        )
    finally:
        network.prior.marginal.copy_(kept)
    p = log_p.detach().exp().double().numpy()
    assert mean_months(p)[0] == pytest.approx(100, abs=0.05)
    assert np.sqrt(p[0] @ (centres.numpy() - 100) ** 2) == pytest.approx(8 / np.sqrt(2), rel=0.02)


def test_a_config_survives_json_and_rebuilds_the_same_network(network, images):
    again = AgeNetwork(AgeNetworkConfig.from_json(json.loads(json.dumps(SMALL.to_json())))).eval()
    again.load_state_dict(network.state_dict())
    arguments = images, torch.tensor([0, 1, 2]), torch.tensor([50.0, MISSING, 120.0])
    with torch.no_grad():
        assert torch.equal(again(*arguments), network(*arguments))


def test_the_shipped_architecture_fits_a_bundle_in_half_precision():
    state = AgeNetwork(AgeNetworkConfig()).state_dict()
    assert sum(2 * t.numel() for t in state.values()) < 7.6e6  # five folds, finder and gate in 40 MB


def test_splines_sum_to_one_and_sexes_have_their_numbers():
    inner = spline_basis(120, 24).sum(1)[12:-12]
    assert torch.allclose(inner, torch.ones_like(inner), atol=1e-5)
    assert [encode_sex(s) for s in ("F", "M", None)] == [0, 1, 2]


def test_the_map_reader_tells_places_apart_that_pooling_cannot():
    torch.manual_seed(0)
    reader = MapReader([4], [5], [2], 16)
    above, below = torch.zeros(2, 1, 4, 5, 5)
    above[..., 1, 2] = 5
    below[..., 3, 2] = 5
    assert torch.equal(above.mean((2, 3)), below.mean((2, 3)))
    with torch.no_grad():
        assert (reader([above]) - reader([below])).abs().max() > 0.05
        finer = torch.nn.functional.interpolate(above, (10, 10), mode="nearest")
        assert reader([finer]).shape == (1, 16)


def test_a_bundle_made_before_there_was_a_map_reader_still_builds_its_network(network, images):
    later = ("map_channels", "map_features", "points", "point_width", "point_features", "field")
    later += ("point_hidden", "close_hidden")
    old = {name: value for name, value in SMALL.to_json().items() if name not in later}
    plain = AgeNetwork(AgeNetworkConfig.from_json(old))
    assert plain.map_reader is None
    assert plain.point_reader is None
    assert plain.window_px(64) == 64
    assert plain.features(images).shape == (3, 16)
    assert network.features(images).shape == (3, 16 + SMALL.map_features + SMALL.point_features)


def test_a_map_reader_of_lower_rank_is_smaller_and_says_the_same(network, images):
    config = dataclasses.replace(SMALL, map_channels=(8, 40), map_features=128)
    torch.manual_seed(2)
    full = AgeNetwork(config).eval()
    reader = full.map_reader.linear
    rank = min(reader.weight.shape)
    assert with_map_rank(full, rank) is full
    with torch.no_grad():
        rows, columns = reader.weight.shape
        reader.weight.copy_(torch.randn(rows, 6) @ torch.randn(6, columns) / columns)
        same = with_map_rank(full, 6)
        assert torch.allclose(same.features(images), full.features(images), atol=1e-4)
        smaller = with_map_rank(full, 8)
        assert smaller.config.map_rank == 8
        again = AgeNetwork(AgeNetworkConfig.from_json(smaller.config.to_json()))
        again.load_state_dict(smaller.state_dict())
        count = [sum(p.numel() for p in n.map_reader.parameters()) for n in (full, again)]
        assert count[1] < count[0] / 2
        assert with_map_rank(smaller, 4) is smaller


def test_only_the_window_around_the_joint_is_looked_at(network, images):
    assert network.window_px(64) == 51
    changed = images.clone()
    changed[..., :4] = 9
    changed[..., -4:, :] = 9
    with torch.no_grad():
        assert torch.equal(network.features(images), network.features(changed))
        changed[..., 30:34, 30:34] = 9
        assert not torch.equal(network.features(images), network.features(changed))


def test_shape_coordinates_do_not_change_with_shift_turn_and_scale():
    torch.manual_seed(0)
    places = torch.rand(2, 5, 2)
    places[:, 0], places[:, 1] = torch.tensor([-0.6, 0.1]), torch.tensor([0.6, 0.2])
    turn = torch.tensor([[0.96, -0.28], [0.28, 0.96]])
    moved = 1.1 * places @ turn.T + torch.tensor([0.2, -0.1])
    assert torch.allclose(shape_coordinates(places), shape_coordinates(moved), atol=0.01)
    base = shape_coordinates(places)[:, :2]
    assert torch.allclose(base, torch.tensor([[-0.5, 0.0], [0.5, 0.0]]).expand(2, 2, 2), atol=0.01)
    swapped = places.flip(1)
    assert (shape_coordinates(places) - shape_coordinates(swapped)).abs().max() > 0.1


def test_landmarks_are_given_in_the_frame_of_the_whole_crop(network, images):
    with torch.no_grad():
        _, points = network.see(images)
        assert points is not None
        assert points.places.shape == (3, SMALL.points, 2)
        assert points.log_share.shape == (3, SMALL.points, points.side**2)
        assert torch.allclose(points.log_share.exp().sum(-1), torch.ones(3, SMALL.points), atol=1e-5)


def test_a_landmark_lies_where_its_heat_is_in_the_frame_of_the_whole_crop():
    reader = PointReader([4], points=2, width=4, features=3)
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.zero_()
        reader.lateral[0][0].weight.fill_(1)
        reader.lateral[0][1].weight[0, 0] = 1
        reader.merge.weight[0, 0, 1, 1] = 1
        reader.heat.weight[0, 0] = 20
        hot = torch.zeros(1, 4, 10, 10)
        hot[0, 0, 1, 7] = 30  # row 1, column 7 of the window's ten cells
        _, found = reader(torch.zeros(1, 1, 40, 40), [hot], field=0.8)
    assert found.places[0, 0].tolist() == pytest.approx([0.8 * 0.5, -0.8 * 0.7], abs=0.01)
    assert found.places[0, 1].tolist() == pytest.approx([0, 0], abs=1e-5)  # no hint: the middle


def test_the_pixels_around_a_landmark_place_an_edge_to_a_fraction_of_a_pixel():
    torch.manual_seed(0)
    side = 48
    look = CloseLook(points=1, hidden=8, described=4)
    optimizer = torch.optim.AdamW(look.parameters(), lr=0.01)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        edge = torch.rand(count) - 0.5  # where the picture turns bright, -1 to 1 across it
        x = (torch.arange(side) + 0.5) * (2 / side) - 1
        picture = torch.sigmoid((x - edge[:, None]) * side / 2).view(count, 1, 1, side)
        picture = picture.expand(count, 1, side, side) + 0.05 * torch.randn(count, 1, side, side)
        truth = torch.stack([edge, torch.zeros(count)], dim=-1)[:, None]
        return picture, truth + 12 / side * (torch.rand(count, 1, 2) - 0.5) * torch.tensor([1.0, 0.0]), truth

    picture, near, truth = batch(64)
    correction, description = look(picture, near)
    assert correction.abs().max() == 0  # it starts with no say
    assert description.shape == (64, 1, 4)
    for _ in range(200):
        picture, near, truth = batch(64)
        loss = (near + look(picture, near)[0] - truth).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        picture, near, truth = batch(200)
        before, after = (
            (p - truth)[..., 0].abs().mean() * side / 2 for p in (near, near + look(picture, near)[0])
        )
    assert before > 1.2  # pixels
    assert after < 0.3
