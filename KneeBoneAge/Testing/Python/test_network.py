"""The age network: picture and prior multiply, and either number may be missing."""

import json

import numpy as np
import pytest
import torch

from KneeBoneAgeLib.intervals import mean_months
from KneeBoneAgeLib.network import AgeNetwork, AgeNetworkConfig, AgePrior, MapReader, encode_sex, spline_basis

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
    assert sum(2 * t.numel() for t in state.values()) < 7.4e6  # five folds, finder and gate in 40 MB


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
    old = {name: value for name, value in SMALL.to_json().items() if not name.startswith("map_")}
    plain = AgeNetwork(AgeNetworkConfig.from_json(old))
    assert plain.map_reader is None
    assert plain.features(images).shape == (3, 16)
    assert network.features(images).shape == (3, 16 + SMALL.map_features)
