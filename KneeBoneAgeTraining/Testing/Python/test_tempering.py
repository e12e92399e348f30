"""A likelihood is believed as far as it has proved right about children that were not learnt from."""

from dataclasses import replace

import pytest
import torch

from KneeBoneAgeLib.network import AgeNetwork, AgeNetworkConfig
from KneeBoneAgeTrainingLib.tempering import HeldOut, power_of, powers_of_folds, tempered

SMALL = AgeNetworkConfig(
    backbone_options={"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8], "ls_init_value": None},
    map_channels=(),
    points=0,
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AgeNetwork(SMALL).eval()


def held_out(network, claimed_sd, error_sd, children=400):
    """Children whose pictures look like their bone age plus an error, while the likelihood claims another spread."""
    draw = torch.Generator().manual_seed(1)
    months = 40 + 140 * torch.rand(children, generator=draw)
    looks = months + error_sd * torch.randn(children, generator=draw)
    centres = network.head.centres
    likelihood = -0.5 * ((centres - looks[:, None]) / claimed_sd) ** 2
    return HeldOut(
        network,
        likelihood[:, None].expand(-1, 2, -1),
        torch.zeros(children, dtype=torch.long),
        torch.full((children,), torch.nan),
        months,
        torch.full((children,), 2.0),
    )


def test_a_likelihood_that_is_too_sure_is_weakened_by_as_much_and_an_honest_one_is_not(network):
    assert power_of([held_out(network, 10, 20)]) == pytest.approx(0.25, abs=0.05)
    assert power_of([held_out(network, 15, 15)]) >= 0.9
    assert power_of([held_out(network, 20, 10)]) == 1.0
    assert power_of([]) == 1.0


def test_a_folds_own_children_have_no_say_in_its_power(network):
    sure, honest = held_out(network, 10, 30), held_out(network, 15, 15)
    first, second = powers_of_folds([sure, honest])
    assert first >= 0.9
    assert second < 0.2
    assert powers_of_folds([sure]) == [1.0]


@pytest.mark.parametrize("hidden", [0, 6])
def test_a_tempered_networks_likelihood_is_the_first_ones_to_the_power(hidden):
    torch.manual_seed(0)
    network = AgeNetwork(replace(SMALL, points=5, head_hidden=hidden)).eval()
    features = torch.randn(5, network.feature_count)
    with torch.no_grad():
        network.head.linear.weight.normal_(std=0.03)
        if hidden:
            network.head.bent[-1].weight.normal_(std=0.2)
            network.head.bent[-1].bias.normal_(std=0.2)
        before = network.log_likelihood(features)
        after = tempered(network, 0.3).log_likelihood(features)
        again = network.log_likelihood(features)
    torch.testing.assert_close(
        torch.log_softmax(after, -1), torch.log_softmax(0.3 * before, -1), atol=1e-4, rtol=1e-4
    )
    assert torch.equal(before, again)
